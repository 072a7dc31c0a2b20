"""Where a run stands: kept in its checkpoints, and found again when it is started anew."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from mgcl import checkpoint, console, distributed
from mgcl.checkpoint import CheckpointError
from mgcl.config import Config
from mgcl.config.compare import LEARNING, Mark, different_constants, unknown_constants
from mgcl.datasets.fingerprint import NO_FACTS, Facts, changed_facts


def changed_constants(
    path: Path,
    saved: Mapping[str, Any],
    config: Config,
    data: Facts = NO_FACTS,
) -> list[str]:
    """Constants and data that differ between a training's checkpoint and what goes on from it.

    Raises:
        CheckpointError: no checkpoint of a training.
        ValueError: some differ, and train.force is off.
    """
    if "optimizer" not in saved or "config" not in saved:
        raise CheckpointError(
            f"{path} is no checkpoint to go on from: that is a run's last.pt or last.previous.pt"
        )
    counting = {*LEARNING, Mark.CHOOSING} if saved["epoch"] < config.train.epochs else LEARNING
    changed = different_constants(saved["config"], config, counting=counting)
    free, unknown = unknown_constants(saved["config"], harmless=("run", "test"))
    if free:
        _warn(f"{path} has {'; '.join(free)}, unknown here: no training depends on it")
    changed += [f"{text} -> unknown here" for text in unknown]
    changed += changed_facts(saved.get("data") or {}, data)
    if changed and not config.train.force:
        remedy = "Take those, or another run.name; --train.force true goes on nevertheless"
        if unknown:
            remedy = (
                "Go on with the version of this program that made it, or take another run.name; "
                "--train.force true goes on without what is unknown here"
            )
        raise ValueError(
            f"{path} was made with other constants or data: {'; '.join(changed)}. {remedy}"
        )
    return changed


LAST, PREVIOUS, BEST = "last.pt", "last.previous.pt", "best.pt"
OTHER_MOMENTS = ("train.optimizer ", "train.freeze_backbone ")


@dataclasses.dataclass
class State:
    """Where a run stands. No step draws random numbers, so there is no generator to keep."""

    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Finished optimiser steps, of all epochs."""
    seen: int = 0
    """Episodes of the epoch under way that are trained on."""
    best_miou: float = -1.0
    best_epoch: int = -1
    """Epoch (from 0) whose weights best.pt holds."""
    threshold: float | None = None
    """Calibrated threshold of the newest validated epoch."""
    chosen_on: str = ""
    """Episodes that chose the best epoch, in words."""
    calibrated_on: str = ""
    """Episodes that the threshold was found on, in words."""
    data: dict[str, str] = dataclasses.field(default_factory=dict)
    """Class names and digests of lists, images and labels, see `fingerprint.data_facts`."""
    forced: list[str] = dataclasses.field(default_factory=list)
    """Constants that were changed on the way with train.force."""


def save(
    folder: Path,
    state: State,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    constants: Mapping[str, Any],
    progress: Mapping[str, Any] | None = None,
    best: bool = False,
) -> None:
    """Write last.pt, keeping the one before, and best.pt if it is the best.

    Args:
        folder: of the run.
        state: where the run stands.
        model: its weights.
        optimizer: its moments.
        constants: of the config, section by section; a resumed run must have the same.
        progress: of the epoch under way, see `EpochMeter.state_dict`.
        best: the epoch that just ended is the best so far.

    Raises:
        DiskFullError: no room; the old files are whole.
    """
    saved = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "config": dict(constants),
        "progress": progress,
        **dataclasses.asdict(state),
    }
    # best.pt first: a kill between the two repeats the validation, and with it the same best.pt.
    if best:
        to_test = {k: v for k, v in saved.items() if k not in ("optimizer", "progress")}
        checkpoint.save(folder / BEST, to_test)
    checkpoint.save(folder / LAST, saved, previous=folder / PREVIOUS)


def find(folder: Path, wanted: str) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint that the run goes on from, with its path; None for a run that starts.

    Args:
        folder: of the run.
        wanted: train.resume: "", "auto" or the path of a checkpoint.

    Raises:
        ValueError: the run exists and `wanted` does not say what to do.
        CheckpointError: the checkpoint, or both of them, cannot be read.
    """
    there = [path for path in (folder / LAST, folder / PREVIOUS) if path.exists()]
    if wanted not in ("", "auto"):
        path = Path(wanted)
        if there and path.resolve().parent != folder.resolve():
            raise ValueError(
                f"{there[0]} is there already: to go on from {path}, take another run.name"
            )
        return path, checkpoint.load(path)
    if there and not wanted:
        raise ValueError(
            f"{there[0]} is there already: --train.resume auto goes on with it, another run.name "
            "starts afresh"
        )
    return _newest_whole(there) if there else None


def _newest_whole(paths: list[Path]) -> tuple[Path, dict[str, Any]]:
    *newer, oldest = paths
    for path in newer:
        try:
            return path, checkpoint.load(path)
        except checkpoint.CheckpointError as error:
            _warn(f"{error}; going on with {oldest}, the one before")
    return oldest, checkpoint.load(oldest)


def _warn(text: str) -> None:
    if distributed.is_main():
        console.warn(text)


class Start(NamedTuple):
    """Where a run starts, or goes on."""

    state: State
    path: Path | None = None
    """The checkpoint that it goes on from."""
    progress: dict[str, Any] | None = None
    """Of the epoch under way, see `EpochMeter.state_dict`."""
    changed: tuple[str, ...] = ()
    """Constants that are others now."""
    best: Path | None = None
    """The best epoch's weights."""

    @property
    def logged(self) -> int | None:
        """Of an epoch under way the first step that is not logged yet."""
        return self.state.step if self.progress else None


def take_up(
    folder: Path,
    config: Config,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Facts = NO_FACTS,
) -> Start:
    """Go on from the checkpoint that train.resume asks for, if any; `data` are today's facts.

    Raises:
        ValueError: as `find` and `changed_constants`; or processes found different checkpoints.
    """
    found = find(folder, config.train.resume)
    start = Start(State())
    if found:
        path, saved = found
        changed = changed_constants(path, saved, config, data)
        state = restore(path, saved, changed, model, optimizer)
        best = find_best(path, state)
        start = Start(state, path, saved.get("progress"), tuple(changed), best)
    start.state.data = dict(data)
    if not distributed.is_same(start.state.step, next(model.parameters()).device):
        raise ValueError(
            "the processes found different checkpoints: run.root must lie on storage that all "
            "machines share"
        )
    return start


def restore(
    path: Path,
    saved: Mapping[str, Any],
    changed: list[str],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> State:
    """Fill network and optimiser from a checkpoint that `find` found.

    Args:
        path: of the checkpoint.
        saved: its content.
        changed: constants that differ, see `build.changed_constants`.
        model: gets the weights.
        optimizer: gets the moments; they start afresh where its parameters are others now.

    Raises:
        CheckpointError: of another network.
    """
    checkpoint.fill(model, saved["model"], str(path))
    if not any(text.startswith(OTHER_MOMENTS) for text in changed):
        constants = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        optimizer.load_state_dict(saved["optimizer"])
        for group, values in zip(optimizer.param_groups, constants, strict=True):
            group.update(values)  # momentum and weight decay are the config's
    fields = (field.name for field in dataclasses.fields(State))
    state = State(**{name: saved[name] for name in fields if name in saved})
    return dataclasses.replace(state, forced=[*state.forced, *changed])


def find_best(path: Path, state: State) -> Path | None:
    """The best.pt beside a checkpoint, if it holds the best epoch that the checkpoint speaks of.

    Otherwise, and that is noted in `state`, the best epoch is sought anew: a run was killed between
    the two files, and validates again; or its checkpoint was taken elsewhere without best.pt.
    """
    best = path.parent / BEST
    if best.exists() and checkpoint.load(best)["epoch"] == state.best_epoch + 1:
        return best
    state.best_miou, state.best_epoch = State.best_miou, State.best_epoch
    return None
