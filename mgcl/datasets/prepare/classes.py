"""The class table of one's own labels, and the benchmark that it makes."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mgcl.datasets.benchmarks import IGNORE_ID, Benchmark, own_benchmark
from mgcl.datasets.labels import ids_of_values, read_values
from mgcl.datasets.lists import uniform
from mgcl.datasets.prepare.tiles import image_name
from mgcl.files import read_text
from mgcl.images.find import find_files

RESERVED = {"background": 0, "ignore": IGNORE_ID}  # names that are no class, in any case


class ClassTable(NamedTuple):
    """Names of the classes, and which label value (an id or r * 65536 + g * 256 + b) means what."""

    names: tuple[str, ...]
    values: dict[int, int]  # value in the label -> id to write: 0, 1.. or 255
    colours: bool


def read_classes(path: str | os.PathLike[str]) -> ClassTable:
    """Read a class table: lines `ID NAME` or `#RRGGBB NAME`; background and ignore are no class.

    These two are meant in letters of any case, and as "_background_" or "__ignore__". Ids and
    colours may not be mixed; several lines may name the same class. Without a line for it, id 0 (or
    black) is background. Names become parts of file names: "storage tank" is kept as
    "storage_tank".

    Raises:
        ValueError: a broken or doubled line; the message names the file and the line.
    """
    meaning = dict(RESERVED)
    names: list[str] = []
    values: dict[int, int] = {}
    kinds = set()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        found = re.fullmatch(r"(#[0-9a-fA-F]{6}|[0-9]{1,3})\s+([\w.+-][\w.+ -]*)", line.strip())
        if not found:
            raise ValueError(f"{path}, line {number}: {line!r} is not 'ID NAME' or '#RRGGBB NAME'")
        key, name = found[1], "_".join(found[2].split())
        word = name.strip("_").casefold()  # "Background", labelme's "__ignore__"
        name = word if word in RESERVED else name
        value = int(key[1:], 16) if key[0] == "#" else int(key)
        if value in values:
            raise ValueError(f"{path}, line {number}: {key} has a name already")
        if name not in meaning:
            names.append(name)
            meaning[name] = len(names)
        values[value] = meaning[name]
        kinds.add(key[0] == "#")
    if len(kinds) != 1:
        raise ValueError(f"{path}: give either ids or #colours, and at least two classes")
    values.setdefault(0, 0)
    return ClassTable(tuple(names), values, kinds == {True})


def make_benchmark(table: ClassTable, folds: int) -> Benchmark:
    """A benchmark whose folds part the classes in the table's order.

    Raises:
        ValueError: fewer than two folds, fewer classes than folds, or more than 254.
    """
    count = len(table.names)
    if not 2 <= folds <= count <= 254:
        raise ValueError(
            f"{count} class(es) in {folds} fold(s): there must be at least 2 folds, a class or "
            "more in each, and at most 254 classes"
        )
    parts = np.array_split(np.arange(count), folds)
    return own_benchmark(table.names, tuple(tuple(part.tolist()) for part in parts))


def read_ids(path: Path, table: ClassTable) -> np.ndarray:
    """A label file of the table's kind as the ids to write, (H, W) uint8.

    Raises:
        ValueError: the label holds a value that the table does not name.
    """
    ids, unknown = ids_of_values(read_values(path, colours=table.colours), table.values)
    if unknown is not None:
        word = f"#{unknown:06x}" if table.colours else unknown
        raise ValueError(
            f"label {path} holds {word}, which the class table does not name: add a line for it "
            "(name it background or ignore if it is no class)"
        )
    return ids


def unknown_values(path: Path, table: ClassTable) -> list[str]:
    """What a label holds and the table does not name, as the table would write it.

    Raises:
        ValueError: the file cannot be read.
    """
    values = np.unique(read_values(path, colours=table.colours)).tolist()
    unknown = [value for value in values if value not in table.values]
    return [f"#{value:06x}" if table.colours else str(value) for value in unknown]


def split_by_name(path: Path, *, val_share: float) -> str:
    """Put about `val_share` of the images into val, by their names alone, the rest into train."""
    if not 0 < val_share < 1:
        raise ValueError(f"--val-share {val_share}: must be between 0 and 1")
    return "val" if uniform(0, image_name(path)) < val_share else "train"


def split_by_choice(images: Path, val: Path) -> Callable[[Path], str]:
    """The images that a folder holds, or a list names, are validation; the rest is training.

    Args:
        images: the folder with all images.
        val: a folder in it; or a text file with a line for each image, its name or its path below
            `images`, with or without suffix.

    Raises:
        ValueError: the folder lies elsewhere; a line names no image, or several.
    """
    if val.is_dir():
        if images.resolve() not in val.resolve().parents:
            raise ValueError(f"--val {val.absolute()} must be a folder in {images.absolute()}")
        chosen = {path.resolve() for path in find_files(val).images}
    else:
        chosen = {path.resolve() for path in _listed(images, val)}
    return lambda path: "val" if path.resolve() in chosen else "train"


def _listed(images: Path, val: Path) -> list[Path]:
    names: dict[str, list[Path]] = {}
    for path in find_files(images).images:
        relative = path.relative_to(images)
        for name in (relative, relative.with_suffix(""), relative.name, relative.stem):
            found = names.setdefault(Path(name).as_posix(), [])
            found += [path] * (path not in found)
    chosen = []
    for number, line in enumerate(read_text(val).splitlines(), start=1):
        found = names.get(line.strip(), [])
        if line.strip() and len(found) != 1:
            what = f"{found[0]} and {found[1]}" if found else f"no image below {images.absolute()}"
            raise ValueError(f"{val}, line {number}: {line.strip()!r} names {what}")
        chosen += found
    return chosen
