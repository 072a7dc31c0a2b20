"""Which constants change the numbers: those of a resumed run, and of the runs of a sweep."""

from collections.abc import Sequence
from typing import Any

from mgcl.config.sections import Config

# What a resumed run may not change: the sections that it learns by, less where things lie and how
# fast they come, and the constants of the test that choose its best epoch.
LEARNING = ("data", "masks", "model", "train")
CHOOSING = ("test.threshold", "test.supports")
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
