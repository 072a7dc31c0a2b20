"""What is surely found in a run's images says which of the others show the class."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgcl.masks.superpixels import SuperpixelMaskGenerator
from mgcl.model.matcher import Matcher
from mgcl.model.untrained_presence import UntrainedPresence
from mgcl.predict.command import main
from mgcl.predict.finder import Finder
from mgcl.predict.pool import MOST, Look, choose
from mgcl.predict.results import Results
from mgcl.predict.support import cut_example
from tests.engine.test_calibration import Colours
from tests.model.test_network import tiny_networks
from tests.predict.test_predictor import SETUP, SIDE, label, picture
from tests.predict.test_scene_command import BOXES, a_scene

GENERATOR = SuperpixelMaskGenerator()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A support, two pictures with squares of its class, one of bare ground."""
    root = tmp_path_factory.mktemp("pool")
    image, truth = a_scene()
    Image.fromarray(image).save(root / "support.png")
    Image.fromarray(255 * truth["red"].astype(np.uint8)).save(root / "label.png")
    (root / "q").mkdir()
    Image.fromarray(image[::-1, ::-1]).save(root / "q/a.png")
    Image.fromarray(image[:, ::-1]).save(root / "q/b.png")
    ground = image.copy()
    for x0, y0, x1, y1 in (box for boxes in BOXES.values() for box in boxes):
        ground[y0:y1, x0:x1] = image[-(y1 - y0) :, : x1 - x0]
    Image.fromarray(ground).save(root / "q/c.png")
    return root


def run(root: Path, to: Path, *words: object) -> int:
    line = ["--support", root / "support.png", root / "label.png", "--query", root / "q"]
    line += ["--window", 128, "--overlap", 0.2, "--objects", "none", "--device", "cpu", "--to", to]
    return main([str(word) for word in [*line, *words]])


def levels(to: Path, name: str) -> np.ndarray:
    with Image.open(to / f"probabilities/{name}.png") as picture:
        return np.asarray(picture).astype(int)


def test_what_is_taken_in_is_said_and_makes_no_pixel_likelier(folder, tmp_path, capsys):
    assert run(folder, tmp_path / "plain", "--probabilities") == 0
    capsys.readouterr()
    assert run(folder, tmp_path / "pool", "--probabilities", "--pool") == 0
    said = capsys.readouterr().out
    facts = json.loads((tmp_path / "pool/predict.json").read_text())
    taken = facts["pool"]["found"]
    assert 0 < len(taken) <= MOST and {t["source"] for t in taken} == {"pool"}
    assert {t["query"] for t in taken} <= {"a", "b"}, "bare ground shows nothing surely"
    assert [t["presence"] for t in taken] == sorted((t["presence"] for t in taken), reverse=True)
    assert f"found: surely in {len(taken)} window" in said and "a at " in said
    for name in "abc":
        plain, pool = (levels(tmp_path / which, name) for which in ("plain", "pool"))
        assert (pool <= plain).all()
    assert json.loads((tmp_path / "plain/predict.json").read_text())["pool"] is None


def test_parts_and_runs_that_go_on_take_in_the_same(folder, tmp_path, capsys):
    words = ["--pool", "--probabilities"]
    assert run(folder, tmp_path / "one", *words) == 0
    parts = tmp_path / "parts"
    assert run(folder, parts, *words, "--shard", "1/2") == 2
    assert "start --shard 0/2 first" in capsys.readouterr().err
    for part in "0/2", "1/2":
        assert run(folder, parts, *words, "--shard", part) == 0
    (parts / "masks/b.png").unlink()
    (parts / ".work/pool.npz").unlink()  # as if the run had been killed before it was written
    assert run(folder, parts, *words) == 0
    assert "deleted" not in capsys.readouterr().out
    for kind in "masks", "probabilities":
        for name in "abc":
            one, several = ((to / kind / f"{name}.png") for to in (tmp_path / "one", parts))
            assert one.read_bytes() == several.read_bytes()
    known = (json.loads((to / "predict.json").read_text()) for to in (tmp_path / "one", parts))
    assert len({json.dumps(facts["pool"]) for facts in known}) == 1


def test_a_network_that_does_not_tell_takes_nothing_in():
    made = Finder(tiny_networks()[0], GENERATOR, image_size=SIDE, setup=SETUP)
    with pytest.raises(ValueError, match="does not tell whether a class is there"):
        Look(made, lambda raster: SIDE, [0.5])


def test_a_support_among_the_images_is_not_taken_in_again(folder, tmp_path):
    line = ["--support", folder / "support.png", folder / "label.png", "--window", 384, "--pool"]
    line += ["--query", folder / "support.png", "--to", tmp_path, "--device", "cpu"]
    assert main([str(word) for word in line]) == 0
    assert json.loads((tmp_path / "predict.json").read_text())["pool"] == {"found": []}


def test_without_presence_there_is_nothing_to_decide(folder, tmp_path, capsys):
    assert run(folder, tmp_path, "--pool", "--keep-present", 1) == 2
    assert "--keep-present 1 leaves out" in capsys.readouterr().err


def tiny_look(batch_size: int = 8) -> Look:
    network = Matcher(Colours())
    network.presence = UntrainedPresence()
    made = Finder(network, GENERATOR, image_size=SIDE, setup=SETUP, batch_size=batch_size)
    made.learn(
        {str(k): [cut_example(picture(k), label(k), None, SIDE, GENERATOR)] for k in range(2)}
    )
    return Look(made, lambda raster: SIDE, [0.1, 0.1])


@pytest.fixture()
def queries(tmp_path) -> dict[str, Path]:
    Image.fromarray(picture(9, 3 * SIDE, 4 * SIDE)).save(tmp_path / "a.png")
    return {"a": tmp_path / "a.png", "no": tmp_path / "no.png"}


def test_of_each_class_the_surest_windows_are_taken_in_whatever_the_batches(queries):
    one, other = (tiny_look(size).all(queries) for size in (1, 8))
    assert list(one) == list(other) == ["0", "1"] and any(one.values())
    for name in one:
        assert [t.corner for t in one[name]] == [t.corner for t in other[name]]
        for t, u in zip(one[name], other[name], strict=True):
            assert (t.example.label == u.example.label).all()


def test_processes_of_one_launcher_wait_for_the_first(queries, tmp_path, monkeypatch):
    look, facts = tiny_look(), {"weights": 1}

    def part(number: int) -> tuple[dict, dict]:
        mine = dict(facts)
        results = Results(tmp_path / "out")
        return choose(results, mine, queries, look, (number, 2), apart=False)[0], mine

    looked: list[tuple[dict, dict]] = []
    monkeypatch.setattr("mgcl.predict.pool.time.sleep", lambda seconds: looked.append(part(0)))
    pool, known = part(1)
    assert len(looked) == 1 and known == looked[0][1] and any(known["pool"].values())
    for name, taken in pool.items():
        for t, u in zip(taken, looked[0][0][name], strict=True):
            assert t[:3] == u[:3]
            assert all((x == y).all() for x, y in zip(t.example, u.example, strict=True))
