"""Marks found everywhere: as `mgcl.predict` finds them, again after every mark, kept, exported."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import from_origin

from mgcl.page.pictures import Pictures
from mgcl.page.session import Session
from mgcl.page.tally import count_objects
from mgcl.predict.command import main as predict
from mgcl.predict.defaults import KEEP_PRESENT
from mgcl.predict.finder import Finder, InMemory
from tests.page.scenes import SIDE, begin, iou, middle, paint, settle, write_scenes

RED, BLUE = 1, 2
LEVEL = 2  # of the masks that are clicked


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page") / "scenes"


@pytest.fixture(scope="module")
def labels(folder):
    return write_scenes(folder, 5)


@pytest.fixture(scope="module")
def session(folder, labels):
    made = begin(folder)
    for number, name in enumerate(("red", "blue"), start=1):
        made.project.add_class(name)
        assert made.click(made.by_key["000.png"], *middle(labels["000.png"], number), LEVEL, number)
    settle(made)
    yield made
    made.close()


def test_a_click_on_each_class_finds_it_in_all_scenes(session, labels):
    assert iou(session, labels, RED, 0.5) > 0.5
    assert iou(session, labels, BLUE, 0.5) > 0.5
    assert session.search.status().searched == 5


def test_the_page_finds_what_predict_finds(session, folder, tmp_path):
    project = session.folder / "project.toml"
    words = ["--supports", project, "--query", folder, "--to", tmp_path / "out", "--device", "cpu"]
    assert predict([str(word) for word in words]) == 0
    for key, picture in session.by_key.items():
        theirs = np.array(Image.open(tmp_path / "out" / "masks" / key))
        best, level = session.search.planes(picture)
        assert (np.where(level > 127, best, 0) != theirs).mean() < 0.002  # kept in 8 and 16 bits


def test_the_export_is_what_is_shown(session, labels):
    assert session.begin_export()
    while session.exported["running"]:
        pass
    assert session.exported["words"] == []
    out = session.folder / "export"
    coco = json.loads((out / "coco.json").read_text())
    assert [c["name"] for c in coco["categories"]] == ["red", "blue"]
    for key, picture in session.by_key.items():
        best, level = session.search.planes(picture)
        shown = np.where(level > 127, best, 0)
        assert (np.array(Image.open(out / "masks" / key)) == shown).all()
    counted = session.objects(0.5)
    assert len(coco["annotations"]) == sum(counted.values())


def test_a_project_segments_another_folder_without_the_page(session, tmp_path):
    labels = write_scenes(tmp_path / "others", 2, first=50)
    words = ["--supports", session.folder / "project.toml", "--query", tmp_path / "others"]
    words += ["--to", tmp_path / "out", "--device", "cpu"]
    assert predict([str(word) for word in words]) == 0
    found = {k: np.array(Image.open(tmp_path / "out" / "masks" / k)) for k in labels}
    for number in (RED, BLUE):
        both = sum(((found[k] == number) & (labels[k] == number)).sum() for k in labels)
        either = sum(((found[k] == number) | (labels[k] == number)).sum() for k in labels)
        assert both / either > 0.5


def test_what_was_found_is_there_again_without_encoding_anything(folder, labels, monkeypatch):
    first = begin(folder, project=folder.parent / "again")
    first.project.add_class("red")
    first.click(first.by_key["001.png"], *middle(labels["001.png"], RED), LEVEL, RED)
    settle(first)
    shown = [first.search.planes(p) for p in first.pictures.all]
    first.close()
    second = Session(folder, project=folder.parent / "again", window=SIDE, device="cpu")
    monkeypatch.setattr(Finder, "encode", None)
    second.search.start()
    settle(second)
    for picture, (best, level) in zip(second.pictures.all, shown, strict=True):
        again = second.search.planes(picture)
        assert (again[0] == best).all() and (again[1] == level).all()
    second.close()


def test_a_false_alarm_that_is_marked_goes_and_comes_back_with_undo(folder, labels):
    session = begin(folder, project=folder.parent / "false alarm")
    session.project.add_class("red")
    picture = session.by_key["002.png"]
    session.click(session.by_key["000.png"], *middle(labels["000.png"], RED), LEVEL, RED)
    settle(session)
    blue = middle(labels["002.png"], BLUE)
    before = session.search.planes(picture)[1][blue]
    session.click(picture, *blue, LEVEL, session.value(RED, True))
    settle(session)
    assert session.search.planes(picture)[1][blue] < before
    assert session.search.planes(picture, before=True)[1][blue] == before
    session.project.undo()
    session.search.ask()
    settle(session)
    assert session.search.planes(picture)[1][blue] == before
    session.close()


def test_a_second_click_takes_a_mask_away(session, labels):
    picture, place = session.by_key["003.png"], middle(labels["003.png"], RED)
    assert session.click(picture, *place, LEVEL, RED)
    marked = (session.project.marks.plane("003.png") == RED).sum()
    assert marked > 300
    assert session.click(picture, *place, LEVEL, RED)
    assert not session.project.marks.plane("003.png").any()


def test_masks_grow_with_their_level(session, labels):
    picture, place = session.by_key["000.png"], middle(labels["000.png"], RED)
    sizes = [session.regions.region(picture, *place, level)[1].sum() for level in range(4)]
    assert 0 < sizes[1] <= sizes[2] <= sizes[3]


def test_brush_and_eraser(session):
    picture = session.by_key["004.png"]
    assert session.stroke(picture, [(10, 10), (40, 10)], 3, BLUE)
    plane = session.project.marks.plane("004.png")
    assert (plane[10, 10:41] == BLUE).all() and plane[20, 20] == 0
    assert (plane == BLUE).sum() == pytest.approx(6 * 30 + 28, abs=60)
    assert session.stroke(picture, [(-20, 10), (60, 10)], 8, 0)
    assert not session.project.marks.plane("004.png").any()
    assert not session.stroke(picture, [(500, 500)], 3, BLUE)


def test_objects_are_counted_by_their_edges():
    best = np.ones((6, 6), np.uint8)
    level = np.zeros((6, 6), np.uint8)
    level[0, 0] = level[1, 1] = level[4:, 4:] = 200
    assert count_objects(best, level, 0.5) == {1: 3}
    assert count_objects(best, level, 0.9) == {}


def test_a_large_picture_is_blended_as_predict_does(tmp_path):
    image, label = paint(7, (3 * SIDE, 2 * SIDE))
    Image.fromarray(image).save(tmp_path / "large.png")
    session = begin(tmp_path / "large.png")
    assert session.folder == tmp_path / "mgcl-page-large"
    session.project.add_class("red")
    (picture,) = session.pictures.all
    session.click(picture, *middle(label[:SIDE], RED), LEVEL, RED)
    settle(session)
    (one,) = session.search.rounds_of().values()
    finder = session.encoder.finder()
    finder.learn({"": one.examples})
    rows = [
        band.margins[0][0]
        for band in finder.bands(InMemory(image), SIDE, keep_present=KEEP_PRESENT)
    ]
    theirs = np.concatenate([row.sigmoid().numpy() for row in rows])
    level = session.search.planes(picture)[1]
    assert np.abs(level / 255 - theirs).max() < 0.02
    assert iou(session, {picture.key: label}, RED, 0.5) > 0.4
    session.close()


def test_overviews_are_made_once_by_whoever_comes_first(tmp_path):
    image, _ = paint(5, (10 * SIDE, 9 * SIDE))
    Image.fromarray(image).save(tmp_path / "large.png")
    pictures = Pictures(tmp_path / "large.png", tmp_path / "cache")
    assert [p.levels for p in pictures.all] == [4]
    with ThreadPoolExecutor(8) as threads:  # as a gallery asks
        parts = list(threads.map(lambda item: pictures.part(item, 100), pictures.items * 3))
    assert all(max(part.shape[:2]) == 100 for part in parts)
    small = pictures.tile(pictures.all[0], 3, 0, 0)
    mean = image.reshape(160, 8, 144, 8, 3).mean(axis=(1, 3))
    assert small.shape == (160, 144, 3) and np.abs(small - mean).max() < 2.5


def test_a_georeferenced_scene_is_exported_in_its_place(tmp_path):
    image, label = paint(9)
    place = {"crs": CRS.from_epsg(32633), "transform": from_origin(500_000, 5_000_000, 0.5, 0.5)}
    how = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "scene.tif", "w", **how, **place) as file:
        file.write(image.transpose(2, 0, 1))
    session = begin(tmp_path)
    session.project.add_class("blue")
    session.click(session.pictures.all[0], *middle(label, BLUE), LEVEL, 1)
    settle(session)
    session.begin_export()
    while session.exported["running"]:
        pass
    with rasterio.open(session.folder / "export/masks/scene.tif") as file:
        assert file.crs == place["crs"] and file.transform == place["transform"]
        assert (file.read(1) == 1).any()
    assert (session.folder / "export/objects/scene.gpkg").exists()
    session.close()


def test_what_cannot_be_read_is_named_and_the_rest_works(tmp_path):
    labels = write_scenes(tmp_path, 2)
    (tmp_path / "torn.png").write_bytes((tmp_path / "000.png").read_bytes()[:3000])
    (tmp_path / "text.jpg").write_text("no picture")
    session = begin(tmp_path)
    session.project.add_class("red")
    session.click(session.by_key["000.png"], *middle(labels["000.png"], RED), LEVEL, RED)
    settle(session)
    assert set(session.pictures.problems) == {"torn.png", "text.jpg"}
    assert iou(session, labels, RED, 0.5) > 0.3  # nobody said what blue is
    session.close()


def test_an_empty_folder_opens(tmp_path):
    session = begin(tmp_path)
    settle(session)
    assert session.pictures.all == []
    session.close()


def test_own_results_and_marks_are_no_pictures(session, folder):
    assert len(Pictures(folder, folder / "nowhere").all) == 5


def test_results_beside_pictures_hide_no_picture(tmp_path):
    write_scenes(tmp_path, 1)
    shutil.copytree(tmp_path, tmp_path / "overlays")
    shutil.copy(tmp_path / "000.png", tmp_path / "overview.png")
    (tmp_path / "predict.json").write_text("{}")
    assert [picture.key for picture in Pictures(tmp_path, tmp_path / "cache").all] == ["000.png"]
