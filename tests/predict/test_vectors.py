"""Vector supports: every format marks the same pixels, wherever its coordinates lie."""

import json
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform

from mgcl.predict.annotations import decode_runs, unpack_runs
from mgcl.predict.cutting import find_windows, paint, too_large
from mgcl.predict.vectors import Feature, Grid, names_of, read_features

UTM = CRS.from_epsg(32633)
GRID = Grid(100, 120, UTM, from_origin(500_000, 5_000_000, 0.5, 0.5))  # 60 x 50 m
PLAIN = Grid(100, 120)
# Rectangles in pixels: x0, y0, x1, y1 with their classes.
BOXES = {"ship": (10, 20, 30, 50), "car": (60, 5, 64, 9), "not": (80, 80, 100, 95)}
SHAPES = [shapely.box(*box) for box in BOXES.values()]


def truth(name: str) -> np.ndarray:
    label = np.zeros((100, 120), np.uint8)
    x0, y0, x1, y1 = BOXES[name]
    label[y0:y1, x0:x1] = 1
    return label


def on_earth(shapes, crs: str):
    """Pixels -> coordinates of the grid in a CRS."""

    def place(xy):
        xs, ys = GRID.transform * xy.T
        return (
            np.array(transform(UTM, crs, xs, ys)).T
            if CRS.from_string(crs) != UTM
            else np.array([xs, ys]).T
        )

    return [shapely.transform(shape, place) for shape in shapes]


def write(path: Path, shapes, *, crs: str | None, field: str = "class", names=tuple(BOXES)) -> Path:
    pyogrio.raw.write(
        path,
        geometry=np.array([shapely.to_wkb(s) for s in shapes], object),
        field_data=[names if isinstance(names, np.ndarray) else np.array(names, object)],
        fields=[field],
        crs=crs,
        geometry_type="Unknown" if path.suffix != ".shp" else "Polygon",
    )
    return path


def labels(marked) -> dict[str, np.ndarray]:
    return {n: paint(marked.features, n, (100, 120)) for n in names_of(marked.features)}


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".geojson", ".fgb"])
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3857"])
def test_polygons_of_any_format_and_crs_mark_the_same_pixels(suffix, crs, tmp_path):
    path = write(tmp_path / f"a{suffix}", on_earth(SHAPES, crs), crs=crs)
    marked = read_features(path, GRID)
    found = labels(marked)
    assert set(found) == {"ship", "car"} and marked.said == []
    for name, label in found.items():
        assert (label == truth(name)).all()
    assert [f.name for f in marked.features if f.negative] == ["not"]


def test_a_plain_image_takes_pixels_and_those_that_qgis_counts_upwards(tmp_path):
    down = write(tmp_path / "down.geojson", SHAPES, crs=None)
    up = write(tmp_path / "up.gpkg", shapely.transform(SHAPES, lambda p: p * (1, -1)), crs=None)
    for path in down, up:
        assert (labels(read_features(path, PLAIN))["ship"] == truth("ship")).all()
    assert "minus the row" in read_features(up, PLAIN).said[0]


def test_coordinates_without_a_crs_are_the_image_s_and_it_is_said(tmp_path):
    placed = on_earth(SHAPES, "EPSG:32633")
    bare = write(tmp_path / "bare.shp", placed, crs=None)
    wrong = write(tmp_path / "wrong.geojson", placed, crs="EPSG:4326")  # RFC 7946 against its word
    for path in bare, wrong:
        marked = read_features(path, GRID)
        assert (labels(marked)["ship"] == truth("ship")).all() and "EPSG:32633" in marked.said[0]


def test_the_class_is_the_first_known_attribute_or_the_one_that_is_asked_for(tmp_path):
    path = write(
        tmp_path / "a.gpkg", SHAPES, crs=None, field="Kind", names=np.array([1.0, 2.0, 1.0])
    )
    assert names_of(read_features(path, PLAIN).features) == ["1", "2"]
    other = write(tmp_path / "b.gpkg", SHAPES, crs=None, field="species")
    assert names_of(read_features(other, PLAIN).features) == [""]
    assert names_of(read_features(other, PLAIN, field="species").features) == ["ship", "car"]
    with pytest.raises(ValueError, match="no attribute 'kind' .there: species"):
        read_features(other, PLAIN, field="kind")


def test_what_marks_nothing_is_refused_and_what_lies_outside_is_counted(tmp_path):
    far = [shapely.box(500, 500, 510, 510)]
    with pytest.raises(ValueError, match="marks nothing in the image.*columns 500 to 510"):
        read_features(write(tmp_path / "a.gpkg", far, crs=None, names=["x"]), PLAIN)
    half = write(tmp_path / "b.gpkg", [*SHAPES, *far], crs=None, names=[*BOXES, "x"])
    assert read_features(half, PLAIN).said == ["b.gpkg: 1 of 4 objects lie outside the image"]
    lines = [shapely.LineString([(0, 0), (9, 9)]), SHAPES[0]]
    mixed = write(tmp_path / "c.gpkg", lines, crs=None, names=["x", "y"])
    assert "1 lines" in read_features(mixed, PLAIN).said[0]
    for name, grid in (("none.geojson", PLAIN), ("none.gpkg", GRID)):
        with pytest.raises(ValueError, match=f"{name} has no feature"):
            read_features(write(tmp_path / name, [], crs="EPSG:4326", names=[]), grid)
    with pytest.raises(FileNotFoundError, match="no vector file /"):
        read_features(Path("no.gpkg"), PLAIN)
    (tmp_path / "torn.gpkg").write_bytes(b"SQLite format 3\0 torn")
    (tmp_path / "torn.json").write_text("{")
    for name in "torn.gpkg", "torn.json":
        with pytest.raises(ValueError, match=name):
            read_features(tmp_path / name, PLAIN)


def test_labelme_and_coco_mark_the_same_pixels(tmp_path):
    def corners(name):
        x0, y0, x1, y1 = BOXES[name]
        return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]

    shapes = [{"label": n, "points": corners(n), "shape_type": "polygon"} for n in BOXES]
    shapes.append({"label": "line", "points": [[0, 0], [5, 5]], "shape_type": "line"})
    labelme = tmp_path / "labelme.json"
    labelme.write_text(json.dumps({"shapes": shapes, "imageHeight": 100, "imageWidth": 120}))
    marked = read_features(labelme, PLAIN)
    assert (
        labels(marked)["car"] == truth("car")
    ).all() and "1 shapes of the kind line" in marked.said[0]

    ids = {name: i for i, name in enumerate(BOXES, start=1)}
    annotations = [
        {"image_id": 7, "category_id": ids[n], "segmentation": [np.ravel(corners(n)).tolist()]}
        for n in BOXES
    ]
    runs = np.flatnonzero(np.diff(np.r_[0, truth("car").T.ravel(), 0]))
    counts = np.diff(np.r_[0, runs, 12_000]).tolist()
    annotations[1]["segmentation"] = {"size": [100, 120], "counts": counts}
    annotations.append({"image_id": 8, "category_id": 1, "bbox": [0, 0, 5, 5]})
    coco = tmp_path / "coco.json"
    images = [{"id": i, "file_name": f"x/{i}.png", "height": 100, "width": 120} for i in (7, 8)]
    categories = [{"id": i, "name": n} for n, i in ids.items()]
    coco.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    found = labels(read_features(coco, PLAIN, image=Path("7.png")))
    assert all((found[n] == truth(n)).all() for n in ("ship", "car"))
    assert read_features(coco, PLAIN, image=Path("8.png")).features[0].kind == "box"
    with pytest.raises(ValueError, match="0 of 2 images called 9.png"):
        read_features(coco, PLAIN, image=Path("9.png"))
    with pytest.raises(ValueError, match="120 x 100 pixels; this one has 50 x 50"):
        read_features(labelme, Grid(50, 50))


def test_packed_run_lengths_are_unpacked():
    # three numbers below 16 are a letter each, from '0' on
    assert unpack_runs("444") == [4, 4, 4]
    assert unpack_runs("P1442") == [32, 4, 4, 6]  # the fourth is told as its way from the second
    mask = decode_runs("444", (4, 3))
    assert mask.tolist() == [[0, 1, 0]] * 4
    with pytest.raises(ValueError, match="do not fill"):
        decode_runs([3, 3], (4, 3))


def test_points_and_boxes_choose_the_masks_under_them():
    masks = np.zeros((20, 20), np.uint8)
    masks[:10, :10], masks[:10, 10:], masks[12:18, 12:18] = 1, 2, 3
    point = Feature(shapely.Point(3.5, 4.5), "a", "point")
    assert (paint([point], "a", (20, 20), mask_map=masks) == (masks == 1)).all()
    box = Feature(shapely.box(11, 8, 19, 19), "a", "box")
    assert (paint([box], "a", (20, 20), mask_map=masks) == (masks == 3)).all()
    nothing = Feature(shapely.box(0, 14, 4, 18), "a", "box")
    assert paint([nothing], "a", (20, 20), mask_map=masks).sum() == 16
    assert paint([point], "a", (20, 20)).sum() == 0
    moved = paint([point], "a", (10, 10), corner=(2, 3), mask_map=masks[2:12, 3:13])
    assert (moved == (masks[2:12, 3:13] == 1)).all()


def test_small_objects_lie_over_large_ones_and_what_is_ignored_does_not_count():
    field = Feature(shapely.box(0, 0, 20, 20), "field", "area")
    house = Feature(shapely.box(5, 5, 8, 8), "house", "area")
    unclear = Feature(shapely.box(10, 10, 12, 12), "ignore", "area")
    speck = Feature(shapely.box(15.1, 15.1, 15.3, 15.3), "house", "area")
    label = paint([speck, unclear, house, field], "field", (20, 20))
    assert (label == 0).sum() == 10 and (label == 255).sum() == 4
    assert paint([field, house, speck], "house", (20, 20)).sum() == 10


def test_windows_hold_clusters_and_no_object_is_left_without_one():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 900, (60, 2))
    features = [Feature(shapely.box(x, y, x + 12, y + 8), "a", "area") for x, y in corners]
    features.append(Feature(shapely.box(100, 300, 700, 900), "a", "area"))
    found = find_windows(features, 128, (1000, 1000))
    held = sorted(i for _, members in found for i in members)
    assert held == list(range(61)) and len(found) < 45
    for (y, x), members in found:
        frame = shapely.box(x, y, x + 128, y + 128)
        assert 0 <= y <= 872 and 0 <= x <= 872
        if 60 in members:
            share = features[60].shape.intersection(frame).area / 128**2
            assert members == [60] and 0.3 < share < 0.7
        else:
            assert all(frame.covers(features[i].shape) for i in members)
    assert too_large(features, 128) == 1
    assert find_windows(features[:1], 2000, (1000, 1000)) == [((0, 0), [0])]
