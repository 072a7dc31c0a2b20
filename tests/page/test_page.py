"""The whole way in a real browser: mark, find, correct, export, killed and there again."""

import json
import os
import urllib.request
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import from_origin
from skimage.measure import label as components

from mgcl.datasets.synthetic.scenes import paint_scene
from mgcl.files import copy_file
from tests.page.browser import Program, ask, chromium, click, look_at, need_browser, searched, wait
from tests.page.scenes import middle, paint
from tests.small_run import REPOSITORY

KINDS = {"tank": 1, "diamond": 2}  # classes of the synthetic scenes
PICTURE = REPOSITORY / "docs/images/page.png"


@pytest.fixture(autouse=True)
def browser():
    need_browser()


def write_synthetic_scenes(folder: Path, count: int) -> list[np.ndarray]:
    """Scenes that show tanks and diamonds in turn; labels of 0, 1 tank, 2 diamond."""
    folder.mkdir()
    labels = []
    for number in range(count):
        image, ids = paint_scene(256, list(KINDS.values())[number % 2], 7, number)
        Image.fromarray(image).save(folder / f"{number:03d}.png")
        labels.append(np.select([ids == kind + 1 for kind in KINDS.values()], [1, 2]))
    return labels


def inside(where: np.ndarray) -> tuple[int, int]:
    """(y, x) in the middle of the largest piece."""
    pieces = components(where)
    places = np.argwhere(pieces == np.bincount(pieces.ravel())[1:].argmax() + 1)
    y, x = places[np.square(places - places.mean(axis=0)).sum(axis=1).argmin()]
    return int(y), int(x)


def found(address: str, picture: int, threshold: float = 0.5) -> np.ndarray:
    """Numbers of the classes that are found, (H, W), as the page gets them."""
    path = f"{address}api/pictures/{picture}/0/0/0/planes"
    with urllib.request.urlopen(path) as answer:
        shape = [int(n) for n in answer.headers["X-Shape"].split(",")[:3]]
        best, level, _ = np.frombuffer(zlib.decompress(answer.read()), np.uint8).reshape(shape)
    return np.where(level > int(255 * threshold), best, 0)


def iou(address: str, labels: list[np.ndarray]) -> float:
    """Mean over both classes, of all scenes."""
    maps = [found(address, n) for n in range(len(labels))]
    scores = []
    for number in (1, 2):
        pairs = [(m == number, label == number) for m, label in zip(maps, labels, strict=True)]
        scores.append(sum((a & b).sum() for a, b in pairs) / sum((a | b).sum() for a, b in pairs))
    return float(np.mean(scores))


def test_mark_find_correct_export_and_all_is_there_after_a_kill(tmp_path):
    labels = write_synthetic_scenes(tmp_path / "scenes", 12)
    program = Program(tmp_path / "scenes")
    with chromium() as page:
        page.goto(program.address)
        wait(page, "window.page && window.page.state.status")
        assert "Click an object" in page.inner_text("#hint")
        for number, name in enumerate(KINDS, start=1):
            page.fill("#new-name", name)
            page.press("#new-name", "Enter")
            wait(page, "(n) => window.page.state.chosen === n", number)
            look_at(page, number - 1)
            click(page, *inside(labels[number - 1] == number))
        searched(page)
        before = iou(program.address, labels)
        assert before > 0.3

        # the threshold: what is counted follows while it moves, and it is kept
        pixels = page.locator("#totals td").nth(2).inner_text()
        page.focus("#threshold")
        for _ in range(20):
            page.keyboard.press("ArrowRight")
        assert page.inner_text("#threshold-text") == "0.70"
        assert page.locator("#totals td").nth(2).inner_text() != pixels
        for _ in range(20):
            page.keyboard.press("ArrowLeft")
        page.keyboard.press("Escape")

        # the largest false alarm of all
        wrong = [(found(program.address, n), label) for n, label in enumerate(labels)]
        alarms = [(m != label) & (m > 0) & (label == 0) for m, label in wrong]
        worst = max(
            range(len(labels)),
            key=lambda n: np.bincount(components(alarms[n]).ravel())[1:].max(initial=0),
        )
        y, x = inside(alarms[worst])
        page.keyboard.press(str(wrong[worst][0][y, x]))
        look_at(page, worst)
        click(page, y, x, button="right")
        searched(page)
        after = iou(program.address, labels)
        assert after > before
        assert ask(page, "api/results?number=1")["changes"][worst][1] > 0

        page.keyboard.press("Control+z")
        wait(page, "window.page.state.status.redo === 1")
        page.keyboard.press("Control+Shift+Z")
        wait(page, "window.page.state.status.redo === 0")
        searched(page)
        assert iou(program.address, labels) == after

        page.click("#export")
        page.click("#export-begin")
        wait(page, "document.getElementById('export-words').textContent.startsWith('Written')")
        maps = [found(program.address, n) for n in range(len(labels))]
        state, results = ask(page, "api/state"), ask(page, "api/results?number=2")
    program.kill()
    out = tmp_path / "scenes/mgcl-page/export"
    for number, shown in enumerate(maps):
        assert (np.array(Image.open(out / f"masks/{number:03d}.png")) == shown).all()
    assert len(json.loads((out / "coco.json").read_text())["images"]) == len(labels)

    program = Program(tmp_path / "scenes")
    with chromium(color_scheme="dark") as page:
        page.goto(program.address)
        searched(page)
        again = ask(page, "api/state")
        for key in ("classes", "marked", "threshold", "said", "problems"):
            assert again[key] == state[key]
        assert ask(page, "api/results?number=2")["order"] == results["order"]
        for number, shown in enumerate(maps):
            assert (found(program.address, number) == shown).all()
        page.keyboard.press("?")
        assert page.locator("#help").is_visible()
        page.keyboard.press("Escape")
        if os.environ.get("MGCL_DRAW_PAGE"):
            draw(page, tmp_path)
    program.kill()


def draw(page, folder: Path) -> None:
    """The picture of the documentation; four of all sizes and colours beside it, to look at."""
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        for width, height in ((800, 1000), (1400, 850)):
            page.set_viewport_size({"width": width, "height": height})
            look_at(page, 1)
            page.wait_for_timeout(1500)
            page.screenshot(path=folder / f"page_{width}_{scheme}.png")
    small = Image.open(folder / "page_1400_light.png").convert("P", palette=Image.Palette.ADAPTIVE)
    small.save(folder / "page.png", optimize=True)
    copy_file(folder / "page.png", PICTURE)


def write_scene(path: Path) -> np.ndarray:
    """A georeferenced scene of 6,016 pixels, with squares of 112 to 156; its label."""
    image, label = (
        np.kron(a, np.ones((4, 4, 1)[: a.ndim], np.uint8)) for a in paint(3, (1504, 1504))
    )
    place = {"crs": CRS.from_epsg(32633), "transform": from_origin(500_000, 5_000_000, 0.5, 0.5)}
    how = {"driver": "GTiff", "count": 3, "dtype": "uint8", "tiled": True}
    with rasterio.open(path, "w", height=6016, width=6016, **how, **place) as file:
        file.write(image.transpose(2, 0, 1))
    return label


def test_a_scene_of_6000_pixels_is_marked_and_found_by_its_parts(tmp_path):
    label = write_scene(tmp_path / "scene.tif")
    program = Program(tmp_path / "scene.tif", "--window", 1024, "--overlap", 0.1)
    with chromium() as page:
        page.goto(program.address)
        wait(page, "window.page && window.page.state.status && window.page.viewer.picture === 0")
        assert page.evaluate("window.page.state.items.length") == 144
        page.fill("#new-name", "red")
        page.press("#new-name", "Enter")
        wait(page, "window.page.state.chosen === 1")
        page.evaluate("window.page.viewer.show(0, 0, 600, 600)")
        click(page, *middle(label[:512, :512], 1))
        marks = np.array(Image.open(tmp_path / "mgcl-page-scene/labels/scene.tif.png"))
        assert marks.shape == label.shape and 5000 < (marks == 1).sum() < 50_000
        page.keyboard.press("0")  # the whole scene: from its overviews
        searched(page)
        results = ask(page, "api/results?number=1")
        assert len(results["order"]) == 144 and min(results["scores"]) > 0
        # the page asks for the results once it knows that all is searched
        wait(page, "document.querySelector('#totals td:nth-child(4)').innerText.trim() !== '0'")
        page.click("#export")
        page.click("#export-begin")
        wait(page, "document.getElementById('export-words').textContent.startsWith('Written')")
        if os.environ.get("MGCL_DRAW_PAGE"):
            page.keyboard.press("Escape")
            page.wait_for_timeout(2000)
            page.screenshot(path=tmp_path / "scene.png")
    program.kill()
    with rasterio.open(tmp_path / "mgcl-page-scene/export/masks/scene.tif") as file:
        assert file.crs == CRS.from_epsg(32633)
        shown = file.read(1) == 1
    red = label == 1
    assert (shown & red).sum() / red.sum() > 0.7
    assert shown[label == 0].mean() < 0.3


def test_of_5000_pictures_only_those_in_sight_are_there(tmp_path):
    (tmp_path / "many").mkdir()
    image, _ = paint(1)
    Image.fromarray(image).save(tmp_path / "many/0000.png")
    for number in range(1, 5000):
        os.link(tmp_path / "many/0000.png", tmp_path / f"many/{number:04d}.png")
    program = Program(tmp_path / "many")
    with chromium() as page:
        page.goto(program.address)
        wait(page, "window.page && window.page.gallery.made.size > 4 && window.page.state.opened")
        assert page.evaluate("window.page.state.items.length") == 5000
        page.evaluate("document.getElementById('gallery').scrollTop = 200000")
        wait(
            page,
            "window.page.gallery.visible.every((item) => window.page.gallery.images.has(item))",
        )
        assert page.evaluate("document.getElementsByClassName('cell').length") < 40
        assert page.evaluate("window.page.gallery.visible[0]") > 2000
        quick = (
            "async () => { const t = performance.now(); await (await fetch('api/results')).json();"
        )
        assert page.evaluate(f"{quick} return performance.now() - t; }}") < 3000
    program.kill()
