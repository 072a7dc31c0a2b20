"""Lists of a benchmark in a tree of its own, from its labels: `prepare lists`."""

import re
import string
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mgcl import console
from mgcl.datasets.benchmarks import FILE, SPLITS, Benchmark, read_benchmark
from mgcl.datasets.labels import read_label
from mgcl.datasets.lists import Entry, write_lists
from mgcl.datasets.prepare.look import tell_counts
from mgcl.datasets.prepare.tiles import class_pixels
from mgcl.images.find import find_files
from mgcl.masks.store import is_store
from mgcl.workers import in_processes, processes_for

_PARTS = {"name": ".+", "folder": ".+", "stem": "[^/]+", "scene": "[^/]+"}


class _Counted(NamedTuple):
    """Pixels of each class in one label, or why it cannot be read."""

    pixels: dict[int, int]
    error: str | None


def write_lists_of(root: Path, lists_dir: Path, *, min_pixels: int, dry_run: bool = False) -> int:
    """List each image of the tree for each class that its label shows with enough pixels.

    Args:
        root: the data root, with a `benchmark.json`.
        lists_dir: where the lists go.
        min_pixels: of a class that list an image for it.
        dry_run: count and write nothing.

    Returns:
        The exit status: whether a label is missing or cannot be read.

    Raises:
        ValueError: no image in the tree is called as the record says, or the record is broken.
    """
    benchmark = read_benchmark(root)
    names = find_names(benchmark, root)
    labels = {benchmark.label_path(root, *split_and_name) for split_and_name in names}
    work = in_processes(
        partial(_count, benchmark=benchmark), sorted(labels), processes=processes_for(len(labels))
    )
    bar = console.progress(work, total=len(labels), desc="labels", unit="label")
    counted = dict(zip(sorted(labels), bar, strict=True))
    entries = [
        Entry(split, name, class_id)
        for split, name in names
        for class_id, pixels in counted[benchmark.label_path(root, split, name)].pixels.items()
        if pixels >= min_pixels
    ]
    per_split = ", ".join(f"{sum(s == split for s, _ in names)} {split}" for split in SPLITS)
    console.say(f"{len(labels)} labels: {per_split} images")
    tell_counts(entries, benchmark)
    errors = [one.error for one in counted.values() if one.error]
    for error in errors:
        console.fail(error)
    if not dry_run:
        write_lists(benchmark, lists_dir, entries)
        console.say(f"lists: {lists_dir}")
    return console.WRONG if errors else console.DONE


def find_names(benchmark: Benchmark, root: Path) -> list[tuple[str, str]]:
    """Split and name of every image in the benchmark's tree, sorted.

    Raises:
        ValueError: there is none, with what was looked for.
    """
    found = [path.relative_to(root).as_posix() for path in find_files(root, skip=is_store).images]
    names = []
    for split in SPLITS:
        pattern = _regex(benchmark, split)
        for parts in filter(None, map(pattern.fullmatch, found)):
            groups = parts.groupdict()
            name = groups.get("name") or f"{groups['folder']}/{groups['stem']}"
            if benchmark.image_path("", split, name).as_posix() == parts[0]:
                names.append((split, name))
    if not names:
        raise ValueError(
            f"none of {len(found)} images below {root.absolute()} lies where {FILE} says: "
            f"{benchmark.image_pattern}, split {' or '.join(benchmark.split_folders)}"
        )
    return names


def _regex(benchmark: Benchmark, split: str) -> re.Pattern[str]:
    """What the paths of a split's images match; a part that comes twice is the same twice."""
    place = benchmark.split_folders[SPLITS.index(split)]
    text, seen = "", set()
    for literal, field, _, _ in string.Formatter().parse(benchmark.image_pattern):
        text += re.escape(literal)
        if field == "split":
            text += re.escape(place)
        elif field:
            text += f"(?P={field})" if field in seen else f"(?P<{field}>{_PARTS[field]})"
            seen.add(field)
    return re.compile(text)


def _count(label: Path, *, benchmark: Benchmark) -> _Counted:
    try:
        return _Counted(class_pixels(read_label(label, benchmark)), None)
    except (ValueError, OSError) as error:
        return _Counted({}, str(error))
