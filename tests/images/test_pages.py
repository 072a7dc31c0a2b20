"""Which of a TIFF's pages is the picture, and which JPEG is whole."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image

from mgcl.images.raster import open_raster
from mgcl.images.read import UnreadableImage, image_size, read_image

pytestmark = pytest.mark.filterwarnings("ignore")
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (96, 128, 3), np.uint8)
GREY = RGB[..., 0]


def pages(path: Path, *pictures: np.ndarray, **options) -> Path:
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False)) as file:
        for picture in pictures:
            small = {"subfiletype": 1} if options.get("flagged") and len(picture) < 96 else {}
            kind = "rgb" if picture.ndim == 3 else "minisblack"
            file.write(picture, photometric=kind, metadata=None, **small)
    return path


@pytest.mark.parametrize("flagged", [True, False])
@pytest.mark.parametrize("bigtiff", [True, False])
def test_thumbnails_and_overviews_are_passed_over_wherever_they_stand(tmp_path, flagged, bigtiff):
    small, smaller = RGB[::2, ::2].copy(), RGB[::8, ::8].copy()
    for order in ((smaller, RGB), (RGB, small, smaller), (small, RGB, smaller)):
        path = pages(tmp_path / "x.tif", *order, flagged=flagged, bigtiff=bigtiff)
        np.testing.assert_array_equal(read_image(path), RGB)
        assert image_size(path) == (96, 128)


def test_the_picture_behind_a_thumbnail_is_read_by_windows(tmp_path):
    path = pages(tmp_path / "a b.tif", RGB[::8, ::8].copy(), RGB)
    with open_raster(path) as scene:
        np.testing.assert_array_equal(scene.read((10, 20, 30, 40)), RGB[10:40, 20:60])


@pytest.mark.parametrize("count", [2, 3, 7])
def test_several_pictures_in_one_file_are_told(tmp_path, count):
    for page in (GREY, RGB, GREY.astype(np.uint16) * 9):
        path = pages(tmp_path / "x.tif", *[page] * count)
        with pytest.raises(UnreadableImage, match=rf"x\.tif has {count} pages, each a picture"):
            read_image(path)
    path = pages(tmp_path / "x.tif", RGB, RGB[:90].copy())
    with pytest.raises(UnreadableImage, match=r"2 pages, each a picture \(128 x 96, 128 x 90"):
        image_size(path)


def test_an_image_sequence_whose_headers_form_a_circle_ends(tmp_path):
    data = bytearray(pages(tmp_path / "x.tif", RGB).read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * tags, first)
    (tmp_path / "x.tif").write_bytes(data)
    try:
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), RGB)
    except UnreadableImage as error:
        assert "x.tif" in str(error)


@pytest.mark.parametrize("code, name", [(50002, "JXL"), (34712, "JP2000"), (33003, "33003")])
def test_a_codec_that_is_not_built_in_is_no_damage(tmp_path, code, name):
    data = io.BytesIO()
    Image.fromarray(RGB).save(data, "TIFF", compression="tiff_lzw")
    changed = bytearray(data.getvalue())
    with tifffile.TiffFile(io.BytesIO(data.getvalue())) as file:
        struct.pack_into("<H", changed, file.pages.first.tags[259].offset + 8, code)
    (tmp_path / "x.tif").write_bytes(changed)
    with pytest.raises(UnreadableImage, match=rf"x\.tif is whole but in a codec {name} that GDAL"):
        read_image(tmp_path / "x.tif")


def test_lab_tiffs_are_refused_and_ycbcr_and_cmyk_are_converted(tmp_path):
    for mode in ("YCbCr", "CMYK"):
        picture = Image.fromarray(RGB).convert(mode)
        picture.save(tmp_path / "x.tif")
        near = np.abs(read_image(tmp_path / "x.tif").astype(int) - picture.convert("RGB"))
        assert near.max() <= 2
    Image.fromarray(RGB).convert("LAB").save(tmp_path / "lab.tif")
    with pytest.raises(UnreadableImage, match=r"lab\.tif has samples of a kind"):
        read_image(tmp_path / "lab.tif")


# JPEG


def jpeg(picture: np.ndarray = RGB, **options) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "JPEG", **options)
    return data.getvalue()


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}, {"optimize": True}]
)
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.97])
def test_a_jpeg_closed_too_early_is_refused_and_a_whole_one_is_read(tmp_path, options, grey, part):
    picture = GREY if grey else RGB
    data, path = jpeg(picture, **options), tmp_path / "x.jpg"
    path.write_bytes(data)
    expected = np.array(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(read_image(path), expected)
    path.write_bytes(data[: int(len(data) * part)] + b"\xff\xd9")
    with pytest.raises(UnreadableImage, match=r"x\.jpg is damaged \(its pixels end too early\)"):
        read_image(path)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_flat_jpeg_and_one_with_stray_bytes_are_whole(tmp_path, options):
    flat = np.full((70, 50, 3), 90, np.uint8)
    for picture in (flat, RGB):
        data = jpeg(picture, **options)
        for content in (data, data[:-2] + b"\0\0\0" + data[-2:], data + b"appended"):
            (tmp_path / "x.jpg").write_bytes(content)
            assert read_image(tmp_path / "x.jpg").shape == picture.shape


# JPEG 2000


def test_a_jpeg_2000_is_read_at_its_depth_and_refused_when_cut(tmp_path):
    deep = np.moveaxis(RGB, -1, 0).astype(np.uint16) * 16
    facts = {"driver": "JP2OpenJPEG", "height": 96, "width": 128, "count": 3, "dtype": "uint16"}
    path = tmp_path / "x.jp2"
    with rasterio.open(path, "w", **facts, QUALITY=100, REVERSIBLE="YES") as file:
        file.write(deep)
    image, data = read_image(path), path.read_bytes()
    assert image.shape == (96, 128, 3) and image.min() == 0 and image.max() == 255
    for part in (0.1, 0.5, 0.95):
        for end in (b"", bytes(len(data) - int(len(data) * part))):
            path.write_bytes(data[: int(len(data) * part)] + end)
            with pytest.raises(UnreadableImage, match=r"x\.jp2 is damaged"):
                read_image(path)
