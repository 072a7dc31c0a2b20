"""Objects of a class map: as in one piece, whatever the blocks, and read back by GDAL."""

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import from_bounds, from_origin
from skimage.measure import label

from mgcl.predict.annotations import decode_runs
from mgcl.predict.layers import write_coco, write_layer
from mgcl.predict.objects import Found, find_objects, smooth, square_metres
from mgcl.predict.vectors import Grid

NAMES = ("ship", "car", "field")
UTM = Grid(60, 80, CRS.from_epsg(32633), from_origin(500_000, 5_000_000, 2.0, 2.0))
PLAIN = Grid(60, 80)


def a_map(seed: int = 0, height: int = 60, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4, (height // 3 + 1, width // 3 + 1)).astype(np.uint8)
    classes = coarse.repeat(3, 0).repeat(3, 1)[:height, :width]
    classes[rng.random(classes.shape) < 0.2] = 0
    return classes, rng.integers(0, 10_001, classes.shape)


def in_blocks(classes, scores, rows):
    return ((classes[t : t + rows], scores[t : t + rows]) for t in range(0, len(classes), rows))


def as_rows(objects) -> list:
    return sorted((o.class_id, o.pixels, o.score, o.shape.normalize().wkt) for o in objects)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 70))
def test_objects_are_the_same_whatever_the_blocks(seed, rows):
    classes, scores = a_map(seed)
    whole = as_rows(find_objects([(classes, scores)]))
    assert as_rows(find_objects(in_blocks(classes, scores, rows))) == whole


def test_objects_are_the_connected_pixels_of_a_class():
    classes, scores = a_map(1)
    numbers = label(classes, background=0, connectivity=1)
    found = list(find_objects(in_blocks(classes, scores, 7)))
    assert len(found) == numbers.max()
    back = rasterize([(o.shape, o.class_id) for o in found], out_shape=classes.shape, dtype="uint8")
    assert (back == classes).all()
    for o in found:
        inside = rasterize([o.shape], out_shape=classes.shape, dtype="uint8") > 0
        assert o.pixels == inside.sum() == o.shape.area
        assert o.score == pytest.approx(scores[inside].mean())
    large = list(find_objects(in_blocks(classes, scores, 7), min_pixels=20))
    assert as_rows(large) == as_rows(o for o in found if o.pixels >= 20)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_a_layer_lies_where_the_image_lies(suffix, tmp_path):
    classes, scores = a_map(2)
    found = list(find_objects([(classes, scores / 10_000)]))
    path = tmp_path / f"a{suffix}"
    tally = write_layer(path, found, NAMES, UTM)
    meta, _, geometry, columns = pyogrio.raw.read(path)
    assert CRS.from_user_input(meta["crs"]) == UTM.crs
    rows = dict(zip(meta["fields"], columns, strict=True))
    assert rows["id"].tolist() == list(range(1, len(found) + 1))
    assert rows["class"].tolist() == [NAMES[o.class_id - 1] for o in found]
    np.testing.assert_allclose(rows["score"], [o.score for o in found], atol=1e-4)
    np.testing.assert_allclose(rows["area_m2"], [4.0 * o.pixels for o in found], rtol=2e-3)
    shapes = shapely.from_wkb(geometry)
    pairs = [(s, NAMES.index(n) + 1) for s, n in zip(shapes, rows["class"], strict=True)]
    back = rasterize(pairs, out_shape=classes.shape, transform=UTM.transform, dtype="uint8")
    assert (back == classes).all()
    assert tally.unit == "m²" and sum(tally.objects.values()) == len(found)
    assert tally.area["car"] == pytest.approx(4.0 * (classes == 2).sum(), rel=2e-3)


def test_small_objects_are_dropped_by_their_area(tmp_path):
    found = list(find_objects([a_map(3)]))
    for grid, limit in ((UTM, 40.0), (PLAIN, 10)):
        write_layer(tmp_path / "a.gpkg", found, NAMES, grid, min_area=limit)
        kept = pyogrio.read_info(tmp_path / "a.gpkg")["features"]
        assert kept == sum(o.pixels * (4.0015 if grid is UTM else 1) >= limit for o in found)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.gpkg"]


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_no_object_is_an_empty_layer(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    assert write_layer(path, [], NAMES, UTM).objects == dict.fromkeys(NAMES, 0)
    assert pyogrio.read_info(path)["features"] == 0


def test_areas_are_those_on_the_ground_in_any_crs():
    # 0.01 degrees at 60 N, 10 E on the WGS 84 ellipsoid
    degrees = Grid(100, 100, CRS.from_epsg(4326), from_bounds(10, 60, 10.01, 60.01, 100, 100))
    middle = np.array([[50.0, 50.0]])
    area = square_metres(degrees, middle)
    assert area is not None and area[0] * 10_000 == pytest.approx(558.0 * 1114.1, rel=2e-3)
    mercator = Grid(10, 10, CRS.from_epsg(3857), from_origin(1_113_194.9, 8_399_737.9, 10, 10))
    area = square_metres(mercator, np.array([[0.0, 0.0]]))
    assert area is not None and area[0] == pytest.approx(25.0, rel=1e-2)  # cos²(60°) of 100 m²
    local = CRS.from_wkt('LOCAL_CS["a building site",UNIT["foot",0.3048]]')
    assert square_metres(Grid(10, 10, local, from_origin(0, 0, 1, 1)), middle) is None
    assert square_metres(PLAIN, middle) is None


def test_smoothing_takes_stairs_away_and_keeps_the_place():
    y, x = np.mgrid[:60, :80]
    disc = (((x - 40) ** 2 + (y - 30) ** 2 < 400) & ((x - 40) ** 2 + (y - 30) ** 2 > 40)).astype(
        np.uint8
    )
    (found,) = find_objects([(disc, disc)])
    round_ = smooth(found.shape)
    assert round_.is_valid and len(round_.interiors) == 1
    assert round_.length < 0.9 * found.shape.length
    assert round_.symmetric_difference(found.shape).area < 0.08 * found.shape.area
    pixel = shapely.box(3, 3, 4, 4)
    assert smooth(pixel).area > 0


def test_coco_knows_holes_and_joins_images(tmp_path):
    ring = np.zeros((60, 80), np.uint8)
    ring[10:30, 20:50], ring[15:20, 25:30] = 2, 0
    ring[40:60, 79] = 1
    ring[0:60, 5:7] = 3
    found = list(find_objects([(ring, ring)]))
    write_layer(tmp_path / "a.geojson", found, NAMES, PLAIN)
    write_layer(tmp_path / "b.geojson", [], NAMES, PLAIN)
    write_coco(
        tmp_path / "coco.json",
        {"x/a.png": (tmp_path / "a.geojson", (60, 80)), "b.png": (tmp_path / "b.geojson", (9, 9))},
        NAMES,
    )
    known = json.loads((tmp_path / "coco.json").read_text())
    assert [i["file_name"] for i in known["images"]] == ["x/a.png", "b.png"]
    assert [c["name"] for c in known["categories"]] == list(NAMES)
    by_class = {a["category_id"]: a for a in known["annotations"]}
    drawn = by_class[2]["segmentation"]
    assert (decode_runs(drawn["counts"], drawn["size"]) == (ring == 2)).all()
    assert by_class[2]["bbox"] == [20, 10, 30, 20] and by_class[2]["area"] == 575
    assert by_class[1]["segmentation"] == [[79, 40, 79, 60, 80, 60, 80, 40]]


def test_run_lengths_go_on_from_column_to_column(tmp_path):
    tall = np.zeros((10, 6), np.uint8)
    tall[:, 1:4], tall[4, 2] = 1, 0
    (found,) = find_objects([(tall, tall)])
    write_layer(tmp_path / "a.geojson", [found], NAMES, Grid(10, 6))
    write_coco(tmp_path / "c.json", {"a.png": (tmp_path / "a.geojson", (10, 6))}, NAMES)
    (annotation,) = json.loads((tmp_path / "c.json").read_text())["annotations"]
    assert annotation["segmentation"]["counts"] == [10, 14, 1, 15, 20]


def test_many_objects_are_written_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("mgcl.predict.layers.CHUNK", 7)
    found = [Found(shapely.box(i, 0, i + 1, 1), 1, 0.5, 1) for i in range(23)]
    path = Path(tmp_path / "a.gpkg")
    write_layer(path, found, NAMES, UTM)
    assert pyogrio.raw.read(path)[3][0].tolist() == list(range(1, 24))
