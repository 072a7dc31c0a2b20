"""The runs of a sweep: which folds, seeds and ablations, and whether a run is complete."""

import itertools
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mgcl.config import Config, ConfigError, load
from mgcl.config.compare import TESTED, different_constants
from mgcl.report.records import Condition

SWITCHES = {"mgfe": "mgfe", "fbc": "background", "decoder": "decoder_masks"}  # [model] constants
FULL, NO_PARTS = "mgfe+fbc+decoder", "hsnet_idea"
ABLATIONS = {  # name -> whether MGFE, FBC's background and the decoder's masks are on
    "+".join(itertools.compress(SWITCHES, on)) or NO_PARTS: on
    for on in itertools.product((True, False), repeat=3)
}
RESERVED = (
    "--config",
    "--data.fold",
    "--train.seed",
    "--train.resume",
    "--run.name",
    "--test.shots",
)


class Job(NamedTuple):
    """One run: a fold, a seed, and what of the model is on."""

    ablation: str
    fold: int
    seed: int
    words: list[str]
    """Command line of both scripts."""
    config: Config
    """What these words mean."""

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self.config.run.name


def plan(
    path: Path,
    *,
    folds: Sequence[int],
    seeds: Sequence[int],
    shots: Sequence[int] = (),
    ablations: Sequence[str] = (FULL,),
    overrides: Sequence[str] = (),
) -> list[Job]:
    """Every run of a sweep, its config checked.

    Args:
        path: TOML file of the experiment.
        folds: data.fold of the runs.
        seeds: train.seed of the runs.
        shots: test.shots of every run; empty leaves the file's.
        ablations: names from `ABLATIONS`; the whole model alone leaves the file's switches.
        overrides: further words for both scripts ("--train.lr", "0.005").

    Raises:
        ConfigError: a constant cannot be used, or is one that the sweep sets itself.
    """
    fixed = ["--test.shots", json.dumps([*shots])] if shots else []
    ablating = [*ablations] != [FULL]
    reserved = [*RESERVED, *(f"--model.{name}" for name in SWITCHES.values() if ablating)]
    for word in overrides:
        if word.partition("=")[0] in reserved:
            raise ConfigError(f"{word} is set by the sweep itself: see its options with --help")
    jobs = []
    for ablation, fold, seed in itertools.product(ablations, folds, seeds):
        part = "" if ablation == FULL else f"_{ablation}"
        name = f"{path.stem}{part}_fold{fold}_seed{seed}"
        words = ["--config", str(path), *overrides, *fixed, "--run.name", name]
        words += ["--data.fold", str(fold), "--train.seed", str(seed), "--train.resume", "auto"]
        words += _switches(ablation) if ablating else []
        jobs.append(Job(ablation, fold, seed, words, load(words)))
    return jobs


def why_incomplete(job: Job) -> str:
    """Why the run is to be made, or made again; empty if it is complete.

    It is complete where its report has the shots and was made with these constants.
    """
    folder = job.config.run_dir
    if not (folder / "report.json").exists() or not (folder / "sweep.toml").exists():
        return "not tested yet"
    try:
        tested = {condition.shots for condition, _, _ in read_rows(job)}
    except (KeyError, ValueError):
        return "its report is of an earlier version, or torn: tested again"
    saved = tomllib.loads((folder / "sweep.toml").read_text(encoding="utf-8"))
    if different_constants(saved, job.config, counting=TESTED):
        return "made with other constants"
    missing = sorted({*job.config.test.shots} - tested)
    return f"not tested with {missing} shots yet" if missing else ""


def older_than_data(job: Job) -> bool:
    """Whether the lists of the data were written after the run's report."""
    tested = (job.config.run_dir / "report.json").stat().st_mtime
    return any(path.stat().st_mtime > tested for path in job.config.lists_dir.rglob("*.txt"))


def read_rows(job: Job) -> list[tuple[Condition, float | None, float | None]]:
    """Condition, mIoU and FB-IoU of every row that the run's test wrote.

    Raises:
        KeyError: the report is of an earlier version.
        ValueError: it is torn.
    """
    text = (job.config.run_dir / "report.json").read_text(encoding="utf-8")
    rows = json.loads(text)["rows"]
    return [(Condition.from_json(row), row["miou"], row["fb_iou"]) for row in rows]


def _switches(ablation: str) -> list[str]:
    states = zip(SWITCHES.values(), ABLATIONS[ablation], strict=True)
    return [word for name, on in states for word in (f"--model.{name}", str(on).lower())]
