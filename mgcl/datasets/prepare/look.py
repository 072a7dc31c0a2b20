"""What labels hold, told before anything is cut: values without a name, images of each class."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mgcl import console
from mgcl.datasets.benchmarks import SPLITS, Benchmark
from mgcl.datasets.lists import Entry
from mgcl.datasets.prepare.classes import ClassTable, read_ids, unknown_values
from mgcl.datasets.prepare.tiles import Picture, class_pixels
from mgcl.workers import in_processes


class _Seen(NamedTuple):
    """What one label holds."""

    picture: Picture
    class_ids: list[int]
    unknown: list[str]
    error: str | None


def _look(picture: Picture, *, table: ClassTable) -> _Seen:
    try:
        unknown = unknown_values(picture.label, table)
        class_ids = [] if unknown else list(class_pixels(read_ids(picture.label, table)))
        return _Seen(picture, class_ids, unknown, None)
    except (ValueError, OSError) as error:
        return _Seen(picture, [], [], str(error))


def tell_labels(
    pictures: Sequence[Picture], benchmark: Benchmark, table: ClassTable, *, processes: int
) -> int:
    """Read all labels; name every value that the class table lacks, or count images a class.

    Returns:
        The exit status: whether anything is wrong.
    """
    work = in_processes(partial(_look, table=table), pictures, processes=processes)
    seen = list(console.progress(work, total=len(pictures), desc="labels", unit="label"))
    unknown: dict[str, list[Path]] = {}
    for one in seen:
        for value in one.unknown:
            unknown.setdefault(value, []).append(one.picture.label)
    errors = [one.error for one in seen if one.error]
    for error in errors:
        console.fail(error)
    for value, paths in sorted(unknown.items()):
        console.fail(f"{value} is in {len(paths)} of {len(seen)} labels, {paths[0]} for one")
    if unknown:
        console.fail(
            f"the class table does not name these {len(unknown)} values: add a line for each (name "
            "it background or ignore if it is no class)"
        )
    else:
        entries = [
            Entry(one.picture.split, one.picture.name, c) for one in seen for c in one.class_ids
        ]
        tell_counts(entries, benchmark)
    return console.WRONG if errors or unknown else console.DONE


def tell_counts(entries: Iterable[Entry], benchmark: Benchmark) -> None:
    """Images of each class, by split and fold."""
    counts = Counter((entry.split, entry.class_id) for entry in entries)
    for fold, class_ids in enumerate(benchmark.folds):
        for c in class_ids:
            listed = ", ".join(f"{counts[split, c]} {split}" for split in SPLITS)
            console.say(f"  fold {fold}, {c + 1:3} {benchmark.class_names[c]}: {listed}")
    remedy = "; --val chooses the images" if benchmark.name == "own" else ""
    for split in SPLITS:
        few = [n for c, n in enumerate(benchmark.class_names) if counts[split, c] < 2]
        if few:
            console.warn(f"too few {split} images for an episode (2): {', '.join(few)}{remedy}")
