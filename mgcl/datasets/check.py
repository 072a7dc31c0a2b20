"""Walk a whole data set before a day of training and print everything that is wrong with it.

    python -m mgcl.datasets.check --config configs/isaid_resnet50.toml [--data.root DIR]

Reads every list, image, label and mask map once. Exit status: 0 nothing wrong, 1 something is,
2 a mistake in the config.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from mgcl import tables
from mgcl.config import Config, load_or_exit
from mgcl.masks.store import MaskStore

from ..imagefile import read_image
from . import build
from .benchmarks import SPLITS, Benchmark
from .images import read_label
from .lists import Entry, list_path, scan_list


class Problem(NamedTuple):
    """One thing that is wrong; the message names the file."""

    kind: str
    message: str


def main(argv: Sequence[str] | None = None) -> int:
    """Check what the config names; prints a table and returns the exit status."""
    config = load_or_exit(sys.argv[1:] if argv is None else argv, prog="mgcl.datasets.check")
    try:
        entries, problems = check_lists(config)
        store, notes = open_store(config)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    images = by_image(build.benchmark(config), entries)
    progress = tqdm(total=len(images), unit="image", disable=None)
    problems += check_images(config, images, store, progress)
    progress.close()
    print(*notes, sep="\n", end="\n" * bool(notes))
    if problems:
        print(tables.text(tables.Table(("problem", "where and what"), problems)))
    print(f"{len(entries)} list entries, {len(images)} images, {len(problems)} problem(s)")
    return 1 if problems else 0


def check_lists(config: Config) -> tuple[list[Entry], list[Problem]]:
    """Read all lists: their good entries; bad lines, missing lists, classes with too few images."""
    bench, published = build.benchmark(config), config.data.lists == "published"
    entries: list[Entry] = []
    problems: list[Problem] = []
    for split in SPLITS:
        for fold, class_ids in enumerate(bench.folds):
            path = list_path(config.lists_dir, split, fold)
            try:
                found, bad = scan_list(path, bench, split, published=published, class_ids=class_ids)
            except (OSError, ValueError) as error:
                problems.append(Problem("list", str(error)))
                continue
            entries += found
            problems += [Problem("list", message) for message in bad]
            needed = 2 if split == "train" else max(config.test.shots) + 1
            problems += _too_few(bench, found, class_ids, needed, str(path))
    return entries, problems


def open_store(config: Config) -> tuple[MaskStore | None, list[str]]:
    """The mask maps, if main_0 has made any, and what to say if not."""
    if config.masks.generator == "none":
        return None, []
    if not config.masks_dir.is_dir():
        return None, [f"mask maps not checked: {config.masks_dir} does not exist yet (main_0)"]
    return MaskStore(config.masks_dir), []


def by_image(benchmark: Benchmark, entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """The entries of each image, in order: mask key -> entries."""
    images: dict[str, list[Entry]] = {}
    for entry in entries:
        images.setdefault(benchmark.mask_key(entry.split, entry.name), []).append(entry)
    return images


def check_images(
    config: Config, images: dict[str, list[Entry]], store: MaskStore | None, progress: tqdm
) -> list[Problem]:
    """Problems of all images, in list order."""

    def check(entries: list[Entry]) -> list[Problem]:
        found = list(_check_image(config, entries, store))
        progress.update()
        return found

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [problem for found in pool.map(check, images.values()) for problem in found]


def _check_image(
    config: Config, entries: list[Entry], store: MaskStore | None
) -> Iterator[Problem]:
    bench, root, (split, name, _) = build.benchmark(config), config.data.root, entries[0]
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        shapes["image"] = read_image(bench.image_path(root, split, name)).shape[:2]
    except (OSError, ValueError) as error:
        yield Problem("image", str(error))
    try:
        label = read_label(bench.label_path(root, split, name), bench)
        shapes["label"] = label.shape
        yield from _absent(bench, label, entries)
    except (OSError, ValueError) as error:
        yield Problem("label", str(error))
    if store is not None:
        try:
            shapes["mask map"] = store.load(bench.mask_key(split, name)).shape
        except (OSError, ValueError) as error:
            yield Problem("mask map", str(error))
    if len(set(shapes.values())) > 1:
        sizes = ", ".join(f"{what} {shape[1]} x {shape[0]}" for what, shape in shapes.items())
        yield Problem("sizes", f"{bench.image_path(root, split, name)}: {sizes} disagree")


def _absent(bench: Benchmark, label: np.ndarray, entries: list[Entry]) -> Iterator[Problem]:
    """Listed classes without a pixel: such an episode has no foreground."""
    present = np.unique(label)
    for class_id in sorted({entry.class_id for entry in entries}):
        if class_id + 1 not in present:
            text = f"{entries[0].name} is listed for {class_id + 1} {bench.class_names[class_id]}"
            yield Problem("label", f"{text}, but its label has no pixel of it")


def _too_few(
    bench: Benchmark, entries: list[Entry], class_ids: Sequence[int], needed: int, path: str
) -> Iterator[Problem]:
    for class_id in class_ids:
        count = len({entry.name for entry in entries if entry.class_id == class_id})
        if count < needed:
            name = f"{class_id + 1} {bench.class_names[class_id]}"
            text = f"{path}: {count} image(s) of {name}, an episode needs {needed}"
            yield Problem("too few", text)


if __name__ == "__main__":
    sys.exit(main())
