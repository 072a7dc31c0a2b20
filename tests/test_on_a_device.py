"""Everything that computes is as right on a device as on the CPU, shown on a pretended one."""

import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import main_0_extract_masks as main_0
import main_1_mgcl_train as main_1
import main_2_mgcl_test as main_2
from benchmarks.gpu import batch_of
from benchmarks.inputs import episodes
from mgcl import checkpoint, device
from mgcl.build import build_network
from mgcl.config import Config, with_values
from mgcl.engine import presence, training
from mgcl.engine.forward import Setup
from mgcl.masks.sam import SamMaskGenerator
from mgcl.page.search import Search
from mgcl.predict import run
from mgcl.predict.command import main as predict
from mgcl.train import interrupt, validation
from mgcl.visualize import plots
from mgcl.visualize.command import main as visualize
from tests.masks.test_sam import scene, settings_for, tiny_sam
from tests.page.scenes import SIDE, begin, middle, paint, settle, write_scenes
from tests.pretended import CPU, DEVICE, in_thread, pretended
from tests.small_run import words
from tests.train.test_resume import Telling

PLACES = {"cpu": CPU, "device": DEVICE}
FEW = {"train_epochs": 1, "train_episodes_per_epoch": 4, "train_calibration_episodes": 4}
FEW |= {"test_max_episodes": 4, "test_panels": 0}
RUNS = {
    "mgcl": {"test_shots": "[2]"},
    "matcher": {"test_shots": "[3]", "test_panels": 1, "run_features_dtype": "float16"},
    "mgcl+matcher": {
        "test_shots": "[2]",
        "train_freeze_backbone": "true",
        "train_accumulate": 2,
    },
}


@contextmanager
def computing_on(place: str) -> Iterator[torch.device]:
    """All that chooses a device chooses this one."""
    with pytest.MonkeyPatch.context() as patch, pretended() if place == "device" else nullcontext():
        for module in (device, main_0, main_1, main_2):
            patch.setattr(module, "choose_device", lambda name: PLACES[place])
        if place == "device":
            pool = partial(ThreadPoolExecutor, initializer=in_thread)
            patch.setattr(run, "ThreadPoolExecutor", pool)
        yield PLACES[place]


@pytest.fixture(scope="module", autouse=True)
def less() -> Iterator[None]:
    """What takes time and shows nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presence, "SETS", 12)  # of pairs that presence is fitted to
        for plot in ("learning_curve", "precision_recall_plot", "threshold_plot"):
            patch.setattr(plots, plot, lambda *words, **named: None)
        patch.setattr(validation, "PANEL_EPISODES", 1)
        yield


@pytest.fixture(scope="module")
def data(isaid_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Scenes and their mask maps."""
    masks = tmp_path_factory.mktemp("device") / "masks"
    assert main_0.main(words(isaid_root, masks, masks)) == 0
    return isaid_root, masks


def line_of(head: str, data: tuple[Path, Path], run: Path, **constants: Any) -> list[str]:
    return words(*data, run, **{"model_head": head} | FEW | RUNS[head] | constants)


@pytest.fixture(scope="module", params=RUNS)
def runs(request, data, tmp_path_factory) -> tuple[str, Path]:
    """A head, and the folder of its runs on the CPU and on the device, trained and tested."""
    folder = tmp_path_factory.mktemp("runs")
    for place in PLACES:
        with computing_on(place):
            assert main_1.main(line_of(request.param, data, folder / place)) == 0
            assert main_2.main(line_of(request.param, data, folder / place)) == 0
    return request.param, folder


def told(run: Path, number: Callable[[str], Any]) -> dict[str, Any]:
    """All figures that a run told, but for times."""
    report = json.loads((run / "report.json").read_text(), parse_float=number)
    log = (run / "log.jsonl").read_text().splitlines()
    steps = [json.loads(line, parse_float=number) for line in log]
    for step in steps:
        step.pop("images_per_second", None)
    return {"log": steps} | {part: report[part] for part in ("rows", "curves", "absent")}


def nearly(number: str) -> Any:
    """As many images are encoded at a time on a device as bring it to other last bits."""
    return pytest.approx(float(number), rel=1e-4, abs=1e-4)


def test_training_and_test_tell_what_they_tell_on_the_cpu(runs):
    _, folder = runs
    assert told(folder / "device", float) == told(folder / "cpu", nearly)


@pytest.mark.parametrize("runs", ["mgcl"], indirect=True)
def test_a_training_that_was_interrupted_goes_on_there_to_the_same_weights(runs, data, tmp_path):
    head, folder = runs
    line = line_of(head, data, tmp_path / "again", train_resume="auto")
    with computing_on("device"):
        with pytest.MonkeyPatch.context() as patch:
            told = Telling(training.segmentation_loss, 1, signal.SIGTERM)
            patch.setattr(training, "segmentation_loss", told)
            assert main_1.main(line) == interrupt.STATUS
        assert main_1.main(line) == 0
    again, whole = (
        checkpoint.load(run / "last.pt") for run in (tmp_path / "again", folder / "device")
    )
    assert again["step"] == whole["step"] == 2
    assert all(torch.equal(again["model"][name], x) for name, x in whole["model"].items())


def predicted(tmp_path: Path, *line: object, supports: int = 1, window: int = SIDE) -> None:
    """Marks in scenes find the same in a larger one, here and there: the same files."""
    image, label = paint(1, (SIDE, SIDE + SIDE // 2))
    Image.fromarray(image).save(tmp_path / "query.png")
    shown: list[object] = []
    for k in range(supports):
        image, label = paint(10 + k)
        Image.fromarray(image).save(tmp_path / f"support{k}.png")
        Image.fromarray(255 * (label == 1).astype(np.uint8)).save(tmp_path / f"label{k}.png")
        shown += [tmp_path / f"support{k}.png", tmp_path / f"label{k}.png"]
    given = ["--support", *shown, "--query", tmp_path / "query.png", "--window", window]
    given += ["--overlap", 0.2, "--probabilities", *line]
    for place in PLACES:
        with computing_on(place):
            assert predict([str(word) for word in [*given, "--to", tmp_path / place]]) == 0
    for kind in ("masks", "overlays", "probabilities"):
        same_picture(*(tmp_path / place / kind / "query.png" for place in PLACES))


def same_picture(*paths: Path) -> None:
    """But for where a last bit decides."""
    first, second = (np.asarray(Image.open(path)).astype(float) for path in paths)
    assert first.any() and (abs(first - second) > 0.002 * first.max()).mean() < 0.002


@pytest.mark.parametrize(
    ("supports", "more"), [(1, []), (3, ["--pool"]), (3, ["--keep-present", 1])]
)
def test_predict_finds_the_same_untrained(tmp_path, supports, more):
    predicted(tmp_path, *more, supports=supports)


def test_predict_finds_the_same_by_a_checkpoint(runs, tmp_path):
    _, folder = runs
    predicted(tmp_path, "--checkpoint", folder / "cpu/best.pt", supports=3, window=96)


def test_the_page_finds_the_same_and_so_does_predict_by_its_marks(tmp_path, monkeypatch):
    labels = write_scenes(tmp_path / "scenes", 3)
    Image.fromarray(paint(7, (SIDE, 2 * SIDE))[0]).save(tmp_path / "scenes/wide.png")
    search, found = Search._run, []

    def within(self: Search) -> None:
        with pretended():  # is each thread's own
            search(self)

    for place in PLACES:
        with computing_on(place), monkeypatch.context() as patch:
            if place == "device":
                patch.setattr(Search, "_run", within)
            session = begin(tmp_path / "scenes", project=tmp_path / place)
            for name in ("red", "blue"):
                session.project.add_class(name)
            alarm = session.value(1, True)  # a false one
            for name, square, value in (("000", 1, 1), ("001", 2, 2), ("002", 2, alarm)):
                picture = session.by_key[f"{name}.png"]
                assert session.click(picture, *middle(labels[picture.key], square), 2, value)
            settle(session)
            planes = [session.search.planes(picture) for picture in session.pictures.all]
            found.append(np.concatenate([(level > 127).ravel() for _, level in planes]))
            session.close()
            line = ["--supports", tmp_path / place / "project.toml", "--query", tmp_path / "scenes"]
            line += ["--to", tmp_path / "found" / place]
            assert predict([str(word) for word in line]) == 0
    assert found[0].any() and (found[0] != found[1]).mean() < 0.002
    same_picture(*(tmp_path / "found" / place / "masks/wide.png" for place in PLACES))


def test_segment_anything_makes_the_same_masks():
    made = []
    for place in PLACES:
        with computing_on(place) as where:
            generator = SamMaskGenerator(tiny_sam().to(where), settings_for("tens"), image_batch=2)
            made.append(generator.many([scene(64, 80), scene(64, 80, seed=4), scene(50, 40)]))
    assert all(map(np.array_equal, *made))


@pytest.mark.parametrize("runs", ["mgcl", "mgcl+matcher"], indirect=True)
def test_guidance_is_drawn_the_same(runs, data, tmp_path):
    head, folder = runs
    for place in PLACES:
        line = line_of(head, data, folder / "cpu")
        with computing_on(place):
            line = ["--episode", "1", "--to", str(tmp_path / f"{place}.png"), *line]
            assert visualize(line) == 0
    same_picture(*(tmp_path / f"{place}.png" for place in PLACES))


@pytest.mark.parametrize(
    "model",
    [
        {"head": "mgcl", "backbone": "resnet50"},
        {"head": "mgcl", "backbone": "vgg16", "mgfe": False, "background": False},
        {"head": "matcher", "backbone": "efficientnet_lite0+efficientnet_lite2"},
        {"head": "mgcl+matcher", "backbone": "timm:resnet18"},
    ],
    ids=lambda model: model["backbone"],
)
def test_networks_of_all_backbones_give_the_same_logits(model):
    if "timm" in model["backbone"]:
        pytest.importorskip("timm")
    torch.manual_seed(0)
    network = build_network(with_values(Config(), model=model | {"weights": "none"})).eval()
    given = batch_of(episodes(2, 2, 64))
    found = []
    for place in PLACES:
        with computing_on(place) as where, torch.inference_mode():
            setup = Setup(where)
            found.append(setup.forward(network.to(where), setup.move(given)).cpu())
    assert abs(found[0] - found[1]).max() < 1e-4 * found[0].abs().max()
