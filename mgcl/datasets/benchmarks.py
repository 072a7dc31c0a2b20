"""Benchmarks of one's own: any classes, any number of folds, in a tree like iSAID-5i's.

`python -m mgcl.datasets.prepare own` writes one; `benchmark.json` in its root says what it is.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mgcl.files import read_text, write_json

FILE = "benchmark.json"

IGNORE_ID = 255  # a label pixel that counts neither as foreground nor as background
SPLITS = ("train", "val")

# Official iSAID colours in id order (0 is background).
ISAID_PALETTE = (
    (0, 0, 0), (0, 0, 63), (0, 63, 63), (0, 63, 0), (0, 63, 127), (0, 63, 191), (0, 63, 255),
    (0, 127, 63), (0, 127, 127), (0, 0, 127), (0, 0, 191), (0, 0, 255), (0, 191, 127),
    (0, 127, 191), (0, 127, 255), (0, 100, 155),
)  # fmt: skip


@dataclass(frozen=True)
class Benchmark:
    """Classes, folds and file layout of one few-shot benchmark.

    Class ids are 0-based everywhere in the code; label images and list lines hold class id + 1,
    and 0 there is background. In the patterns, {split} is "train" or "val", {name} the image's
    name and {scene} the name without its number (UC Merced's folders).
    """

    name: str
    class_names: tuple[str, ...]
    folds: tuple[tuple[int, ...], ...]  # 0-based ids of the test classes of each fold
    image_pattern: str
    label_pattern: str
    mask_key_pattern: str
    palette: tuple[tuple[int, int, int], ...] = ()  # RGB label colours in id order, if any
    background_ids: tuple[int, ...] = ()  # further label ids that count as background
    cycle_classes: bool = False  # training cycles through the classes instead of the list

    def image_path(self, root: str | os.PathLike[str], split: str, name: str) -> Path:
        """Path of the image `name` of `split` below `root`."""
        return Path(root) / self._fill(self.image_pattern, split, name)

    def label_path(self, root: str | os.PathLike[str], split: str, name: str) -> Path:
        """Path of the label PNG of the image `name` of `split` below `root`."""
        return Path(root) / self._fill(self.label_pattern, split, name)

    def mask_key(self, split: str, name: str) -> str:
        """What identifies an image, in the mask store and elsewhere."""
        return self._fill(self.mask_key_pattern, split, name)

    def test_class_ids(self, fold: int) -> tuple[int, ...]:
        """0-based ids of the novel classes of `fold`."""
        if not 0 <= fold < len(self.folds):
            raise ValueError(f"fold {fold}: {self.name} has the folds 0 to {len(self.folds) - 1}")
        return self.folds[fold]

    def train_class_ids(self, fold: int) -> tuple[int, ...]:
        """0-based ids of the classes that are trained on when `fold` is tested."""
        novel = self.test_class_ids(fold)
        return tuple(c for c in range(len(self.class_names)) if c not in novel)

    def training_folds(self, fold: int) -> tuple[int, ...]:
        """The folds whose training lists are read when `fold` is tested."""
        self.test_class_ids(fold)
        return tuple(f for f in range(len(self.folds)) if f != fold)

    @property
    def known_label_ids(self) -> tuple[int, ...]:
        """Every value that a label image may hold."""
        return (*range(len(self.class_names) + 1), *self.background_ids, IGNORE_ID)

    def _fill(self, pattern: str, split: str, name: str) -> str:
        check_name(name)
        if split not in SPLITS:
            raise ValueError(f"split {split!r}: must be one of {', '.join(SPLITS)}")
        return pattern.format(split=split, name=name, scene=name[:-2])


def check_name(name: str) -> None:
    """Refuse an image name that could lead out of the data root, or break a list.

    Links that lie in the root are followed: they are the user's own, no list can make one.

    Raises:
        ValueError: the name is empty, absolute, has a ".." or an empty part, or does not print.
    """
    parts = name.split("/")
    if "\\" in name or "\0" in name or re.match("[A-Za-z]:", name) or {"", ".", ".."} & {*parts}:
        raise ValueError(f"image name {name!r} must stay inside the data root: give a plain name")
    if not name.isprintable() or name != name.strip():  # would not survive a list
        raise ValueError(
            f"image name {name!r} has a character that does not print, or a space at an end: "
            "rename the file"
        )


_FIVES = (tuple(range(5)), tuple(range(5, 10)), tuple(range(10, 15)))

BENCHMARKS = {
    "isaid": Benchmark(
        name="isaid",
        class_names=(
            "ship", "storage_tank", "baseball_diamond", "tennis_court", "basketball_court",
            "ground_track_field", "bridge", "large_vehicle", "small_vehicle", "helicopter",
            "swimming_pool", "roundabout", "soccer_ball_field", "plane", "harbor",
        ),
        folds=_FIVES,
        image_pattern="{split}/images/{name}.png",
        label_pattern="{split}/semantic_png/{name}_instance_color_RGB.png",
        mask_key_pattern="{split}/{name}",
        palette=ISAID_PALETTE,
    ),
    "dlrsd": Benchmark(
        name="dlrsd",
        class_names=(
            "airplane", "bare_soil", "buildings", "cars", "chaparral",
            "court", "dock", "field", "grass", "mobile_home",
            "pavement", "sand", "sea", "ship", "tanks",
        ),
        folds=_FIVES,
        image_pattern="Images/{scene}/{name}.tif",
        label_pattern="Labels/{scene}/{name}.png",
        mask_key_pattern="{name}",
        background_ids=(16, 17),  # trees, water
        cycle_classes=True,
    ),
}  # fmt: skip


class _Facts(BaseModel):
    """What `benchmark.json` holds."""

    model_config = ConfigDict(strict=True, extra="forbid")
    class_names: list[str] = Field(min_length=2, max_length=254)
    folds: list[list[int]] = Field(min_length=2)


def write_benchmark(root: str | os.PathLike[str], benchmark: Benchmark) -> None:
    """Write what `read_benchmark` reads."""
    facts = {"class_names": benchmark.class_names, "folds": benchmark.folds}
    write_json(Path(root) / FILE, facts)


def find_benchmark(name: str, root: str | os.PathLike[str]) -> Benchmark:
    """The record of a benchmark; that of "own" lies in the data root."""
    return BENCHMARKS[name] if name in BENCHMARKS else read_benchmark(root)


def read_benchmark(root: str | os.PathLike[str]) -> Benchmark:
    """The benchmark in a data root.

    Raises:
        FileNotFoundError: there is none.
        ValueError: its file is broken.
    """
    path = Path(root) / FILE
    try:
        facts = _Facts.model_validate_json(read_text(path))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no {path}: make it with python -m mgcl.datasets.prepare own, or set data.root"
        ) from None
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc']))} {e['msg']}" for e in error.errors())
        raise ValueError(
            f"{path} describes no benchmark ({'; '.join(problems).strip()}): prepare it anew"
        ) from None
    count, parts = len(facts.class_names), facts.folds
    if sorted(c for fold in parts for c in fold) != list(range(count)) or not all(parts):
        raise ValueError(f"{path}: its folds do not part its {count} classes: prepare it anew")
    return _benchmark(tuple(facts.class_names), tuple(map(tuple, parts)))


def _benchmark(names: tuple[str, ...], folds: tuple[tuple[int, ...], ...]) -> Benchmark:
    return Benchmark(
        name="own",
        class_names=names,
        folds=folds,
        image_pattern="{split}/images/{name}.png",
        label_pattern="{split}/labels/{name}.png",
        mask_key_pattern="{split}/{name}",
    )
