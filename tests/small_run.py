"""A tiny experiment on the synthetic benchmark: its constants, its scripts, its records."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
MASKS, TRAIN, TEST = "main_0_extract_masks.py", "main_1_mgcl_train.py", "main_2_mgcl_test.py"

# EfficientNet-Lite0 at 64 px: two epochs of three steps, of which the last is the smaller.
SMALL = {
    "run.device": "cpu",
    "model.head": "mgcl",
    "train.lr": 0.001,
    "run.threads": 1,
    "data.image_size": 64,
    "data.workers": 0,
    "train.epochs": 2,
    "train.episodes_per_epoch": 5,
    "train.batch_size": 2,
    "train.calibration_episodes": 6,
    "train.log_every": 2,
    "train.freeze_backbone": "false",
    "test.max_episodes": 7,
    "test.absent": "true",
    "test.batch_size": 4,
    "test.panels": 1,
    "test.must_beat_baselines": "false",
}


class Pipeline(NamedTuple):
    """What the three scripts left behind and said."""

    root: Path
    masks: Path
    folder: Path
    scripts: dict[str, subprocess.CompletedProcess]


def words(root: Path, masks: Path, folder: Path, **constants: Any) -> list[str]:
    """Command line of the small experiment: `words(..., train_seed=1)` sets train.seed."""
    values = SMALL | {name.replace("_", ".", 1): value for name, value in constants.items()}
    places = {"data.root": root, "masks.root": masks}
    places |= {"run.root": folder.parent, "run.name": folder.name}
    line = ["--config", str(REPOSITORY / "configs/demo.toml")]
    for name, value in (places | values).items():
        line += [f"--{name}", str(value)]
    return line


def run_script(script: str, line: list[str]) -> subprocess.CompletedProcess:
    """Run one of the three scripts in a process of its own."""
    return subprocess.run(
        [sys.executable, str(REPOSITORY / script), *line],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def run_pipeline(root: Path, folder: Path) -> Pipeline:
    """All three scripts, one after the other."""
    masks = folder.parent / "masks"
    line = words(root, masks, folder)
    scripts = {}
    for script in (MASKS, TRAIN, TEST):
        scripts[script] = run_script(script, line)
        assert scripts[script].returncode == 0, scripts[script].stderr
    return Pipeline(root, masks, folder, scripts)


def records(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Lines of the run's log.jsonl."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [record for record in found if kind in (None, record["kind"])]
