"""`python -m mgcl.predict` as its user meets it: what is read, written, named and refused."""

import errno
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mgcl.datasets.benchmarks import BENCHMARKS
from mgcl.datasets.lists import test_entries as entries_of_fold
from mgcl.files import DiskFullError
from mgcl.images.read import read_image
from mgcl.predict import run
from mgcl.predict.command import main
from mgcl.predict.foreground import read_foreground
from mgcl.predict.inputs import find_queries
from mgcl.predict.load import WINDOW, load_network, load_predictor
from tests.small_run import REPOSITORY, Pipeline

ISAID = BENCHMARKS["isaid"]


class Small:
    """The small run's checkpoint with three images of one class."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.root, self.masks = pipeline.root, pipeline.masks
        self.checkpoint = pipeline.folder / "best.pt"
        entries = entries_of_fold(ISAID, self.root / "splits", 0, published=True)
        self.label_id = entries[0].class_id + 1
        self.names = [e.name for e in entries if e.class_id == entries[0].class_id][:3]

    def image(self, k: int) -> Path:
        return ISAID.image_path(self.root, "val", self.names[k])

    def label(self, k: int) -> Path:
        return ISAID.label_path(self.root, "val", self.names[k])

    def run(self, *words: object, to: Path, supports: int = 1) -> int:
        line = ["--checkpoint", self.checkpoint, "--to", to, "--window", 64, "--device", "cpu"]
        line += ["--label-id", self.label_id, "--support"]
        for k in range(supports):
            line += [self.image(k), self.label(k)]
        return main([str(word) for word in [*line, *words]])


@pytest.fixture(scope="module")
def small(pipeline: Pipeline) -> Small:
    return Small(pipeline)


def array(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_masks_overlays_and_probabilities_are_those_of_the_predictor(small, tmp_path, capsys):
    query = tmp_path / "large.png"
    tiles = [read_image(small.image(k)) for k in (1, 2)]
    Image.fromarray(np.hstack([*tiles, tiles[0][:, :20]])).save(query)
    threshold = 0.4
    code = small.run(
        "--query", query, "--probabilities", "--threshold", threshold, to=tmp_path / "out"
    )
    assert code == 0 and "1 of 1 images segmented" in capsys.readouterr().out

    predictor = load_predictor(small.checkpoint, window=64, threshold=threshold, device="cpu")
    label = read_foreground(small.label(0), small.label_id)
    predictor.set_support([read_image(small.image(0))], [label])
    image = read_image(query)
    expected = predictor.predict(image)
    written = {kind: array(tmp_path / "out" / kind / "large.png") for kind in FOLDERS}
    assert (written["masks"] == 255 * expected.mask).all()
    assert written["probabilities"].dtype == np.uint16
    np.testing.assert_allclose(
        written["probabilities"] / 65535, expected.probability, atol=1 / 65535
    )
    changed = (written["overlays"] != image).any(axis=2)
    assert changed[expected.mask == 1].all() and written["overlays"].shape == image.shape
    assert array(tmp_path / "out" / "overview.png").shape[2] == 3


FOLDERS = ("masks", "overlays", "probabilities")


def test_five_supports_vote_and_a_run_may_be_repeated(small, tmp_path):
    for _ in range(2):
        assert small.run("--query", small.image(2), "--quiet", to=tmp_path, supports=2) == 0
    assert (tmp_path / "masks" / f"{small.names[2]}.png").exists()
    assert not (tmp_path / "probabilities").exists()


def test_an_unreadable_query_is_named_and_the_rest_goes_on(small, tmp_path, capsys):
    torn = tmp_path / "pictures" / "torn.png"
    torn.parent.mkdir()
    torn.write_bytes(small.image(1).read_bytes()[:500])
    shutil.copy(small.image(1), torn.with_name("whole.png"))
    assert small.run("--query", torn.parent, to=tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "left out:" in said.err and str(torn) in said.err and "1 of 2 images" in said.out
    assert [p.name for p in (tmp_path / "out" / "masks").iterdir()] == ["whole.png"]


@pytest.mark.parametrize("small_up_to", [64 * 64, 1 << 20])  # some and all are small
def test_queries_that_are_under_way_together_end_as_one_after_the_other_in_their_order(
    small, tmp_path, capsys, monkeypatch, small_up_to
):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    tiles = [read_image(small.image(k)) for k in range(3)]
    for number in range(7):
        tile = np.roll(tiles[number % 3], 5 * number, axis=1)
        wide = number in (2, 5)
        Image.fromarray(np.hstack([tile, tile]) if wide else tile).save(pictures / f"{number}.png")
    (pictures / "4.png").write_bytes(b"no picture")
    outcomes = []
    for at_once, up_to in ((1, 0), (run.AT_ONCE, small_up_to)):
        monkeypatch.setattr(run, "AT_ONCE", at_once)
        monkeypatch.setattr(run, "SMALL", up_to)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert small.run("--query", pictures, "--probabilities", to=tmp_path / "out") == 1
        files = {f: f.read_bytes() for f in sorted((tmp_path / "out").rglob("*")) if f.is_file()}
        outcomes.append((capsys.readouterr().out, files))
    (said, files), (said_together, files_together) = outcomes
    assert said_together == said
    assert re.findall(r"^(\d): ", said, re.MULTILINE) == list("012356")
    assert files_together == files


def test_an_error_that_ends_a_run_ends_what_is_under_way_and_begins_no_more(
    small, tmp_path, capsys, monkeypatch
):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(10, 22):
        shutil.copy(small.image(1), pictures / f"{number}.png")
    begun, compared, turns = [], [], []

    def one(self, name, path, part):
        begun.append(name)
        turns.append(self.finder.turns)
        if name == "10":
            time.sleep(0.1)
            raise DiskFullError(errno.ENOSPC, "No space left on device", str(tmp_path))
        with self.finder.turns.with_network():
            compared.append(name)
            time.sleep(0.5)
        return ""

    monkeypatch.setattr(run.Run, "_one", one)
    assert small.run("--query", pictures, to=tmp_path / "out") == 1
    assert "takes no more" in capsys.readouterr().err
    assert set(begun) <= {"10", "11", "12", "13", "14"} and compared == begun[1:2]
    with turns[0].with_network():  # which may be had again
        pass


def test_mask_maps_of_a_folder_are_found_by_the_image_s_name(small, tmp_path, capsys):
    query = small.image(1)
    made = small.run("--query", query, "--probabilities", to=tmp_path / "made")
    stored = small.run(
        "--query", query, "--probabilities", "--masks", small.masks, to=tmp_path / "stored"
    )
    assert made == stored == 0
    name = f"probabilities/{small.names[1]}.png"
    assert (array(tmp_path / "made" / name) == array(tmp_path / "stored" / name)).all()
    alone = tmp_path / "unknown.png"
    shutil.copy(query, alone)
    assert small.run("--query", alone, "--masks", small.masks, to=tmp_path / "out") == 1
    assert "0 mask maps of the name unknown" in capsys.readouterr().err
    assert small.run("--query", query, "--masks", "none", to=tmp_path / "none") == 0
    assert small.run("--query", query, "--masks", "no/such", to=tmp_path / "none") == 2


def test_no_input_is_overwritten(small, tmp_path, capsys):
    query = tmp_path / "a.png"
    shutil.copy(small.image(1), query)
    assert small.run("--query", tmp_path, to=tmp_path) == 0, "results may lie beside the images"
    assert small.run("--query", tmp_path, to=tmp_path) == 0, "and are no queries in a second run"
    assert "1 of 1 images" in capsys.readouterr().out
    result = tmp_path / "masks" / "a.png"
    before = result.read_bytes()
    assert small.run("--query", result, to=tmp_path) == 2
    assert "would be overwritten" in capsys.readouterr().err and result.read_bytes() == before


def test_folders_that_hold_no_results_are_left_alone(small, tmp_path, capsys):
    label = tmp_path / "masks" / f"{small.names[1]}.png"
    label.parent.mkdir()
    label.write_bytes(b"drawn by hand")
    assert small.run("--query", small.image(1), to=tmp_path) == 2
    assert "give another --to" in capsys.readouterr().err
    assert label.read_bytes() == b"drawn by hand" and len(list(tmp_path.iterdir())) == 1


def test_what_made_the_results_is_written_beside_them(small, tmp_path):
    assert small.run("--query", small.image(1), "--threshold", "0.3", to=tmp_path) == 0
    facts = json.loads((tmp_path / "predict.json").read_text())
    assert (
        facts["threshold"] == 0.3
        and facts["window"] == 64
        and facts["masks"]["name"] == "superpixels"
    )
    assert facts["supports"] == [[str(small.image(0)), str(small.label(0))]]


def test_windows_span_what_the_tiles_of_the_training_did(small, tmp_path):
    known = torch.load(small.checkpoint, weights_only=False)
    side = read_image(small.image(0)).shape[0]
    assert int(known["data"]["side"]) == side == load_network(small.checkpoint).window
    line = ["--checkpoint", small.checkpoint, "--label-id", small.label_id, "--device", "cpu"]
    line += ["--support", small.image(0), small.label(0), "--query", small.image(1)]
    assert main([str(word) for word in [*line, "--to", tmp_path / "out"]]) == 0
    assert json.loads((tmp_path / "out/predict.json").read_text())["window"] == side
    del known["data"]["side"]
    torch.save(known, tmp_path / "silent.pt")
    assert load_network(tmp_path / "silent.pt").window == WINDOW


def test_a_checkpoint_without_constants_needs_a_config(small, pipeline, tmp_path, capsys):
    weights = torch.load(small.checkpoint, weights_only=True)["model"]
    torch.save(weights, tmp_path / "bare.pt")
    bare = ["--checkpoint", tmp_path / "bare.pt", "--query", small.image(1)]
    assert small.run(*bare, to=tmp_path / "a") == 2
    assert "give --config" in capsys.readouterr().err
    config = ["--config", pipeline.folder / "config.toml"]
    assert small.run(*bare, *config, "--threshold", "calibrated", to=tmp_path / "a") == 0
    other = tmp_path / "other.toml"
    text = (pipeline.folder / "config.toml").read_text()
    other.write_text(text.replace("mgfe = true", "mgfe = false"))
    wrong = ["--config", other, "--query", small.image(1)]
    assert small.run(*wrong, to=tmp_path / "b") == 2
    assert "model.mgfe" in capsys.readouterr().err


WRONG = {
    "need pairs": ["--support", "one_more.png"],
    "no image there": ["--query", "no/such.png"],
    "no checkpoint": ["--checkpoint", "no/such.pt"],
    "neither an id": ["--label-id", "road"],
    "has no pixel of the id": ["--label-id", "200"],
    "overlap": ["--overlap", "1"],
    "no config file": ["--config", "no/such.toml"],
    "neither a generator": ["--masks", "superpixel"],
}


@pytest.mark.parametrize("message", WRONG)
def test_a_mistake_ends_with_status_2_and_says_what_is_wrong(message, small, tmp_path, capsys):
    words = ["--query", small.image(1), *WRONG[message]]
    try:
        code = small.run(*words, to=tmp_path)
    except SystemExit as end:  # argparse's own
        code = end.code
    assert code == 2 and message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_queries_are_files_folders_and_patterns_with_names_that_never_collide(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    touch(a / "x.png", a / "x.tif", a / "X_TIF.jpg", a / "deep/x.png", a / "notes.txt", b / "x.png")
    touch(a / "out/masks/x.png")
    found = find_queries([str(a), str(b / "*.png"), str(a / "x.png")], results=a / "out")
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in found.items()} == {
        "X_TIF": "a/X_TIF.jpg",
        "deep/x": "a/deep/x.png",
        "x": "a/x.png",
        "x_2": "a/x.tif",  # x_tif is taken where letters of either case are one
        "x_png": "b/x.png",
    }


def test_labels_may_be_ids_colours_or_black_and_white(tmp_path):
    def saved(values: np.ndarray, mode: str) -> Path:
        Image.fromarray(values).convert(mode).save(tmp_path / "label.png")
        return tmp_path / "label.png"

    ids = np.array([[0, 3], [7, 255]], np.uint8)
    assert read_foreground(saved(ids, "L"), "all").tolist() == [[0, 1], [1, 1]]
    assert read_foreground(saved(ids, "L"), 7).tolist() == [[0, 0], [1, 255]]
    assert read_foreground(saved(ids, "L"), 255).tolist() == [[0, 0], [0, 1]]
    assert read_foreground(saved(ids > 3, "1"), None).tolist() == [[0, 0], [1, 1]]
    colours = np.zeros((2, 2, 3), np.uint8)
    colours[0, 1], colours[1, 1] = (0, 0, 127), (0, 63, 0)
    assert read_foreground(saved(colours, "RGB"), "all").tolist() == [[0, 1], [0, 1]]
    assert read_foreground(saved(colours, "RGB"), "#00007F").tolist() == [[0, 1], [0, 0]]
    with pytest.raises(ValueError, match="holds no ids"):
        read_foreground(saved(colours, "RGB"), 7)


def test_help_loads_no_heavy_library():
    code = (
        "import sys, mgcl.predict; print([m for m in ('torch','numpy','cv2') if m in sys.modules])"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
