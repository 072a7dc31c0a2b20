"""Images of every kind come in as 8-bit RGB."""

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from mgcl.masks.images import UnreadableImage, find_images, image_size, read_image

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
PLANES = {"photometric": "rgb", "planarconfig": "separate"}
DEEP = np.linspace(300, 5000, 6 * 9 * 3).reshape(6, 9, 3).astype(np.uint16)  # 12 bits used of 16


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
    np.testing.assert_array_equal(read_image(tmp_path / "rgb16.tif"), colour)
    np.testing.assert_array_equal(read_image(tmp_path / "planes16.tif"), colour)
    np.testing.assert_array_equal(read_image(tmp_path / "lzw16.tif"), colour)
    np.testing.assert_array_equal(read_image(tmp_path / "float.tif"), colour)


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
    with pytest.raises(UnreadableImage, match="text"):
        image_size(text)


def test_a_folder_is_searched_below_and_ambiguous_names_are_refused(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("z.PNG", "a/b/x.tif"):
        Image.fromarray(COLOURS).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    assert list(find_images(tmp_path)) == ["a/b/x", "z"]
    Image.fromarray(COLOURS).save(tmp_path / "z.jpg")
    with pytest.raises(ValueError, match="share one mask map"):
        find_images(tmp_path)
    with pytest.raises(ValueError, match="no images"):
        find_images(tmp_path / "nowhere")
