"""Benchmarks: classes, folds, and where the files lie; the paper's two, and any of one's own.

`benchmark.json` in a data root says what one's own is (docs/extending.md has an example). `prepare
own` writes one for a tree like iSAID-5i's; for a tree that is there already one writes it by hand,
and `prepare lists` makes its lists. `data.benchmark = "own"` trains on it.
"""

import os
import re
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    and 0 there is background, unless `label_values` says otherwise. In the patterns, {split} is
    "train" or "val" (or what `split_folders` calls them), {name} the image's name, {folder} and
    {stem} that name before and after its last slash, and {scene} the name without its number (UC
    Merced's folders).
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
    label_values: tuple[tuple[int, int], ...] = ()
    """Pairs of a value in the label files and the id that it means: class id + 1, 0 background, 255
    ignored; () where values are ids. A colour's value is r * 65536 + g * 256 + b."""
    label_colours: bool = False  # whether these values are colours
    split_folders: tuple[str, str] = SPLITS

    def image_path(self, root: str | os.PathLike[str], split: str, name: str) -> Path:
        """Path of the image `name` of `split` below `root`."""
        return Path(root) / self._fill(self.image_pattern, split, name)

    def label_path(self, root: str | os.PathLike[str], split: str, name: str) -> Path:
        """Path of the label PNG of the image `name` of `split` below `root`."""
        return Path(root) / self._fill(self.label_pattern, split, name)

    def mask_key(self, split: str, name: str) -> str:
        """What identifies an image, in the mask store and elsewhere."""
        return self._fill(self.mask_key_pattern, split, name, folders=SPLITS)

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

    def _fill(
        self, pattern: str, split: str, name: str, folders: tuple[str, str] | None = None
    ) -> str:
        check_name(name)
        if split not in SPLITS:
            raise ValueError(f"split {split!r}: must be one of {', '.join(SPLITS)}")
        folder, _, stem = name.rpartition("/")
        place = (folders or self.split_folders)[SPLITS.index(split)]
        return pattern.format(split=place, name=name, scene=name[:-2], folder=folder, stem=stem)


PLACES = ("split", "name", "folder", "stem", "scene")


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that leads out of the data root or tells no image from another.

    Raises:
        ValueError: what is wrong.
    """
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(pattern)} - {None}
    except ValueError as error:
        raise ValueError(f"{pattern!r} is no pattern of a path: {error}") from None
    if not fields <= {*PLACES} or not ("name" in fields or {"folder", "stem"} <= fields):
        raise ValueError(
            f"{pattern!r} must hold {{name}}, or {{folder}} and {{stem}}; {{split}} may be in it"
        )
    check_name(string.Formatter().vformat(pattern, (), dict.fromkeys(PLACES, "x")))


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


_IMAGE, _LABEL = "{split}/images/{name}.png", "{split}/labels/{name}.png"
_VALUE = re.compile(r"#[0-9a-fA-F]{6}|[0-9]{1,5}")


class _Splits(BaseModel):
    """What the tree calls the folders of its splits."""

    model_config = ConfigDict(strict=True, extra="forbid")
    train: str = Field(default=SPLITS[0], min_length=1)
    val: str = Field(default=SPLITS[1], min_length=1)


class _Record(BaseModel):
    """What `benchmark.json` holds."""

    model_config = ConfigDict(strict=True, extra="forbid")
    class_names: list[str] = Field(min_length=2, max_length=254)
    folds: list[list[int] | list[str]] = Field(min_length=2)
    """Novel classes of each fold, by name or by place in the list of names, from 0."""
    image: str = _IMAGE
    label: str = _LABEL
    splits: _Splits = _Splits()
    label_values: dict[str, str] = {}
    """Value in the label files, or #colour, -> class, "background" or "ignore"."""


def write_benchmark(root: str | os.PathLike[str], benchmark: Benchmark) -> None:
    """Write what `read_benchmark` reads, of a benchmark in a tree like iSAID-5i's."""
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
        record = _Record.model_validate_json(read_text(path))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no {path.absolute()}: make it with python -m mgcl.datasets.prepare own, write it by "
            "hand for a tree that is there (docs/extending.md), or set data.root"
        ) from None
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc']))} {e['msg']}" for e in error.errors())
        raise ValueError(
            f"{path} describes no benchmark ({'; '.join(problems).strip()}): prepare it anew"
        ) from None
    try:
        return _benchmark(record)
    except ValueError as error:
        raise ValueError(f"{path}: {error}. Correct it, or prepare it anew") from None


def own_benchmark(
    names: tuple[str, ...], folds: tuple[tuple[int, ...], ...], **places: Any
) -> Benchmark:
    """A benchmark of one's own; in a tree like iSAID-5i's unless `places` says otherwise."""
    usual = {
        "image_pattern": _IMAGE,
        "label_pattern": _LABEL,
        "mask_key_pattern": "{split}/{name}",
    }
    return Benchmark(name="own", class_names=names, folds=folds, **(usual | places))


def _benchmark(record: _Record) -> Benchmark:
    names = record.class_names
    for name in names:
        if not re.fullmatch(r"[\w.+-]+", name) or name in ("background", "ignore"):
            raise ValueError(f"class {name!r} must be a word of letters, digits, _ . + -")
    if len({*names}) != len(names):
        raise ValueError("two classes have one name")
    folds = tuple(tuple(_class_id(c, names) for c in fold) for fold in record.folds)
    if sorted(c for fold in folds for c in fold) != list(range(len(names))) or not all(folds):
        raise ValueError(f"its folds do not part its {len(names)} classes")
    for pattern in (record.image, record.label):
        check_pattern(pattern)
    values, colours = _values(record.label_values, names)
    return own_benchmark(
        tuple(names),
        folds,
        image_pattern=record.image,
        label_pattern=record.label,
        mask_key_pattern="{split}/{name}" if "{split}" in record.image else "{name}",
        label_values=values,
        label_colours=colours,
        split_folders=(record.splits.train, record.splits.val),
    )


def _class_id(named: int | str, names: list[str]) -> int:
    if isinstance(named, int):
        return named
    if named not in names:
        raise ValueError(f"a fold holds {named!r}, which is no class")
    return names.index(named)


def _values(said: dict[str, str], names: list[str]) -> tuple[tuple[tuple[int, int], ...], bool]:
    """Pairs of a value and an id, and whether the values are colours."""
    if not said:
        return (), False
    ids = {"background": 0, "ignore": IGNORE_ID} | {name: i for i, name in enumerate(names, 1)}
    pairs = []
    for value, name in said.items():
        if not _VALUE.fullmatch(value):
            raise ValueError(f"label value {value!r} is neither a number nor a colour #RRGGBB")
        if name not in ids:
            raise ValueError(f"label value {value} means {name!r}, which is no class")
        pairs.append((int(value[1:], 16) if value[0] == "#" else int(value), ids[name]))
    lacking = [name for name in names if name not in said.values()]
    if lacking:
        raise ValueError(f"no label value means {', '.join(lacking)}")
    if len({value[0] == "#" for value in said}) > 1:
        raise ValueError("label values are either numbers or colours")
    return tuple(pairs), next(iter(said))[0] == "#"
