"""Everything that computes is as right on a device as on the CPU, shown on a pretended one."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

import main_0_extract_masks as main_0
import main_1_mgcl_train as main_1
import main_2_mgcl_test as main_2
from mgcl import device
from mgcl.engine import presence
from mgcl.visualize import plots
from tests.pretended import CPU, DEVICE, pretended
from tests.small_run import words

PLACES = {"cpu": CPU, "device": DEVICE}


@contextmanager
def computing_on(place: str) -> Iterator[None]:
    """What `choose_device` chooses, whatever it is asked for."""
    with pytest.MonkeyPatch.context() as patch, pretended() if place == "device" else nullcontext():
        for module in (device, main_0, main_1, main_2):
            patch.setattr(module, "choose_device", lambda name: PLACES[place])
        patch.setattr(presence, "SETS", 12)  # of pairs that presence is fitted to
        for plot in ("learning_curve", "precision_recall_plot", "threshold_plot"):
            patch.setattr(plots, plot, lambda *words, **named: None)  # of the host's numbers
        yield


@pytest.fixture(scope="module")
def data(isaid_root, tmp_path_factory) -> tuple[Path, Path]:
    """Scenes and their mask maps."""
    masks = tmp_path_factory.mktemp("device") / "masks"
    assert main_0.main(words(isaid_root, masks, masks)) == 0
    return isaid_root, masks


def run_on(place: str, data: tuple[Path, Path], folder: Path, **constants: Any) -> Path:
    """A run trained and tested there; its folder."""
    run = folder / place / "small"
    few = {"train_epochs": 1, "train_calibration_episodes": 4, "test_max_episodes": 4}
    line = words(*data, run, **(few | {"train_episodes_per_epoch": 4} | constants))
    with computing_on(place):
        assert main_1.main(line) == 0
        assert main_2.main(line) == 0
    return run


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


@pytest.mark.parametrize(
    "constants",
    [
        {"model_head": "mgcl", "test_panels": 0, "test_shots": "[2]"},
        {"model_head": "matcher", "run_features_dtype": "float16", "test_shots": "[3]"},
        {
            "model_head": "mgcl+matcher",
            "train_freeze_backbone": "true",
            "train_accumulate": 2,
            "test_shots": "[2]",
        },
    ],
    ids=lambda constants: constants["model_head"],
)
def test_training_and_test_tell_what_they_tell_on_the_cpu(data, tmp_path, constants):
    on_cpu, on_device = (run_on(place, data, tmp_path, **constants) for place in PLACES)
    assert told(on_device, float) == told(on_cpu, nearly)
