"""Supports as users give them: pairs, a folder for each class, a TOML file; the words for them."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.transform import from_origin

from mgcl.images.raster import open_raster
from mgcl.masks.superpixels import SuperpixelMaskGenerator
from mgcl.predict.layers import write_layer
from mgcl.predict.objects import Found
from mgcl.predict.scale import Scale
from mgcl.predict.showing import Cutter
from mgcl.predict.supports import (
    ClassOf,
    Given,
    Supports,
    of_pairs,
    read_supports,
    write_supports,
)
from mgcl.predict.vectors import Grid
from tests.predict.test_predictor import picture


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def image(path: Path, height: int = 64, width: int = 64) -> Path:
    return save(path, picture(len(path.name), height, width))


def label(path: Path, *boxes: tuple[int, int, int, int], size=(64, 64), value: int = 1) -> Path:
    ids = np.zeros(size, np.uint8)
    for y, x, h, w in boxes:
        ids[y : y + h, x : x + w] = value
    return save(path, ids)


def cutter(window: int = 64, **how) -> Cutter:
    return Cutter(lambda raster: window, SuperpixelMaskGenerator(), **how)


def test_a_large_support_gives_a_window_a_cluster_and_says_what_is_used(tmp_path):
    a = image(tmp_path / "a.png", 400, 500)
    boxes = [(10, 10, 20, 20), (30, 40, 10, 10), (300, 400, 30, 30), (200, 20, 8, 8)]
    pairs = [(a, label(tmp_path / "l.png", *boxes, size=(400, 500)))]
    shown = cutter().show(of_pairs(pairs, label_id=1, field=None))
    examples = shown.examples["id 1"]
    assert len(examples) == 3 and sum((e.label == 1).sum() for e in examples) == 1464
    assert all(e.image.shape == (64, 64, 3) and e.mask_map.any() for e in examples)
    assert shown.said == ["a.png: 3 windows around 4 marked objects of id 1"]
    few = cutter(max_windows=1).show(of_pairs(pairs, label_id=1, field=None))
    assert (few.examples["id 1"][0].label == 1).sum() == 900, "the one with most of the class"
    assert "3 others are not used" in few.said[0]


def test_vector_supports_name_their_classes_and_negatives_count(tmp_path):
    a = image(tmp_path / "a.png", 300, 300)
    boxes = {
        "ship": (10, 10, 30, 30),
        "car": (200, 200, 210, 220),
        "not ship": (100, 250, 120, 270),
    }
    found = [Found(shapely.box(*b), i, 1.0, 9) for i, b in enumerate(boxes.values(), start=1)]
    write_layer(tmp_path / "a.geojson", found, list(boxes), Grid(300, 300))
    given = of_pairs([(a, tmp_path / "a.geojson")], label_id=None, field=None)
    shown = cutter().show(given)
    assert {n: len(e) for n, e in shown.examples.items()} == {"ship": 2, "car": 1}
    assert sorted((e.label == 1).sum() for e in shown.examples["ship"]) == [0, 400]
    without = cutter(negatives=False).show(given)
    assert {n: len(e) for n, e in without.examples.items()} == {"ship": 1, "car": 1}
    assert any("does not learn" in line for line in without.said)


def test_a_folder_of_folders_is_a_class_each(tmp_path):
    root = tmp_path / "supports"
    image(root / "ship/one.png")
    label(root / "ship/one_label.png", (5, 5, 9, 9))
    image(root / "ship/images/two.png")
    label(root / "ship/labels/two.png", (5, 5, 9, 9), value=255)
    image(root / "ship/not/water.png")
    image(root / "car/a.png")
    write_layer(
        root / "car/a.geojson", [Found(shapely.box(3, 3, 9, 9), 1, 1, 36)], ["x"], Grid(64, 64)
    )
    image(root / "background/field.png")
    image(root / "mgcl-page/export/a.png")
    (root / "marks").mkdir()
    (root / "marks/project.toml").touch()
    found = read_supports(root)
    assert [(c.name, [g.image.name for g in c.supports]) for c in found.classes] == [
        ("car", ["a.png"]),
        ("ship", ["one.png", "two.png", "water.png"]),
    ]
    shown = cutter().show(found)
    assert {n: len(e) for n, e in shown.examples.items()} == {"car": 2, "ship": 4}
    image(root / "ship/three.png")
    with pytest.raises(ValueError, match="three.png has no label: give one, three.geojson"):
        read_supports(root)
    label(root / "ship/three.png", (0, 0, 1, 1)).unlink()
    label(root / "ship/other_mask.png", (0, 0, 1, 1))
    with pytest.raises(ValueError, match="labels no image: there is none called other"):
        read_supports(root)


def test_a_toml_file_is_written_and_read_with_paths_of_its_own_place(tmp_path):
    a, b = image(tmp_path / "in/a.png"), label(tmp_path / "in/b.png", (1, 1, 9, 9), value=7)
    given = Supports(
        classes=[
            ClassOf(
                name="ship",
                colour="#ff0000",
                supports=[Given(image=a, label=b, label_id=7), Given(image=a)],
            )
        ],
        constants={"window": 64},
    )
    file = tmp_path / "supports.toml"
    write_supports(file, given)
    assert str(tmp_path) not in file.read_text()
    assert read_supports(file) == given and read_supports(file).colours(["ship"]) == [(255, 0, 0)]
    assert len(cutter().show(read_supports(file)).examples["ship"]) == 2


WRONG = {
    "is no TOML": "[[",
    "holds no class": "",
    "classes.0.colour": '[[classes]]\nname = "a"\ncolour = "red"\n',
    "classes.0.supports.0.lable": '[[classes]]\nname = "a"\nsupports = [{image="a",lable="b"}]',
    "no support of a has a label": '[[classes]]\nname = "a"\nsupports = [{image = "a.png"}]\n',
    "two classes are called a": '[[classes]]\nname = "a"\nsupports = [{image = "a", label = "b"}]\n'
    * 2,
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_file_of_supports_is_refused_with_the_place(message, tmp_path):
    file = tmp_path / "s.toml"
    file.write_text(WRONG[message])
    with pytest.raises(ValueError, match=message):
        read_supports(file)


def test_labels_that_do_not_fit_are_refused(tmp_path):
    a = image(tmp_path / "a.png")
    other = label(tmp_path / "l.png", (1, 1, 2, 2), size=(64, 60))
    with pytest.raises(ValueError, match="60 x 64 pixels, its image .* 64 x 64"):
        cutter().show(of_pairs([(a, other)], label_id=1, field=None))
    with pytest.raises(ValueError, match="no pixel"):
        cutter().show(of_pairs([(a, label(tmp_path / "e.png"))], label_id=None, field=None))


def test_windows_are_scaled_to_the_supports_ground_resolution(tmp_path):
    def placed(name: str, metres: float) -> Path:
        place = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, metres, metres)}
        how = {"driver": "GTiff", "height": 9, "width": 9, "count": 3, "dtype": "uint8"}
        with rasterio.open(tmp_path / name, "w", **how, **place) as file:
            file.write(np.ones((3, 9, 9), np.uint8))
        return tmp_path / name

    said: list[str] = []
    scale = Scale(256, say=said.append)
    with (
        open_raster(placed("fine.tif", 0.5)) as fine,
        open_raster(placed("coarse.tif", 2)) as coarse,
    ):
        assert scale.support(fine) == 256 and scale.query(fine) == 256 and said == []
        assert scale.query(coarse) == 64 and "coarse.tif: 2 m a pixel" in said[0]
        assert Scale(256, 30, said.append).query(coarse) == 15
    with open_raster(image(tmp_path / "plain.png")) as plain:
        assert scale.query(plain) == 256
        with pytest.raises(ValueError, match="does not say how large its pixels are"):
            Scale(256, 30, said.append).query(plain)
