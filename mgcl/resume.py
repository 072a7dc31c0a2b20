"""Where a run stands: kept in its checkpoints, and found again when it is started anew."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mgcl import checkpoint, distributed
from mgcl.build import CHOOSING, different_constants
from mgcl.config import Config

LAST, PREVIOUS, BEST = "last.pt", "last.previous.pt", "best.pt"


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
    cut: float | None = None
    """Calibrated threshold of the newest validated epoch."""
    chosen_on: str = ""
    """Episodes that chose the best epoch, in words."""
    calibrated_on: str = ""
    """Episodes that the threshold was found on, in words."""
    forced: list[str] = dataclasses.field(default_factory=list)
    """Constants that were changed on the way with train.force."""


def save(
    folder: Path,
    state: State,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: Config,
    progress: Mapping[str, Any] | None = None,
    best: bool = False,
) -> None:
    """Write last.pt, keeping the one before, and best.pt if it is the best.

    Args:
        folder: of the run.
        state: where the run stands.
        model: its weights.
        optimizer: its moments.
        config: the constants that a resumed run must have.
        progress: of the epoch under way, see `Progress.state_dict`.
        best: the epoch that just ended is the best so far.

    Raises:
        DiskFullError: no room; the old files are whole.
    """
    saved = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "config": config.model_dump(mode="json", exclude_none=True),
        "progress": progress,
        **dataclasses.asdict(state),
    }
    # best.pt first: a kill between the two repeats the validation, and with it the same best.pt.
    if best:
        to_test = {k: v for k, v in saved.items() if k not in ("optimizer", "progress")}
        checkpoint.save(folder / BEST, to_test)
    checkpoint.save(folder / LAST, saved, previous=folder / PREVIOUS)


def find(config: Config, device: torch.device) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint that the run goes on from, with its path; None for a run that starts.

    Raises:
        ValueError: the run exists and train.resume does not say what to do.
        CheckpointError: the checkpoint, or both of them, cannot be read.
    """
    resume, folder = config.train.resume, config.run_dir
    there = [path for path in (folder / LAST, folder / PREVIOUS) if path.exists()]
    if resume not in ("", "auto"):
        path = Path(resume)
        if there and path.resolve().parent != folder.resolve():
            raise ValueError(
                f"{there[0]} is there already: to go on from {path}, take another run.name"
            )
        return path, checkpoint.load(path, device)
    if there and not resume:
        raise ValueError(
            f"{there[0]} is there already: --train.resume auto goes on with it, another run.name "
            "starts afresh"
        )
    return _newest_whole(there, device) if there else None


def _newest_whole(paths: list[Path], device: torch.device) -> tuple[Path, dict[str, Any]]:
    *newer, oldest = paths
    for path in newer:
        try:
            return path, checkpoint.load(path, device)
        except checkpoint.CheckpointError as error:
            if distributed.is_main():
                print(f"warning: {error}; going on with {oldest}, the one before", flush=True)
    return oldest, checkpoint.load(oldest, device)


def restore(
    path: Path,
    saved: Mapping[str, Any],
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: Config,
) -> State:
    """Fill network and optimiser from a checkpoint that `find` found.

    Raises:
        CheckpointError: no checkpoint of a training, or of another network.
        ValueError: it was made with other constants, and train.force is off.
    """
    if "optimizer" not in saved or "config" not in saved:
        raise checkpoint.CheckpointError(
            f"{path} is no checkpoint to go on from: that is a run's {LAST} or {PREVIOUS}"
        )
    under_way = saved["epoch"] < config.train.epochs
    differing = different_constants(saved["config"], config, choosing=CHOOSING if under_way else ())
    if differing and not config.train.force:
        raise ValueError(
            f"{path} was made with other constants: {'; '.join(differing)}. Take those, or another "
            "run.name; --train.force true goes on nevertheless"
        )
    checkpoint.fill(model, saved["model"], str(path))
    _fill_optimizer(optimizer, saved, config)
    fields = (field.name for field in dataclasses.fields(State))
    state = State(**{name: saved[name] for name in fields if name in saved})
    return dataclasses.replace(state, forced=[*state.forced, *differing])


def _fill_optimizer(
    optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], config: Config
) -> None:
    """Its moments; they start afresh where the run was forced to another kind of optimiser."""
    before = saved["config"]["train"]
    if before["optimizer"] != config.train.optimizer:
        return
    if before["freeze_backbone"] != config.train.freeze_backbone:
        return
    constants = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    optimizer.load_state_dict(saved["optimizer"])
    for group, values in zip(optimizer.param_groups, constants, strict=True):
        group.update(values)  # momentum and weight decay are the config's
