"""From the config to what a run computes with: network, set-up, batches to evaluate, thresholds."""

import os
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mgcl import distributed
from mgcl.allocator import keep_freed_memory
from mgcl.checkpoint import CheckpointError
from mgcl.config import Config
from mgcl.datasets.build import EpisodeSet
from mgcl.datasets.episodes import Episode
from mgcl.datasets.loader import in_batches, load_batches
from mgcl.engine import CUTS, Setup
from mgcl.model.network import MGCL, build_model

# What a resumed run may not change: the sections that it learns by, less where things lie and how
# fast they come, and the constants of the test that choose its best epoch.
LEARNING = ("data", "masks", "model", "train")
CHOOSING = ("test.cut", "test.supports")
FREE = {
    *("data.root", "data.lists_dir", "data.workers", "data.cache_gib"),
    *("train.resume", "train.force", "train.log_every", "train.save_every", "train.accumulate"),
    *("masks.root", "masks.images", "masks.shard", "masks.image_batch", "masks.prompt_batch"),
    *("masks.sam_checkpoint", "masks.compile"),
}

# By what the runs of a sweep compare.
COMPARED = {
    "data": ("benchmark", "fold", "image_size", "min_object", "ignore_label"),
    "masks": ("generator",),
    "model": ("backbone", "weights", "mgfe", "background", "decoder_masks"),
    "train": (
        *("seed", "epochs", "episodes_per_epoch", "batch_size", "optimizer", "lr", "momentum"),
        *("weight_decay", "poly_power", "freeze_backbone", "loss", "precision", "validation"),
    ),
}


def make_reproducible(config: Config) -> None:
    """Seed every generator; with train.deterministic only deterministic algorithms are left."""
    random.seed(config.train.seed)
    np.random.seed(config.train.seed)
    torch.manual_seed(config.train.seed)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    if config.train.deterministic:  # cuBLAS has to know before its first product
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.train.deterministic)
    torch.backends.cudnn.benchmark = not config.train.deterministic


def build_network(config: Config) -> MGCL:
    """The configured network; its random part depends on train.seed alone."""
    make_reproducible(config)
    keep_freed_memory()
    model = build_model(
        config.model.backbone,
        config.model.weights,
        mgfe=config.model.mgfe,
        background=config.model.background,
        decoder_masks=config.model.decoder_masks,
    )
    model.backbone.requires_grad_(not config.train.freeze_backbone)
    return model


def build_setup(config: Config, device: torch.device) -> Setup:
    """How a forward pass is done."""
    return Setup(device, config.train.precision, config.data.ignore_label == "background")


def evaluation_loader(part: EpisodeSet, config: Config) -> Iterable[Episode]:
    """This process's share of the batches, which are the same with any number of processes."""
    return load_batches(
        part.dataset,
        distributed.share(in_batches(part.ids, config.test.batch_size)),
        workers=config.data.workers,
        pin_memory=True,
    )


def cuts_to_try(wanted: float | str) -> tuple[float, ...]:
    """The thresholds of an evaluation, test.cut among them if it is a number."""
    return CUTS if isinstance(wanted, str) else tuple(sorted({*CUTS, wanted}))


def resolve_cut(wanted: float | str, calibrated: float | None) -> float:
    """The number behind test.cut; 0.5 where nothing is calibrated yet."""
    if wanted != "calibrated":
        return float(wanted)
    return 0.5 if calibrated is None else calibrated


def compared_constants(config: Config) -> dict[str, bool | float | str]:
    """The constants by which the runs of a sweep compare, by "section.key"."""
    values = config.model_dump(mode="json")
    return {
        f"{section}.{key}": values[section][key]
        for section, keys in COMPARED.items()
        for key in keys
    }


def different_constants(
    saved: dict[str, dict[str, Any]], config: Config, *, choosing: Sequence[str] = ()
) -> list[str]:
    """Constants that change a training's numbers and differ: "train.lr 0.01 -> 0.02".

    `choosing` names constants to compare besides; those of the test choose nothing any more once
    the training is done.
    """
    now = config.model_dump(mode="json", exclude_none=True)
    differing = []
    for section, constants in now.items():
        before = saved.get(section, {})
        for key in sorted(constants.keys() | before.keys()):
            name = f"{section}.{key}"
            counts = name in choosing or (section in LEARNING and name not in FREE)
            if counts and before.get(key) != constants.get(key):
                differing.append(f"{name} {before.get(key)} -> {constants.get(key)}")
    return differing


def changed_constants(path: Path, saved: Mapping[str, Any], config: Config) -> list[str]:
    """Constants that differ between a training's checkpoint and what goes on from it.

    Raises:
        CheckpointError: no checkpoint of a training.
        ValueError: some differ, and train.force is off.
    """
    if "optimizer" not in saved or "config" not in saved:
        raise CheckpointError(
            f"{path} is no checkpoint to go on from: that is a run's last.pt or last.previous.pt"
        )
    under_way = saved["epoch"] < config.train.epochs
    changed = different_constants(saved["config"], config, choosing=CHOOSING if under_way else ())
    if changed and not config.train.force:
        raise ValueError(
            f"{path} was made with other constants: {'; '.join(changed)}. Take those, or another "
            "run.name; --train.force true goes on nevertheless"
        )
    return changed
