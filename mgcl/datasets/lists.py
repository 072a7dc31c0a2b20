"""The benchmarks' lists: which image shows which class, by split and fold.

A list is a text file `<lists_dir>/{trn,val}/fold{f}.txt` with a line `NAME__ID` for each pair of
an image and a class (ID = label id, 1-based). Training on fold f reads the trn files of the
other folds, testing reads fold f's val file.
"""

import hashlib
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from mgcl.datasets.benchmarks import SPLITS, Benchmark, check_name
from mgcl.files import read_text, write_text

LIST_FOLDERS = {"train": "trn", "val": "val"}
PathLike = str | os.PathLike[str]


class Entry(NamedTuple):
    """One image and one 0-based class that it shows."""

    split: str
    name: str
    class_id: int


def list_path(lists_dir: PathLike, split: str, fold: int) -> Path:
    """Path of one list file."""
    return Path(lists_dir) / LIST_FOLDERS[split] / f"fold{fold}.txt"


def read_list(
    path: PathLike,
    benchmark: Benchmark,
    split: str,
    *,
    published: bool,
    class_ids: Collection[int] | None = None,
) -> list[Entry]:
    """Read one list file in its order; blank lines, CRLF and a byte-order mark are accepted.

    Args:
        path: the list.
        benchmark: says which ids are classes.
        split: "train" or "val", carried by the entries.
        published: drop what follows the last newline, as the published numbers were counted.
        class_ids: 0-based classes that the list may hold (all of the benchmark's by default).

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: a line without id, with another class or with an unsafe name; the message
            names the file and the line.
    """
    entries, problems = scan_list(path, benchmark, split, published=published, class_ids=class_ids)
    if problems:
        more = f" (and {len(problems) - 1} more lines)" if len(problems) > 1 else ""
        raise ValueError(problems[0] + more)
    return entries


def scan_list(
    path: PathLike,
    benchmark: Benchmark,
    split: str,
    *,
    published: bool,
    class_ids: Collection[int] | None = None,
) -> tuple[list[Entry], list[str]]:
    """As `read_list`, but returns the good entries and what is wrong with each bad line."""
    allowed = range(len(benchmark.class_names)) if class_ids is None else class_ids
    entries: list[Entry] = []
    problems: list[str] = []
    for number, line in enumerate(_lines(Path(path), published=published), start=1):
        if not line.strip():
            continue
        try:
            entries.append(_parse(line.strip(), benchmark, split, allowed))
        except ValueError as error:
            problems.append(f"{path}, line {number}: {error}")
    return entries, problems


def training_entries(
    benchmark: Benchmark, lists_dir: PathLike, fold: int, *, published: bool
) -> list[Entry]:
    """All training entries when `fold` is tested: the other folds' trn lists, in fold order."""
    return _join(benchmark, lists_dir, "train", benchmark.training_folds(fold), published)


def test_entries(
    benchmark: Benchmark, lists_dir: PathLike, fold: int, *, published: bool
) -> list[Entry]:
    """The test entries of `fold` in list order: its val list."""
    benchmark.test_class_ids(fold)
    return _join(benchmark, lists_dir, "val", (fold,), published)


test_entries.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest thinks


def heldout_entries(
    benchmark: Benchmark,
    lists_dir: PathLike,
    fold: int,
    *,
    published: bool,
    used: Iterable[Entry],
) -> list[Entry]:
    """Entries of the training classes that neither training nor the test of `fold` has seen.

    Args:
        benchmark: says which classes are trained on.
        lists_dir: folder of the lists.
        fold: that is tested.
        published: see `read_list`.
        used: the entries of training and test.

    They come from the other folds' val lists, less every image that the fold's test or training
    lists name. Where train and val share their images (DLRSD) none may be left: use
    `split_holdout` there.
    """
    seen = {benchmark.mask_key(e.split, e.name) for e in used}
    held = _join(benchmark, lists_dir, "val", benchmark.training_folds(fold), published)
    return [e for e in held if benchmark.mask_key(e.split, e.name) not in seen]


def split_holdout(
    entries: Iterable[Entry], share: float, seed: int, *, exclude: Iterable[Entry] = ()
) -> tuple[list[Entry], list[Entry]]:
    """Split entries by image into (kept, held out); an image's entries stay together.

    Whether an image is held out depends on `seed` and its name alone, so a longer list moves no
    other image. Images that `exclude` names (give the test entries) are never held out.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share {share} of images to hold out: must be at least 0 and below 1")
    excluded = {entry.name for entry in exclude}
    kept: list[Entry] = []
    held: list[Entry] = []
    for entry in entries:
        out = entry.name not in excluded and uniform(seed, entry.name) < share
        (held if out else kept).append(entry)
    return kept, held


def listed_images(
    benchmark: Benchmark, root: PathLike, lists_dir: PathLike, *, published: bool
) -> dict[str, Path]:
    """Every image that any list names: mask key -> path, each once."""
    images = {}
    for split in SPLITS:
        for entry in _join(benchmark, lists_dir, split, range(len(benchmark.folds)), published):
            key = benchmark.mask_key(split, entry.name)
            images[key] = benchmark.image_path(root, split, entry.name)
    return images


def write_lists(benchmark: Benchmark, lists_dir: PathLike, entries: Iterable[Entry]) -> None:
    """Write the list files of all splits and folds, in the order of `entries`."""
    by_split: dict[str, list[Entry]] = {split: [] for split in SPLITS}
    for entry in entries:
        by_split[entry.split].append(entry)
    for split, of_split in by_split.items():
        for fold, class_ids in enumerate(benchmark.folds):
            lines = [
                f"{e.name}__{e.class_id + 1:02d}\n" for e in of_split if e.class_id in class_ids
            ]
            write_text(list_path(lists_dir, split, fold), "".join(lines))


def _join(
    benchmark: Benchmark, lists_dir: PathLike, split: str, folds: Sequence[int], published: bool
) -> list[Entry]:
    entries = []
    for fold in folds:
        path = list_path(lists_dir, split, fold)
        class_ids = benchmark.test_class_ids(fold)
        entries += read_list(path, benchmark, split, published=published, class_ids=class_ids)
    return entries


def _lines(path: Path, *, published: bool) -> list[str]:
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no list {path.absolute()}: see data/README.md for where it belongs"
        ) from None
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if published else lines


def _parse(line: str, benchmark: Benchmark, split: str, allowed: Collection[int]) -> Entry:
    name, separator, label_id = line.rpartition("__")
    if not separator or not (label_id.isascii() and label_id.isdigit()):
        raise ValueError(f"{line!r} has no class id: expected NAME__ID")
    check_name(name)
    class_id = int(label_id[-9:]) - 1
    if class_id not in allowed:
        known = ", ".join(f"{c + 1} {benchmark.class_names[c]}" for c in sorted(allowed))
        raise ValueError(f"class id {label_id} of {name!r} does not belong here: {known}")
    return Entry(split, name, class_id)


def uniform(seed: int, name: str) -> float:
    """A number in [0, 1) that depends on its arguments alone, on any machine."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def drawable(
    entries: Sequence[Entry], needed: int = 2, *, among: Sequence[Entry] | None = None
) -> list[Entry]:
    """Without the classes that have too few images (`among` all): no support could be drawn."""
    images: dict[int, set[str]] = {}
    for entry in among or entries:
        images.setdefault(entry.class_id, set()).add(entry.name)
    return [entry for entry in entries if len(images[entry.class_id]) >= needed]
