"""A label's numbers and colours come in as they are meant, or the file is refused by name."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image

from mgcl.datasets.benchmarks import BENCHMARKS, ISAID_PALETTE
from mgcl.datasets.labels import read_label, read_values
from mgcl.datasets.prepare.classes import read_classes, read_ids
from mgcl.predict.foreground import read_foreground

pytestmark = pytest.mark.filterwarnings("ignore")
ISAID, DLRSD = BENCHMARKS["isaid"], BENCHMARKS["dlrsd"]
RNG = np.random.default_rng(0)
IDS = np.zeros((40, 60), np.uint8)
IDS[5:20, 5:25], IDS[22:35, 30:55] = 7, 14
ONE = (IDS == 7).astype(np.uint8)
COLOURS = np.array(ISAID_PALETTE, np.uint8)


def save(path: Path, picture: Image.Image | np.ndarray, **options) -> Path:
    picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    picture.save(path, **options)
    return path


def geotiff(path: Path, values: np.ndarray, **options) -> Path:
    values = values if values.ndim == 3 else values[None]
    count, height, width = values.shape
    kind = {"driver": "GTiff", "dtype": values.dtype, "count": count}
    with rasterio.open(path, "w", height=height, width=width, **{**kind, **options}) as file:
        file.write(values)
    return path


def grey_png(path: Path, values: np.ndarray, bits: int) -> Path:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = values.shape
    spread = np.unpackbits(values[..., None], axis=-1)[..., 8 - bits :].reshape(height, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(spread, axis=1))
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path


def with_palette(indices: np.ndarray, colours: list[tuple[int, ...]]) -> Image.Image:
    picture = Image.fromarray(indices)
    picture.putpalette([value for colour in colours for value in colour])
    return picture


# ids of every depth


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_ids_of_few_bits_are_the_numbers_that_are_stored(tmp_path, bits):
    ids = IDS & ((1 << bits) - 1)
    path = grey_png(tmp_path / "x.png", ids, bits)
    np.testing.assert_array_equal(read_label(path, ISAID), ids)
    np.testing.assert_array_equal(read_values(path, colours=False), ids)
    np.testing.assert_array_equal(read_foreground(path, 1), ids == 1) if bits == 1 else None
    tif = geotiff(tmp_path / "x.tif", ids, nbits=bits)
    np.testing.assert_array_equal(read_label(tif, ISAID), ids)


@pytest.mark.parametrize(
    "kind", ["u1", "<u2", ">u2", "i2", "<i4", ">i4", "u4", "i8", "f4", "f8", "i1"]
)
@pytest.mark.parametrize("packed", [{}, {"compression": "zlib"}], ids=str)
def test_ids_of_every_type_of_tiff_come_in_as_they_are(tmp_path, kind, packed):
    path = tmp_path / "x.tif"
    order = ">" if kind.startswith(">") else "<"
    tifffile.imwrite(path, IDS.astype(kind.strip("<>")), byteorder=order, **packed)
    for read in (lambda p: read_label(p, ISAID), lambda p: read_values(p, colours=False)):
        np.testing.assert_array_equal(read(path), IDS)
    np.testing.assert_array_equal(read_foreground(path, 14), IDS == 14)


def test_ids_over_255_are_ids_too(tmp_path):
    values = IDS.astype(np.uint16) * 300
    for path in (save(tmp_path / "x.png", values), geotiff(tmp_path / "x.tif", values)):
        np.testing.assert_array_equal(read_foreground(path, 2100), ONE)
        with pytest.raises(ValueError, match="holds the id 2100, which isaid does not know"):
            read_label(path, ISAID)


def test_fractions_are_no_ids(tmp_path):
    path = geotiff(tmp_path / "x.tif", IDS.astype(np.float32) / 10)
    for read in (lambda: read_label(path, ISAID), lambda: read_foreground(path, 7)):
        with pytest.raises(ValueError, match=r"x\.tif holds fractions"):
            read()


@pytest.mark.parametrize(
    ("kind", "value"), [("int16", -9999), ("float32", np.nan), ("float32", -3.4e38), ("u2", 65535)]
)
def test_a_no_data_value_that_is_no_id_is_ignored(tmp_path, kind, value):
    ids = IDS.astype(kind)
    ids[:3] = value
    path = geotiff(tmp_path / "x.tif", ids, nodata=float(np.array(value, kind)))
    found = read_label(path, ISAID)
    assert (found[:3] == 255).all()
    np.testing.assert_array_equal(found[3:], IDS[3:])
    assert (read_foreground(path, 7)[:3] == 255).all()


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_no_data_value_that_is_an_id_stays_one(tmp_path, value):
    ids = np.where(IDS == 14, 255, IDS).astype(np.uint8)
    path = geotiff(tmp_path / "x.tif", ids, nodata=value)
    np.testing.assert_array_equal(read_label(path, ISAID), ids)


def test_ids_saved_in_three_equal_channels_are_ids(tmp_path):
    """As cv2.imread and imwrite leave them."""
    for picture in (np.dstack([IDS] * 3), np.dstack([IDS] * 3 + [np.full_like(IDS, 255)])):
        path = save(tmp_path / "x.png", picture)
        for benchmark in (ISAID, DLRSD):
            np.testing.assert_array_equal(read_label(path, benchmark), IDS)
        np.testing.assert_array_equal(read_foreground(path, 7), IDS == 7)


def test_negative_ids_are_named(tmp_path):
    path = geotiff(tmp_path / "x.tif", np.where(IDS == 7, -1, IDS.astype(np.int16)))
    with pytest.raises(ValueError, match=r"x\.tif holds the id -1, which isaid does not know"):
        read_label(path, ISAID)


# palettes


def test_a_palette_of_official_colours_in_another_order_is_read_by_its_colours(tmp_path):
    rgb = Image.fromarray(COLOURS[IDS])
    for name, picture in (
        ("quantized", rgb.quantize(8)),
        ("reversed", with_palette(2 - np.searchsorted([0, 7, 14], IDS).astype(np.uint8),
                                  [ISAID_PALETTE[14], ISAID_PALETTE[7], ISAID_PALETTE[0]])),
    ):  # fmt: skip
        path = save(tmp_path / f"{name}.png", picture)
        np.testing.assert_array_equal(read_label(path, ISAID), IDS)
    buffer = io.BytesIO()
    rgb.quantize(8).save(buffer, "TIFF")
    (tmp_path / "x.tif").write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(read_label(tmp_path / "x.tif", ISAID), IDS)


@pytest.mark.parametrize(
    "colours",
    [
        list(ISAID_PALETTE),
        [(i * 16, 255 - i, i) for i in range(16)],
        [(0, 0, 0)] * 16,
        [(i, i, i) for i in range(256)],
    ],
    ids=["official", "other", "black", "grey"],
)
def test_any_other_palette_is_read_by_its_indices(tmp_path, colours):
    path = save(tmp_path / "x.png", with_palette(IDS, colours))
    np.testing.assert_array_equal(read_label(path, ISAID), IDS)
    np.testing.assert_array_equal(read_label(path, DLRSD), IDS)
    np.testing.assert_array_equal(read_foreground(path, 7), IDS == 7)


def test_a_palette_that_may_be_meant_either_way_is_refused(tmp_path):
    colours = [ISAID_PALETTE[0], ISAID_PALETTE[11], (9, 9, 9)]
    path = save(tmp_path / "x.png", with_palette((IDS == 7).astype(np.uint8), colours))
    with pytest.raises(ValueError, match=r"x\.png has official colours at the indices 0, 1 .*11"):
        read_label(path, ISAID)


# black and white, layers


def black_and_white(tmp_path: Path) -> list[Path]:
    inverse = {"photometric": "MINISWHITE", "nbits": 1}
    return [
        save(tmp_path / "grey.png", ONE * 255),
        save(tmp_path / "bit.png", ONE.astype(bool)),
        save(tmp_path / "rgb.png", np.dstack([ONE * 255] * 3)),
        save(tmp_path / "usual.png", with_palette(ONE, [(0, 0, 0), (255, 255, 255)])),
        save(tmp_path / "other.png", with_palette(1 - ONE, [(255, 255, 255), (0, 0, 0)])),
        save(tmp_path / "bit.tif", ONE.astype(bool), compression="group4"),
        geotiff(tmp_path / "inverse.tif", 1 - ONE, **inverse),
        save(tmp_path / "bmp.bmp", ONE.astype(bool)),
        save(tmp_path / "ids.png", ONE),
    ]


def test_white_is_the_class_whichever_number_stands_for_it(tmp_path):
    for path in black_and_white(tmp_path):
        np.testing.assert_array_equal(read_foreground(path), ONE, err_msg=path.name)
        if path.name not in ("grey.png", "rgb.png"):
            np.testing.assert_array_equal(read_foreground(path, 1), ONE, err_msg=path.name)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 0), (255, 255, 255)])
@pytest.mark.parametrize("below", [(0, 0, 0), (255, 255, 255), (9, 8, 7)])
def test_a_transparent_layer_marks_what_is_opaque(tmp_path, colour, below):
    layer = np.empty((40, 60, 4), np.uint8)
    layer[..., :3] = np.where(ONE[..., None], colour, below)
    layer[..., 3] = ONE * 255
    layer[4, 5:25, 3] = 30  # a soft edge
    path = save(tmp_path / "x.png", layer)
    np.testing.assert_array_equal(read_foreground(path), ONE)
    tif = geotiff(tmp_path / "x.tif", np.moveaxis(layer, -1, 0), photometric="rgb", alpha="yes")
    np.testing.assert_array_equal(read_foreground(tif), ONE)
    grey = Image.fromarray(layer[..., [0, 3]].copy(), "LA")
    np.testing.assert_array_equal(read_foreground(save(tmp_path / "la.png", grey)), ONE)


def test_transparent_pixels_of_a_coloured_label_are_background(tmp_path):
    layer = np.dstack([COLOURS[IDS], np.where(IDS == 7, 255, 0).astype(np.uint8)])
    path = save(tmp_path / "x.png", layer)
    np.testing.assert_array_equal(read_label(path, ISAID), np.where(IDS == 7, 7, 0))


def test_a_palettes_transparent_entry_is_background(tmp_path):
    picture = with_palette(1 - ONE, [(0, 200, 0), (255, 255, 255)])
    path = save(tmp_path / "x.png", picture, transparency=1)
    np.testing.assert_array_equal(read_foreground(path), ONE)


# several ids, none, photographs


def test_several_ids_without_a_word_which_is_meant_are_named(tmp_path):
    path = save(tmp_path / "x.png", IDS)
    with pytest.raises(ValueError, match=r"x\.png holds 2 ids beside the background: 7, 14\. Name"):
        read_foreground(path)
    np.testing.assert_array_equal(read_foreground(path, "all"), IDS != 0)
    path = save(tmp_path / "x.png", COLOURS[IDS])
    with pytest.raises(ValueError, match=r"2 colours beside the background: #007f3f, #007fff"):
        read_foreground(path)
    np.testing.assert_array_equal(read_foreground(path, "all"), IDS != 0)


def test_an_id_that_marks_nothing_names_those_there_are(tmp_path):
    path = save(tmp_path / "x.png", IDS)
    with pytest.raises(ValueError, match=r"x\.png has no pixel of the id 9: it holds 0, 7, 14"):
        read_foreground(path, 9)
    path = save(tmp_path / "x.png", COLOURS[IDS])
    with pytest.raises(ValueError, match=r"no pixel of the colour #123456: it holds #000000, #0"):
        read_foreground(path, "#123456")


def photograph() -> np.ndarray:
    y, x = np.mgrid[:90, :120]
    waves = np.stack([np.sin(x / 9 + k) + np.cos(y / (7 + k)) for k in range(3)], axis=-1)
    return (waves * 50 + 128 + RNG.normal(0, 9, waves.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("grey", [True, False])
def test_a_photograph_is_no_label(tmp_path, kind, grey):
    picture = photograph()
    path = save(tmp_path / f"x.{kind}", picture[..., 0].copy() if grey else picture)
    with pytest.raises(ValueError, match=r"x\.\w+ (holds .* photograph|is packed with losses)"):
        read_foreground(path)
    with pytest.raises(ValueError, match=r"x\.\w+"):
        read_label(path, ISAID)


# drawings with soft edges, codecs with losses


@pytest.mark.parametrize("quality", [40, 75, 95])
@pytest.mark.parametrize("colour", [None, (255, 255, 255), (255, 40, 30)])
def test_a_drawing_saved_as_jpeg_is_snapped_with_a_warning(tmp_path, capsys, quality, colour):
    big = np.kron(ONE, np.ones((4, 4), np.uint8))
    drawn = big * 255 if colour is None else big[..., None] * np.array(colour, np.uint8)
    path = save(tmp_path / "x.jpg", drawn, quality=quality)
    assert (read_foreground(path) != big).mean() < 0.01
    assert "x.jpg is packed with losses" in capsys.readouterr().err


def test_ids_and_colours_in_a_jpeg_are_refused(tmp_path):
    path = save(tmp_path / "x.jpg", COLOURS[IDS], quality=95)
    tif = geotiff(tmp_path / "x.tif", IDS, compress="jpeg")
    for read in (
        lambda: read_label(path, ISAID),
        lambda: read_label(tif, ISAID),
        lambda: read_values(path, colours=True),
        lambda: read_foreground(path, 7),
        lambda: read_foreground(tif, 7),
        lambda: read_foreground(path, "#00007f"),
        lambda: read_foreground(path),
    ):
        with pytest.raises(ValueError, match=r"x\.\w+ is packed with losses"):
            read()


def test_a_drawing_with_soft_edges_is_what_is_nearer_to_white(tmp_path, capsys):
    big = Image.fromarray(np.kron(ONE, np.ones((8, 8), np.uint8)) * 255)
    soft = np.array(big.rotate(10, Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(read_foreground(save(tmp_path / "x.png", soft)), soft >= 128)
    assert capsys.readouterr().err == ""


# class tables


def test_background_and_ignore_are_meant_in_any_case(tmp_path):
    table = tmp_path / "classes.txt"
    for zero, last in (
        ("Background", "Ignore"),
        ("BACKGROUND ", "ignore"),
        ("_background_", "__ignore__"),
    ):
        table.write_text(f"0\t {zero} \n7 Roof\n14 pond\n255  {last}\n")
        classes = read_classes(table)
        assert classes.names == ("Roof", "pond")
        assert classes.values == {0: 0, 7: 1, 14: 2, 255: 255}


def test_a_class_table_reads_labels_of_every_depth(tmp_path):
    table = tmp_path / "classes.txt"
    table.write_text("0 background\n7 roof\n14 pond\n")
    expected = np.select([IDS == 7, IDS == 14], [1, 2])
    for path in (
        grey_png(tmp_path / "4.png", IDS, 4),
        save(tmp_path / "16.png", IDS.astype(np.uint16)),
        geotiff(tmp_path / "i32.tif", IDS.astype(np.int32)),
        geotiff(tmp_path / "f32.tif", IDS.astype(np.float32)),
        save(tmp_path / "rgb.png", np.dstack([IDS] * 3)),
    ):
        np.testing.assert_array_equal(read_ids(path, read_classes(table)), expected)
