"""Every way to pack one small picture into a TIFF gives that picture, or is refused by name."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioError

from mgcl.images.raster import open_raster
from mgcl.images.read import UnreadableImage, read_image
from mgcl.images.stretch import to_rgb8

pytestmark = pytest.mark.filterwarnings("ignore")
Y, X = np.mgrid[:40, :50]
SHAPES = np.stack([Y * 5, X * 4, (Y + X) * 2, 250 - Y * 6, Y * X // 9])  # (5, 40, 50)
SHAPES[:, 12:20, 8:30] = np.array([200, 30, 90, 10, 120])[:, None, None]
SHAPES = np.clip(SHAPES, 1, 250)

KINDS = {
    "uint8": SHAPES,
    "int8": SHAPES // 2 - 60,
    "uint16": SHAPES * 13 + 300,
    "int16": SHAPES * 100 - 9000,
    "uint32": SHAPES * 70_000,
    "int32": SHAPES * 70_000 - 9_000_000,
    "int64": SHAPES * 70_000 - 9_000_000,
    "float32": SHAPES / 256 - 0.3,
    "float64": SHAPES * 1e-9,
}
COUNTS = (1, 2, 3, 4, 5)
LAYOUTS = (
    {"interleave": "pixel"},
    {"interleave": "band"},
    {"interleave": "pixel", "tiled": True, "blockxsize": 16, "blockysize": 32},
    {"interleave": "band", "tiled": True, "blockxsize": 16, "blockysize": 16},
    {"interleave": "pixel", "blockysize": 7, "bigtiff": "yes", "endianness": "big"},
)
PACKED = (
    {},
    *({"compress": name} for name in ("packbits", "lerc", "lerc_zstd")),
    *({"compress": n, "predictor": p} for n in ("lzw", "deflate", "zstd") for p in (1, 2, 3)),
)


def write(path: Path, samples: np.ndarray, **options) -> None:
    count, height, width = samples.shape
    kind = {"driver": "GTiff", "dtype": samples.dtype, "photometric": "minisblack"}
    facts = {**kind, "count": count, "height": height, "width": width, **options}
    with rasterio.open(path, "w", **facts) as file:
        file.write(samples)


def expected(samples: np.ndarray) -> np.ndarray:
    return to_rgb8(np.moveaxis(samples, 0, -1))


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_compression_and_number_of_bands_gives_the_same_picture(tmp_path, kind):
    written = 0
    for count, layout, packed in itertools.product(COUNTS, LAYOUTS, PACKED):
        if (count + len(layout) + len(packed)) % 2 and count not in (1, 3):
            continue  # of the rest every second
        samples = KINDS[kind][:count].astype(kind)
        path = tmp_path / "x.tif"
        try:
            write(path, samples, **layout, **packed)
        except RasterioError:  # a predictor or LERC that does not know this type
            continue
        what = f"{count} {layout} {packed}"
        np.testing.assert_array_equal(read_image(path), expected(samples), err_msg=what)
        written += 1
    assert written > 100


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_windows_and_no_data_of_every_type_and_layout(tmp_path, kind, layout):
    hole = (Y > 30) & (X < 20)
    samples = KINDS[kind][:3].astype(kind)
    value = np.iinfo(kind).max if np.dtype(kind).kind in "iu" else -9999.0
    if kind == "int64":
        value = -(10**12)
    whole = expected(samples[:, ~hole][:, None])[0]  # the stretch leaves out what is no data
    samples[:, hole] = value
    for packed in ({}, {"compress": "deflate"}):
        write(tmp_path / "x.tif", samples, nodata=value, **layout, **packed)
        with open_raster(tmp_path / "x.tif") as scene:
            found = scene.read()
            np.testing.assert_array_equal(found[~hole], whole)
            assert not found[hole].any()
            np.testing.assert_array_equal(scene.valid(), ~hole)
            np.testing.assert_array_equal(scene.read((5, 9, 33, 20)), found[5:38, 9:29])


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("packed", [{}, {"compress": "lzw"}, {"compress": "deflate"}], ids=str)
def test_few_bits_use_the_whole_range_from_black_to_white(tmp_path, bits, packed):
    full = (1 << bits) - 1
    for count in (1, 3):
        samples = (SHAPES[:count] * full // 255).astype(np.uint8)
        write(tmp_path / "x.tif", samples, nbits=bits, **packed)
        exact = expected(np.round(samples * (255 / full)).astype(np.uint8))
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), exact)


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15])
@pytest.mark.parametrize("packed", [{}, {"compress": "lzw"}, {"compress": "zstd"}], ids=str)
def test_samples_between_8_and_16_bits_are_stretched(tmp_path, bits, packed):
    samples = (SHAPES[:3] << (bits - 8)).astype(np.uint16)
    write(tmp_path / "x.tif", samples, nbits=bits, **packed)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), expected(samples))


@pytest.mark.parametrize("layout", LAYOUTS[:4], ids=str)
def test_lossless_webp_and_jpeg_of_good_quality_come_near(tmp_path, layout):
    samples = SHAPES[:3].astype(np.uint8)
    if layout["interleave"] == "pixel":
        write(tmp_path / "x.tif", samples, compress="webp", webp_lossless=True, **layout)
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), expected(samples))
    for photometric in ("rgb", "ycbcr") if layout["interleave"] == "pixel" else ("rgb",):
        options = {"compress": "jpeg", "jpeg_quality": 95, "photometric": photometric}
        write(tmp_path / "x.tif", samples, **{**layout, **options})
        error = np.abs(read_image(tmp_path / "x.tif").astype(int) - expected(samples))
        assert error.mean() < 6


@pytest.mark.parametrize("packed", [{}, {"compress": "lzw"}, {"compress": "packbits"}], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS[::2], ids=str)
@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_palettes_are_their_colours(tmp_path, packed, layout, kind):
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    samples = SHAPES[:1].astype(kind)
    write(tmp_path / "x.tif", samples, **{**layout, **packed, "photometric": "palette"})
    with rasterio.open(tmp_path / "x.tif", "r+") as file:
        file.write_colormap(1, {i: tuple(c) for i, c in enumerate(colours.tolist())})
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), colours[samples[0]])


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("packed", [{}, {"compress": "deflate"}], ids=str)
def test_missing_tiles_of_a_sparse_file_are_no_data(tmp_path, kind, packed):
    for nodata in (0,) if kind == "float32" else (None, 0):
        path = tmp_path / "x.tif"
        facts = {"driver": "GTiff", "dtype": kind, "count": 3, "height": 64, "width": 64}
        how = {"tiled": True, "blockxsize": 32, "blockysize": 32, "sparse_ok": True}
        with rasterio.open(path, "w", **facts, **how, **packed, nodata=nodata) as file:
            file.write(KINDS[kind][:3, :32, :32].astype(kind), window=((0, 32), (0, 32)))
        found = read_image(path)
        assert found[:32, :32].max() > 150 and not found[32:].any() and not found[:, 32:].any()


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(
    "packed", [{}, {"compress": "lzw"}, {"compress": "jpeg"}, {"compress": "zstd"}], ids=str
)
def test_a_file_that_was_cut_is_never_a_picture(tmp_path, layout, packed):
    noise = np.random.default_rng(0).integers(0, 256, (3, 40, 50), np.uint8)
    path = tmp_path / "x.tif"
    rows = 8 if layout.get("blockysize") == 7 else layout.get("blockysize", 40)  # JPEG wants 8
    write(path, noise, **{**layout, **packed, "blockysize": rows})
    data = path.read_bytes()
    for part in (0.02, 0.3, 0.6, 0.9):
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(UnreadableImage, match=r"x\.tif is (damaged|not a readable image)"):
            read_image(path)


def test_overviews_of_every_place_are_not_the_picture(tmp_path):
    samples = KINDS["uint16"][:3].astype(np.uint16)
    for beside in (False, True):
        path = tmp_path / f"{beside}.tif"
        write(path, samples, tiled=True, blockxsize=16, blockysize=16)
        with rasterio.Env(TIFF_USE_OVR=beside), rasterio.open(path, "r+") as file:
            file.build_overviews([2, 4])
        np.testing.assert_array_equal(read_image(path), expected(samples))
