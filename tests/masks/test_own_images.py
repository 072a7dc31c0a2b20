"""A folder of arbitrary images through main_0: each is cut, or named with the reason."""

import numpy as np
import tifffile
from PIL import Image

import main_0_extract_masks
from mgcl.datasets.benchmarks import BENCHMARKS
from mgcl.datasets.lists import Entry
from mgcl.datasets.samples import ImageSource
from mgcl.images.read import read_image
from mgcl.masks.extract import extract
from mgcl.masks.store import MaskStore
from tests.images.test_read import png_header

RNG = np.random.default_rng(0)
SCENE = np.asarray(Image.fromarray(RNG.integers(0, 256, (6, 8, 3), np.uint8)).resize((80, 60)))
DEEP = SCENE.astype(np.uint16) * 9 + 300  # 12 bits of 16, as sensors deliver
GEO = [(33550, "d", 3, (0.5, 0.5, 0.0), True), (34735, "H", 8, (1, 1, 0, 1, 1024, 0, 1, 1), True)]


def write_readable(folder):
    folder.mkdir(parents=True)
    Image.fromarray(SCENE).save(folder / "rgb.png")
    Image.fromarray(SCENE).save(folder / "photo.jpg")
    Image.fromarray(SCENE[..., 0]).save(folder / "grey.jpeg")
    Image.fromarray(np.dstack([SCENE, SCENE[..., 0]])).save(folder / "rgba.PNG")
    Image.fromarray(SCENE).convert("CMYK").save(folder / "cmyk.tif")
    Image.fromarray(SCENE).quantize(64).save(folder / "palette.png")
    Image.fromarray(DEEP[..., 0]).save(folder / "grey16.png")
    Image.fromarray(SCENE[:1, :1]).save(folder / "pixel.bmp")
    tifffile.imwrite(folder / "geo16.tif", DEEP, photometric="rgb", extratags=GEO)
    bands = np.dstack([DEEP, DEEP[..., :2]])
    tifffile.imwrite(folder / "bands5.tiff", bands, photometric="rgb", compression="zlib")
    tifffile.imwrite(folder / "float.tif", DEEP.astype(np.float32) / 4096, photometric="rgb")
    Image.fromarray(SCENE).resize((10_000, 20)).save(folder / "strip.png")


def write_unreadable(folder):
    whole = (folder / "rgb.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.tif").write_bytes(b"")
    (folder / "text.jpg").write_text("<html>404</html>")
    (folder / "vast.png").write_bytes(png_header(60_000, 8_000, b"\x08\2\0\0\0"))
    tifffile.imwrite(folder / "complex.tif", np.ones((4, 4), np.complex64))
    return {"torn", "empty", "text", "vast", "complex"}


def cut(folder, *words):
    common = ["--masks.images", str(folder), "--masks.generator", "superpixels"]
    return main_0_extract_masks.main([*common, *words])


def test_every_usual_kind_of_image_is_cut_and_what_cannot_be_read_is_named(tmp_path, capsys):
    folder = tmp_path / "pictures"
    write_readable(folder)
    readable = {path.stem for path in folder.iterdir()}
    unreadable = write_unreadable(folder)
    assert cut(folder) == 1
    told = capsys.readouterr().out
    assert f"{len(unreadable)} images could not be read" in told
    for name in unreadable:
        assert f"{folder / name}." in told
    store = MaskStore(tmp_path / "pictures_masks")
    assert set(store.keys()) == readable
    for path in folder.iterdir():
        if path.stem in readable:
            mask_map = store.load(path.stem)
            assert mask_map.shape == read_image(path).shape[:2] and mask_map.min() == 1
    for path in [p for p in folder.iterdir() if p.stem in unreadable]:
        path.unlink()
    assert cut(folder) == 0
    assert f"0 made, {len(readable)} were there" in capsys.readouterr().out


def test_masks_and_network_see_the_same_picture_whatever_its_depth(tmp_path):
    isaid = BENCHMARKS["isaid"]
    path = isaid.image_path(tmp_path, "val", "P0")
    label = isaid.label_path(tmp_path, "val", "P0")
    for folder in (path.parent, label.parent):
        folder.mkdir(parents=True)
    Image.fromarray(DEEP[..., 0]).save(path)
    Image.fromarray(np.ones(DEEP.shape[:2], np.uint8)).save(label)
    seen = []

    class Generator:
        spec = {"name": "listens"}

        def __call__(self, image):
            seen.append(image)
            return np.ones(image.shape[:2], np.uint8)

    store = MaskStore(tmp_path / "masks", Generator.spec)
    extract({"val/P0": path}, Generator(), store, quiet=True)
    sample = ImageSource(isaid, tmp_path, store, 64).load(Entry("val", "P0", 0))
    same = np.asarray(Image.fromarray(seen[0]).resize((64, 64), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(sample.image.numpy().transpose(1, 2, 0), same)


def test_a_name_that_does_not_print_is_refused(tmp_path, capsys):
    write_readable(tmp_path / "pictures")
    (tmp_path / "pictures" / "rgb.png").rename(tmp_path / "pictures" / "r\nb.png")
    assert cut(tmp_path / "pictures") == 1
    assert r"r\nb.png' has a name that does not print: rename it" in capsys.readouterr().err
