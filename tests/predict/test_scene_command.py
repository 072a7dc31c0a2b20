"""Real scenes on the command line, with the matcher: what is written, continued and replaced."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import from_origin

from mgcl.predict.command import main
from mgcl.predict.inputs import find_queries
from mgcl.predict.layers import write_layer
from mgcl.predict.memory import check_memory
from mgcl.predict.objects import Found
from mgcl.predict.results import Results
from mgcl.predict.vectors import Grid

RED, BLUE, GROUND = (220, 40, 60), (40, 60, 210), (70, 120, 60)
SIZE = (320, 384)
PLACE = from_origin(500_000, 5_000_000, 0.5, 0.5)
UTM = CRS.from_epsg(32633)
BOXES = {"red": [(20, 30, 90, 100), (250, 200, 330, 260)], "blue": [(150, 60, 220, 130)]}


def a_scene() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Noisy ground with squares; where each class is."""
    rng = np.random.default_rng(0)
    image = np.tile(np.array(GROUND, float), (*SIZE, 1))
    truth = {}
    for name, colour in (("red", RED), ("blue", BLUE)):
        truth[name] = np.zeros(SIZE, bool)
        for x0, y0, x1, y1 in BOXES[name]:
            image[y0:y1, x0:x1] = colour
            truth[name][y0:y1, x0:x1] = True
    noisy = image + rng.normal(0, 6, image.shape)
    return noisy.clip(1, 255).astype(np.uint8), truth


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scene")
    image, _ = a_scene()
    how = {"driver": "GTiff", "height": SIZE[0], "width": SIZE[1], "count": 3, "dtype": "uint8"}
    with rasterio.open(root / "scene.tif", "w", **how, crs=UTM, transform=PLACE) as file:
        file.write(image.transpose(2, 0, 1))
    Image.fromarray(image).save(root / "plain.png")
    marked = [
        Found(shapely.box(*BOXES[n][0]), i, 1.0, 1) for i, n in enumerate(("red", "blue"), start=1)
    ]
    write_layer(root / "marks.gpkg", marked, ["red", "blue"], Grid(*SIZE, UTM, PLACE))
    return root


def run(root: Path, to: Path, *words: object) -> int:
    line = ["--support", root / "scene.tif", root / "marks.gpkg", "--window", 128, "--to", to]
    return main([str(word) for word in [*line, "--device", "cpu", *words]])


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return (found & truth).sum() / (found | truth).sum()


def test_marks_in_a_scene_find_their_classes_in_it(folder, tmp_path, capsys):
    to = tmp_path / "out"
    assert run(folder, to, "--query", folder / "scene.tif", "--min-area", 40, "--smooth") == 0
    said = capsys.readouterr().out
    assert "2 windows around 2 marked objects" in said and "1 of 1 images segmented" in said
    _, truth = a_scene()
    with rasterio.open(to / "masks/scene.tif") as file:
        assert file.crs == UTM and file.transform == PLACE
        classes = file.read(1)
    assert overlap(classes == 1, truth["red"]) > 0.6 and overlap(classes == 2, truth["blue"]) > 0.6
    meta, _, geometry, columns = pyogrio.raw.read(to / "objects/scene.gpkg")
    rows = dict(zip(meta["fields"], columns, strict=True))
    assert CRS.from_user_input(meta["crs"]) == UTM and set(rows["class"]) == {"red", "blue"}
    assert rows["area_m2"].min() >= 40 and ((rows["score"] > 0.5) & (rows["score"] <= 1)).all()
    assert shapely.from_wkb(geometry)[0].within(shapely.box(500_000, 4_999_840, 500_192, 5_000_000))
    facts = json.loads((to / "predict.json").read_text())
    assert facts["checkpoint"] == "matcher" and facts["queries"]["scene"]["unit"] == "m²"
    with Image.open(to / "overview.png") as picture:
        assert 900 < picture.width < 1100


def test_plain_images_get_pixels_and_coco(folder, tmp_path):
    words = ["--query", folder / "plain.png", "--overlap", 0, "--probabilities", "--min-area", 0]
    assert run(folder, tmp_path, *words) == 0
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert [c["name"] for c in coco["categories"]] == ["red", "blue"]
    assert coco["images"][0]["width"] == SIZE[1] and len(coco["annotations"]) >= 3
    with Image.open(tmp_path / "masks/plain.png") as mask:
        classes = np.asarray(mask)
    assert sum(a["area"] for a in coco["annotations"]) == (classes > 0).sum()


def test_shards_make_the_same_bytes_as_one_process(folder, tmp_path, capsys):
    words = ["--query", folder / "scene.tif", folder / "plain.png", "--objects", "none"]
    assert run(folder, tmp_path / "one", *words) == 0
    for i in (2, 0, 1):
        capsys.readouterr()
        assert run(folder, tmp_path / "three", *words, "--shard", f"{i}/3") == 0
    assert "2 of 2 images segmented" in capsys.readouterr().out
    for name in "masks/scene.tif", "masks/plain.png", "overlays/scene.png":
        one, three = ((tmp_path / which / name).read_bytes() for which in ("one", "three"))
        assert one == three


def test_a_run_again_goes_on_and_another_one_replaces(folder, tmp_path, capsys):
    first = ["--query", folder / "plain.png", "--overlap", 0]
    assert run(folder, tmp_path, *first) == 0
    mask = tmp_path / "masks/plain.png"
    made = mask.stat().st_mtime_ns
    assert run(folder, tmp_path, *first) == 0 and mask.stat().st_mtime_ns == made
    mask.unlink()
    assert run(folder, tmp_path, *first) == 0 and mask.exists(), "what is missing is made again"
    capsys.readouterr()
    other = ["--query", folder / "scene.tif", "--overlap", 0, "--threshold", 0.7]
    assert run(folder, tmp_path, *other) == 0
    assert "the results of 1 query were made otherwise: deleted" in capsys.readouterr().out
    left = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("*/*.*"))
    assert [p for p in left if not p.startswith(".work")] == [
        "masks/scene.tif",
        "objects/scene.gpkg",
        "overlays/scene.png",
    ]


WRONG = {
    "it may span 16 to 16,384": ["--window", "40000"],
    "give either --support": ["--supports", "x.toml"],
    "no attribute 'kind'": ["--field", "kind"],
    "give one or three of 1 to 3": ["--bands", "9,1,2"],
    "an area, 0 or more": ["--min-area", "-3"],
    "a probability from 0 to 1": ["--min-score", "7"],
    "a probability between 0 and 1": ["--threshold", "0"],
    "no such file: /": ["--support", "a.png", "no/such.png"],
    "none for the matcher": ["--checkpoint", "no/such.pt"],
}


@pytest.mark.parametrize("message", WRONG)
def test_a_mistake_is_said_before_anything_is_written(
    message, folder, tmp_path, capsys, monkeypatch
):
    try:
        code = run(folder, tmp_path / "out", "--query", folder / "plain.png", *WRONG[message])
    except SystemExit as end:  # argparse's own
        code = end.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out/masks").exists()
    (tmp_path / "file").touch()
    assert run(folder, tmp_path / "file", "--query", folder / "plain.png") == 2
    assert "is a file: give a folder" in capsys.readouterr().err
    assert run(folder, tmp_path / "file" / "out", "--query", folder / "plain.png") == 2
    assert f"{tmp_path / 'file'} is a file: give a folder" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # not even for root
    assert run(folder, tmp_path / "new" / "out", "--query", folder / "plain.png") == 2
    assert f"{tmp_path} cannot be written to: give another folder" in capsys.readouterr().err


def test_what_does_not_fit_the_memory_is_refused_with_figures(monkeypatch):
    class Huge:
        path, height, width = "scene.tif", 100_000, 100_000

    class Model:
        votes, batch_size = 5, 8

    monkeypatch.setattr("mgcl.predict.memory.available", lambda: 2_000_000_000)
    check_memory(Model, Huge, 128)
    with pytest.raises(ValueError, match="windows of 8192 pixels take about .* GB, and 2.0 GB"):
        check_memory(Model, Huge, 8192)


def test_labels_are_no_queries_and_text_files_name_queries(tmp_path):
    for name in ("a.png", "a_mask.png", "labels/a.png", "b_label.png", "mine.png", "q/c.tif"):
        path = tmp_path / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    given = {"results": tmp_path / "out", "labels": [tmp_path / "d/mine.png"]}
    found = find_queries([str(tmp_path / "d")], **given)
    assert sorted(found) == ["a", "b_label", "q/c"], "b_label labels nothing that is there"
    (tmp_path / "d/list.txt").write_text(f"# mine\n{tmp_path}/d/a.png\n\nq/c.tif\n")
    named = find_queries([str(tmp_path / "d/list.txt")], **given)
    assert [p.name for p in named.values()] == ["a.png", "c.tif"]


def test_results_beside_pictures_hide_no_picture_and_are_none(tmp_path):
    names = ("P.png", "predict.json", "overview.png", "overlays/P.png", "masks/P.png", "more/R.tif")
    for name in names:
        path = tmp_path / "q" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    beside = find_queries([str(tmp_path / "q")], results=tmp_path / "other")
    assert sorted(beside) == ["P", "more/R"]
    above = find_queries([str(tmp_path)], results=tmp_path / "other")
    assert sorted(above) == ["q/P", "q/more/R"]
    assert sorted(find_queries([f"{tmp_path}/q/*.png"], results=tmp_path / "other")) == ["P"]
    assert list(find_queries([f"{tmp_path}/q/overlays"], results=tmp_path / "other")) == ["P"]


def test_a_pattern_passes_over_what_runs_made_below_it(tmp_path):
    for name in ("P.png", "predict.json", "overlays/P.png", ".work/1.png", "in/out/predict.json"):
        (tmp_path / "q" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "q" / name).touch()
    for name in ("in/R.png", "in/out/masks/R.png", "in/out/overview.png"):
        (tmp_path / "q" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "q" / name).touch()
    for pattern, found in {"q/**/*.png": ["P", "R"], "q/overlays/*.png": ["P"]}.items():
        named = find_queries([f"{tmp_path}/{pattern}"], results=tmp_path / "other")
        assert sorted(named) == found, pattern


def test_a_query_that_fails_now_does_not_count_by_its_earlier_results(folder, tmp_path, capsys):
    query, to = tmp_path / "a.png", tmp_path / "out"
    query.write_bytes((folder / "plain.png").read_bytes())
    words = ["--overlap", 0, "--query", query, folder / "plain.png"]
    assert run(folder, to, *words) == 0 and "2 of 2 images" in capsys.readouterr().out
    query.write_bytes(query.read_bytes()[:500])
    assert run(folder, to, *words) == 1
    said = capsys.readouterr()
    assert "1 of 2 images segmented" in said.out and "left out" in said.err


def test_specks_are_no_objects_unless_they_are_wanted(folder, tmp_path):
    def pixels(*words: object) -> list[int]:
        assert run(folder, tmp_path, "--query", folder / "plain.png", *words) == 0
        layer = json.loads((tmp_path / "objects/plain.geojson").read_text())
        return sorted(f["properties"]["pixels"] for f in layer["features"])

    words = ["--overlap", 0.2, "--threshold", 0.3, "--keep-present", 1]
    everything = pixels(*words, "--min-area", 0)
    assert everything[0] < 16
    # a window of 128 pixels is shown at 256: 8 x 8 pixels there are 4 x 4 of the image
    assert pixels(*words) == [n for n in everything if n >= 16]


def test_objects_below_the_wanted_score_are_dropped(folder, tmp_path):
    def scores(*words: object) -> list[float]:
        assert run(folder, tmp_path, "--query", folder / "plain.png", *words) == 0
        layer = json.loads((tmp_path / "objects/plain.geojson").read_text())
        return sorted(f["properties"]["score"] for f in layer["features"])

    words = ["--overlap", 0, "--keep-present", 1]
    found = scores(*words)
    middle = (found[0] + found[-1]) / 2
    assert scores(*words, "--min-score", middle) == [s for s in found if s >= middle]


def test_negatives_and_thresholds_of_a_class_act_on_that_class_alone(folder, tmp_path):
    shutil.copy(folder / "plain.png", tmp_path / "a.png")
    _, truth = a_scene()
    second = np.zeros(SIZE, np.uint8)
    x0, y0, x1, y1 = BOXES["red"][1]
    second[y0:y1, x0:x1] = 255
    Image.fromarray(second).save(tmp_path / "second.png")
    for name in ("red", "blue"):
        x0, y0, x1, y1 = BOXES[name][0]
        label = np.zeros(SIZE, np.uint8)
        label[y0:y1, x0:x1] = 255
        Image.fromarray(label).save(tmp_path / f"{name}.png")

    def found(extra: str, red: str = "") -> np.ndarray:
        text = f"""
            [[classes]]
            name = "red"
            {red}
            supports = [{{image = "a.png", label = "red.png"}}]
            {extra}
            [[classes]]
            name = "blue"
            supports = [{{image = "a.png", label = "blue.png"}}]
        """
        (tmp_path / "s.toml").write_text(text)
        words = ["--supports", tmp_path / "s.toml", "--window", 128, "--device", "cpu"]
        words += ["--query", tmp_path / "a.png", "--keep-present", 1, "--overlap", 0]
        words += ["--to", tmp_path / "out"]
        assert main([str(word) for word in words]) == 0
        with Image.open(tmp_path / "out/masks/a.png") as mask:
            return np.asarray(mask)

    plain = found("")
    there = (second > 0) & truth["red"]
    assert (plain[there] == 1).mean() > 0.5
    against = found('[[classes.negatives]]\nimage = "a.png"\nlabel = "second.png"')
    assert (against[there] == 1).mean() < (plain[there] == 1).mean() / 2
    assert (against[truth["blue"]] == 2).mean() > 0.8
    strict = found("", "threshold = 0.99")
    assert (strict == 1).sum() < (plain == 1).sum() and (strict == 2).sum() >= (plain == 2).sum()


def test_results_do_not_go_among_the_supports_or_over_another_s_overview(tmp_path, capsys):
    (tmp_path / "sup/ship").mkdir(parents=True)
    line = ["--supports", str(tmp_path / "sup"), "--query", "a.png", "--to"]
    for to in ("sup", "sup/out"):
        assert main([*line, str(tmp_path / to)]) == 2
        assert "lies in the supports' folder" in capsys.readouterr().err
    (tmp_path / "overview.png").touch()
    with pytest.raises(ValueError, match="overview.png is there and is no result"):
        Results(tmp_path)


def test_a_second_command_into_the_same_folder_counts_its_own_queries(folder, tmp_path, capsys):
    words = ["--overlap", 0, "--objects", "none", "--threshold", 0.9, "--query"]
    assert run(folder, tmp_path, *words, folder / "scene.tif") == 0
    capsys.readouterr()
    assert run(folder, tmp_path, *words, folder / "plain.png") == 0
    said = capsys.readouterr().out
    assert "1 of 1 images segmented" in said and "m²" not in said
    assert len(json.loads((tmp_path / "predict.json").read_text())["queries"]) == 2


def test_a_run_says_what_it_takes_and_goes_on_where_it_was(folder, tmp_path, capsys):
    words = ["--query", folder / "scene.tif", "--objects", "none"]
    assert run(folder, tmp_path, *words, "--shard", "0/2") == 0
    said = capsys.readouterr().out
    assert "1 image, 20 windows; about 0.0" in said and "GB of memory" in said
    assert run(folder, tmp_path, *words, "--shard", "1/2") == 0
    assert "1 image, 20 windows, 10 of them done" in capsys.readouterr().out
