"""Images of every kind come in as 8-bit RGB."""

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mgcl.images import scene, stretch
from mgcl.images.read import MissingImage, UnreadableImage, image_size, read_image
from tests.fuzz import encoded, tiff

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on damaged tags
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
RGB = RNG.integers(0, 256, (20, 30, 3), np.uint8)
PLANES = {"photometric": "rgb", "planarconfig": "separate"}
DEEP = np.linspace(300, 5000, 6 * 9 * 3).reshape(6, 9, 3).astype(np.uint16)  # 12 bits used of 16


def put(path: Path, picture: Image.Image, kind: str = "PNG", **options) -> Path:
    picture.save(path, kind, **options)
    return path


def test_lossless_8_bit_files_come_in_unchanged(tmp_path):
    grey = COLOURS[..., 0]
    alpha = np.dstack([COLOURS, grey])
    Image.fromarray(COLOURS).save(tmp_path / "rgb.png")
    Image.fromarray(COLOURS).save(tmp_path / "rgb.tif", compression="tiff_lzw")
    Image.fromarray(alpha).save(tmp_path / "rgba.png")
    Image.fromarray(alpha).save(tmp_path / "rgba.tif")
    tifffile.imwrite(tmp_path / "planes.tif", alpha.transpose(2, 0, 1), **PLANES)
    tifffile.imwrite(tmp_path / "bands5.tif", np.dstack([alpha, grey]), photometric="rgb")
    for name in ("rgb.png", "rgb.tif", "rgba.png", "rgba.tif", "planes.tif", "bands5.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name), COLOURS, err_msg=name)
        assert image_size(tmp_path / name) == (6, 9)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([grey, grey])).save(tmp_path / "grey_alpha.png")
    for name in ("grey.png", "grey_alpha.png"):
        np.testing.assert_array_equal(read_image(tmp_path / name), np.dstack([grey] * 3))


def test_palette_and_bilevel_images_come_in_as_their_colours(tmp_path):
    palette = Image.fromarray(COLOURS).quantize(16)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "palette.png"), np.asarray(palette.convert("RGB"))
    )
    Image.fromarray(COLOURS[..., 0] > 127).save(tmp_path / "bilevel.tif")
    assert set(np.unique(read_image(tmp_path / "bilevel.tif"))) == {0, 255}


def test_jpeg_in_colour_grey_and_cmyk_comes_in_as_rgb(tmp_path):
    flat = np.full((16, 16, 3), (200, 60, 30), np.uint8)
    Image.fromarray(flat).save(tmp_path / "rgb.jpg", quality=95)
    Image.fromarray(flat).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    Image.fromarray(flat[..., 0]).save(tmp_path / "grey.jpg", quality=95)
    for name in ("rgb.jpg", "cmyk.jpg"):
        assert np.abs(read_image(tmp_path / name).astype(int) - flat).max() <= 6, name
    assert np.abs(read_image(tmp_path / "grey.jpg").astype(int) - 200).max() <= 2


def write_deep_files(folder):
    cv2.imwrite(str(folder / "rgb16.png"), DEEP[..., ::-1])
    cv2.imwrite(str(folder / "grey16.png"), DEEP[..., 0])
    tifffile.imwrite(folder / "rgb16.tif", DEEP, photometric="rgb")
    tifffile.imwrite(folder / "grey16.tif", DEEP[..., 0])
    tifffile.imwrite(folder / "planes16.tif", DEEP.transpose(2, 0, 1), **PLANES)
    tifffile.imwrite(folder / "big16.tif", DEEP, photometric="rgb", bigtiff=True)
    tifffile.imwrite(folder / "tiles16.tif", DEEP, photometric="rgb", tile=(16, 16))
    tifffile.imwrite(folder / "bands16.tif", np.dstack([DEEP, DEEP[..., :2]]), photometric="rgb")
    Image.fromarray(DEEP[..., 0]).save(folder / "other_name.image", "PNG")
    cv2.imwrite(str(folder / "lzw16.tif"), DEEP[..., ::-1])
    tifffile.imwrite(folder / "float.tif", DEEP.astype(np.float32) / 5000, photometric="rgb")


def test_samples_of_more_than_8_bits_use_the_whole_range(tmp_path):
    write_deep_files(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        image = read_image(path)
        assert image.shape == (6, 9, 3) and image.dtype == np.uint8, path
        assert image.min() == 0 and image.max() == 255, path
        assert image_size(path) == (6, 9)
    colour = read_image(tmp_path / "rgb16.png")
    assert (np.diff(colour.ravel().astype(int)) >= 0).all()  # the order of the samples is kept
    for name in ("rgb16", "planes16", "lzw16", "big16", "tiles16", "bands16", "float"):
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.tif"), colour, err_msg=name)


def test_the_stretch_leaves_two_percent_black_and_two_percent_white(tmp_path):
    grey = np.arange(1000, 11_000, dtype=np.uint16).reshape(100, 100)
    image = read_image(put(tmp_path / "x.png", Image.fromarray(grey)))
    low, high = np.percentile(grey, (2, 98))
    expected = np.floor((grey - low) * 255 / (high - low) + 0.5).clip(0, 255)
    np.testing.assert_array_equal(image, np.repeat(expected[..., None], 3, axis=2))
    assert abs((image == 0).mean() - 0.02) < 0.003 and abs((image == 255).mean() - 0.02) < 0.003


def test_a_large_deep_image_is_stretched_in_parts_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, RNG.integers(0, 5000, (200, 50, 3), np.uint16), photometric="rgb")
    whole = read_image(path)
    monkeypatch.setattr(stretch, "_BLOCK", 7)
    np.testing.assert_array_equal(read_image(path), whole)
    monkeypatch.setattr(scene, "SAMPLED", 20_000)  # percentiles from a part of the rows
    assert np.abs(read_image(path).astype(int) - whole).max() <= 2


def test_pixels_without_data_are_black_and_leave_the_stretch_alone(tmp_path):
    values = DEEP.astype(np.float32)
    tifffile.imwrite(tmp_path / "whole.tif", values, photometric="rgb")
    whole = read_image(tmp_path / "whole.tif")
    values = np.concatenate([values, np.full((60, 9, 3), -9999, np.float32)])
    tag = (42113, "s", 0, "-9999", True)  # GDAL's
    tifffile.imwrite(tmp_path / "gdal.tif", values, photometric="rgb", extratags=[tag])
    values[6:30], values[30:] = np.nan, np.inf
    tifffile.imwrite(tmp_path / "nan.tif", values, photometric="rgb")
    for name in ("gdal.tif", "nan.tif"):
        image = read_image(tmp_path / name)
        np.testing.assert_array_equal(image[:6], whole)
        assert not image[6:].any()


@pytest.mark.parametrize("value", [0, 7, 65_535, 1e38, np.nan])
def test_a_flat_deep_image_is_black(tmp_path, value):
    kind = np.uint16 if isinstance(value, int) else np.float32
    tifffile.imwrite(tmp_path / "x.tif", np.full((3, 4), value, kind))
    assert not read_image(tmp_path / "x.tif").any()


@pytest.mark.parametrize("values", [(-3e38, 3e38), (-1e-40, 1e-40)])
def test_extreme_floats_are_read_without_a_crash(tmp_path, values):
    tifffile.imwrite(tmp_path / "x.tif", np.resize(np.float32(values), (4, 4)))
    assert read_image(tmp_path / "x.tif").shape == (4, 4, 3)


def test_a_geotiff_is_read_as_the_picture_in_it(tmp_path):
    geo_keys = (1, 1, 0, 1, 1024, 0, 1, 1)
    tags = [(33550, "d", 3, (0.5, 0.5, 0.0), True), (34735, "H", 8, geo_keys, True)]
    tifffile.imwrite(tmp_path / "geo.tif", COLOURS, photometric="rgb", extratags=tags)
    np.testing.assert_array_equal(read_image(tmp_path / "geo.tif"), COLOURS)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_what_cannot_be_read_is_named(tmp_path, suffix):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    torn = tmp_path / f"torn{suffix}"
    Image.fromarray(noise).save(torn)
    torn.write_bytes(torn.read_bytes()[:2000])
    text = tmp_path / f"text{suffix}"
    text.write_text("no image")
    for path in (torn, text, tmp_path / f"missing{suffix}"):
        with pytest.raises(UnreadableImage, match=path.name):
            read_image(path)
        with pytest.raises(UnreadableImage, match=path.name):
            read_image(str(path))
    with pytest.raises(UnreadableImage, match="text"):
        image_size(text)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_lossless_formats_are_read_exactly(tmp_path, kind):
    assert np.array_equal(read_image(put(tmp_path / "x", Image.fromarray(RGB), kind)), RGB)


@pytest.mark.parametrize("kind", ["JPEG", "GIF"])
def test_other_formats_are_read_as_pil_reads_them(tmp_path, kind):
    path = put(tmp_path / "x", Image.fromarray(RGB), kind)
    assert np.array_equal(read_image(path), np.array(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    picture = Image.fromarray(RGB).convert(mode)
    path = put(tmp_path / "x", picture, "TIFF" if mode == "CMYK" else "PNG")
    assert np.array_equal(read_image(path), np.array(picture.convert("RGB")))


def test_transparency_of_a_true_colour_png_is_ignored(tmp_path):
    path = put(tmp_path / "x.png", Image.fromarray(RGB), transparency=tuple(map(int, RGB[0, 0])))
    assert np.array_equal(read_image(path), RGB)


@pytest.mark.parametrize("keep", [0, 20, 200, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_truncated_image_is_named(tmp_path, kind, keep):
    whole = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8)).save(whole, kind)
    data = whole.getvalue()
    path = tmp_path / "torn"
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(ValueError, match=r"torn is (damaged|not a readable image)"):
        read_image(path)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_gives_an_image_or_a_value_error(tmp_path_factory, where, flip):
    path = tmp_path_factory.mktemp("flip") / "x.png"
    data = bytearray(put(path, Image.fromarray(RGB)).read_bytes())
    data[where % len(data)] ^= flip
    path.write_bytes(data)
    try:
        assert read_image(path).dtype == np.uint8
    except ValueError as error:
        assert "x.png" in str(error)


WIDE = RGB.astype(np.uint16) * 200
FILES = {
    "png": encoded(Image.fromarray(RGB)),
    "png16": cv2.imencode(".png", WIDE)[1].tobytes(),
    "jpeg": encoded(Image.fromarray(RGB), "JPEG"),
    "progressive": encoded(Image.fromarray(RGB), "JPEG", progressive=True),
    "webp": encoded(Image.fromarray(RGB), "WEBP"),
    "tiff": encoded(Image.fromarray(RGB), "TIFF"),
    "lzw": encoded(Image.fromarray(RGB), "TIFF", compression="tiff_lzw"),
    "tiff16": tiff(WIDE, photometric="rgb", rowsperstrip=4),
    "lzw16": cv2.imencode(".tif", WIDE)[1].tobytes(),
    "bands5": tiff(np.dstack([RGB, RGB[..., :2]]), photometric="rgb", compression="zlib"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_anywhere_is_an_error_or_the_whole_picture(tmp_path, kind):
    path = tmp_path / "torn"
    path.write_bytes(FILES[kind])
    whole = read_image(path)
    for length in range(0, len(FILES[kind]), 37):
        path.write_bytes(FILES[kind][:length])
        try:
            image = read_image(path)
        except UnreadableImage as error:
            assert str(path) in str(error)
        else:
            np.testing.assert_array_equal(image, whole)


@pytest.mark.parametrize("kind", ["png", "png16", "jpeg", "progressive", "lzw", "lzw16", "bands5"])
def test_a_file_filled_up_with_zeros_is_no_half_picture(tmp_path, kind):
    """As broken downloads leave it. What has no sums (BMP, plain TIFF) cannot tell."""
    path, data = tmp_path / "torn", FILES[kind]
    for part in (0.3, 0.6, 0.9):
        length = int(len(data) * part)
        path.write_bytes(data[:length].ljust(len(data), b"\0"))
        with pytest.raises(UnreadableImage, match=str(path)):
            read_image(path)


@pytest.mark.parametrize("kind", FILES)
def test_a_changed_byte_gives_a_picture_or_an_error_that_names_the_file(tmp_path, kind):
    path, data, rng = tmp_path / "torn", FILES[kind], np.random.default_rng(0)
    for at in [*range(0, 64, 4), *rng.integers(0, len(data), 30), *range(-90, 0, 6)]:
        flipped = bytearray(data)
        flipped[at] ^= int(rng.integers(1, 256))
        path.write_bytes(flipped)
        try:
            assert read_image(path).dtype == np.uint8
        except UnreadableImage as error:
            assert str(path) in str(error)


def test_a_jpeg_keeps_its_thumbnail_and_what_is_appended_to_itself(tmp_path):
    """A thumbnail's end mark does not stand for the picture's; random bytes behind do no harm."""
    plain = encoded(Image.fromarray(RGB), "JPEG")
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + len(plain)) + plain
    nested = plain[:2] + thumbnail + plain[2:]
    path = tmp_path / "x.jpg"
    path.write_bytes(plain)
    expected = read_image(path)
    path.write_bytes(nested + b"\xff\xda and more")
    np.testing.assert_array_equal(read_image(path), expected)
    path.write_bytes(nested[:-200] + bytes(200))
    with pytest.raises(UnreadableImage, match="its end is missing"):
        read_image(path)


def test_a_camera_rotation_is_not_applied_as_labels_have_none(tmp_path):
    for kind in ("PNG", "JPEG", "TIFF"):
        plain = read_image(put(tmp_path / "plain", Image.fromarray(RGB), kind))
        turned = Image.Exif()
        turned[274] = 6
        path = put(tmp_path / "turned", Image.fromarray(RGB), kind, exif=turned)
        np.testing.assert_array_equal(read_image(path), plain)
        assert image_size(path) == plain.shape[:2]


def test_a_deep_tiff_with_white_as_0_is_the_negative_of_its_samples(tmp_path):
    (tmp_path / "black.tif").write_bytes(tiff(WIDE[..., 0], photometric="minisblack"))
    (tmp_path / "white.tif").write_bytes(tiff(WIDE[..., 0], photometric="miniswhite"))
    expected = 255 - read_image(tmp_path / "black.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "white.tif"), expected)


def test_a_cameras_mosaic_is_refused(tmp_path):
    mosaic = tiff(WIDE[..., 0], photometric="cfa", extratags=[(33422, "B", 4, bytes(4), True)])
    (tmp_path / "x.tif").write_bytes(mosaic)
    with pytest.raises(
        UnreadableImage, match=r"x\.tif has samples of a kind .*: convert it to RGB"
    ):
        read_image(tmp_path / "x.tif")


def test_complex_samples_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.ones((4, 4), np.complex64))
    with pytest.raises(UnreadableImage, match="complex64"):
        read_image(tmp_path / "x.tif")


def png_header(width: int, height: int, kind: bytes) -> bytes:
    """A PNG of that size, of hardly any bytes."""
    parts = [(b"IHDR", struct.pack(">II", width, height) + kind), (b"IDAT", zlib.compress(b""))]
    chunks = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in [*parts, (b"IEND", b"")]
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("kind", [b"\x08\2\0\0\0", b"\x10\2\0\0\0", b"\x08\6\0\0\0"])
def test_a_small_file_that_claims_a_vast_picture_is_refused_at_once(tmp_path, kind):
    (tmp_path / "x.png").write_bytes(png_header(60_000, 8_000, kind))
    with pytest.raises(UnreadableImage, match=r"x\.png is 60000 x 8000 pixels by its header"):
        read_image(tmp_path / "x.png")


def test_a_tiff_that_claims_a_vast_picture_is_refused_at_once(tmp_path):
    for bands in (3, 5):
        samples = np.zeros((2, 3, bands), np.uint8)
        data = bytearray(tiff(samples, photometric="rgb", planarconfig="contig"))
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            tags = file.pages.first.tags
            places = [tags[code].offset + 8 for code in (256, 257)]  # width and height
        for place in places:
            data[place : place + 2] = struct.pack("<H", 22_000)
        (tmp_path / "x.tif").write_bytes(data)
        with pytest.raises(UnreadableImage, match=r"x\.tif is 22000 x 22000 pixels by its header"):
            read_image(tmp_path / "x.tif")


def test_a_tiff_that_claims_very_many_bands_is_refused_at_once(tmp_path):
    data = bytearray(tiff(np.zeros((2, 3, 5), np.uint8), photometric="rgb", planarconfig="contig"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages.first.tags
        places = {tags[256].offset: 250, tags[257].offset: 250, tags[277].offset: 60_000}
    for place, value in places.items():
        data[place + 8 : place + 10] = struct.pack("<H", value)
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(UnreadableImage, match=r"x\.tif"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_an_image_of_10_000_pixels_a_side_is_read(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    Image.new("RGB", (10_000, 1_000), (9, 8, 7)).save(path, compression="tiff_adobe_deflate")
    assert image_size(path) == (1_000, 10_000)
    assert read_image(path)[-1, -1].tolist() == [9, 8, 7]


def test_formats_that_run_programs_are_not_opened(tmp_path):
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(UnreadableImage, match=r"x\.png is not a readable image"):
        read_image(tmp_path / "x.png")


def test_a_folder_or_a_pipe_in_an_images_place_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(UnreadableImage, match=f"image {path} is no regular file"):
            read_image(path)


def test_a_missing_image_is_both_missing_and_unreadable(tmp_path):
    for error in (MissingImage, FileNotFoundError, ValueError):
        with pytest.raises(error, match=r"no image .*x\.png: check the data root"):
            read_image(tmp_path / "x.png")


def test_one_pixel_is_an_image(tmp_path):
    for name, pixel in (("x.png", COLOURS[:1, :1]), ("deep.tif", DEEP[:1, :1])):
        tifffile.imwrite(tmp_path / name, pixel, photometric="rgb")
        assert read_image(tmp_path / name).shape == (1, 1, 3)
