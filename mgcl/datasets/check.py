"""Walk a whole data set before a day of training and print everything that is wrong with it.

    python -m mgcl.datasets.check --config configs/isaid_resnet50.toml [--data.root DIR]

Reads every list, image, label and mask map once. Exit status: 0 nothing wrong, 1 something is,
2 a mistake in the config.
"""

import sys

from mgcl import console

if __name__ == "__main__":  # before the imports that take a second
    sys.exit(console.run("mgcl.datasets.check"))

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mgcl.config import Config, load_or_exit
from mgcl.datasets.benchmarks import SPLITS, Benchmark, find_benchmark
from mgcl.datasets.labels import read_label
from mgcl.datasets.lists import Entry, list_path, scan_list
from mgcl.images.read import read_image
from mgcl.masks.store import MaskStore

_THREADS = 8  # a large scene takes 0.5 GB while it is checked


class Problem(NamedTuple):
    """One thing that is wrong; the message names the file."""

    kind: str
    message: str


class Findings(NamedTuple):
    """What a check found so far."""

    problems: list[Problem]
    notes: list[str]
    """What is not wrong but good to know."""


def main(argv: Sequence[str] | None = None) -> int:
    """Check what the config names; prints a table and returns the exit status."""
    config = load_or_exit(
        sys.argv[1:] if argv is None else argv, prog="python -m mgcl.datasets.check"
    )
    try:
        bench = find_benchmark(config.data.benchmark, config.data.root)
        bench.test_class_ids(config.data.fold)
        if not config.data.root.is_dir():
            raise ValueError(
                f"no folder {Path(config.data.root).absolute()}: set data.root (see data/README.md)"
            )
    except (ValueError, OSError) as error:
        console.fail(error)
        return console.WRONG
    found = Findings([], [])
    entries = [*check_lists(config, bench, found), *check_manifest(config, bench, found)]
    store = open_store(config, found)
    images = by_image(bench, entries)
    with console.progress(total=len(images), unit="image") as progress:
        problems = check_images(config.data.root, bench, images, store, progress)
    problems = [*found.problems, *problems]
    print(*found.notes, sep="\n", end="\n" * bool(found.notes))
    if problems:
        rows = [("problem", "where and what"), ("-" * 10, "-" * 68), *problems]
        print(*(f"{kind:<10}  {message}" for kind, message in rows), sep="\n", end="\n\n")
    print(f"{len(entries)} list entries, {len(images)} images, {len(problems)} problem(s)")
    return 1 if problems else 0


def check_lists(config: Config, bench: Benchmark, findings: Findings) -> list[Entry]:
    """The good entries of all lists.

    Problems are bad lines, missing lists, doubled entries, classes with too few images.
    """
    published = config.data.lists == "published"
    entries: list[Entry] = []
    for split in SPLITS:
        for fold, class_ids in enumerate(bench.folds):
            path = list_path(config.lists_dir, split, fold)
            try:
                found, bad = scan_list(path, bench, split, published=published, class_ids=class_ids)
                findings.notes.extend(_last_line(path) if published else [])
            except (OSError, ValueError) as error:
                findings.problems.append(Problem("list", str(error)))
                continue
            entries += found
            findings.problems.extend(Problem("list", message) for message in bad)
            findings.problems.extend(_doubled(found, str(path)))
            needed = 2 if split == "train" else max(config.test.shots) + 1
            findings.problems.extend(_too_few(bench, found, class_ids, needed, str(path)))
    return entries


def check_manifest(config: Config, bench: Benchmark, findings: Findings) -> list[Entry]:
    """The entries of the configured episode manifest, if there is one and it suits the config."""
    entries: list[Entry] = []
    for shots in config.test.shots if config.test.episodes else []:
        from mgcl.datasets.sets import read_episodes  # with PyTorch

        assert config.test.episodes is not None
        try:
            specs = read_episodes(config, config.test.episodes, bench, shots)
        except (OSError, ValueError) as error:
            findings.problems.append(Problem("manifest", str(error)))
        else:
            entries += [entry for spec in specs for entry in (spec.query, *spec.supports)]
    return entries


def open_store(config: Config, findings: Findings) -> MaskStore | None:
    """The mask maps, if main_0 has made any."""
    if config.masks.generator == "none":
        return None
    if not config.masks_dir.is_dir():
        text = f"mask maps not checked: {config.masks_dir} does not exist yet (main_0)"
        findings.notes.append(text)
        return None
    try:
        store = MaskStore(config.masks_dir)
    except ValueError as error:
        findings.problems.append(Problem("mask maps", str(error)))
        return None
    made_by = ", ".join(f"{key} {value}" for key, value in store.spec.items())
    findings.notes.append(f"mask maps in {config.masks_dir} were made with: {made_by}")
    return store


def by_image(benchmark: Benchmark, entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """The entries of each image, in order: mask key -> entries."""
    images: dict[str, list[Entry]] = {}
    for entry in entries:
        images.setdefault(benchmark.mask_key(entry.split, entry.name), []).append(entry)
    return images


def check_images(
    root: Path,
    bench: Benchmark,
    images: dict[str, list[Entry]],
    store: MaskStore | None,
    progress: Any,
) -> list[Problem]:
    """Problems of all images, in list order."""

    def check(entries: list[Entry]) -> list[Problem]:
        found = list(_check_image(root, bench, entries, store))
        progress.update()
        return found

    with ThreadPoolExecutor(_THREADS) as pool:
        return [problem for found in pool.map(check, images.values()) for problem in found]


def _check_image(
    root: Path, bench: Benchmark, entries: list[Entry], store: MaskStore | None
) -> Iterator[Problem]:
    split, name, _ = entries[0]
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
            key = bench.mask_key(split, name)
            shapes["mask map"] = store.load(key).shape
            if store.is_stale(key, path := bench.image_path(root, split, name)):
                yield Problem("mask map", f"{path} has changed since its masks were cut: main_0")
        except (OSError, ValueError) as error:
            yield Problem("mask map", str(error))
    if len(set(shapes.values())) > 1:
        sizes = ", ".join(f"{what} {shape[1]} x {shape[0]}" for what, shape in shapes.items())
        yield Problem("sizes", f"{bench.image_path(root, split, name)}: {sizes} disagree")


def _absent(bench: Benchmark, label: np.ndarray, entries: list[Entry]) -> Iterator[Problem]:
    """Listed classes without a pixel: such an episode has no foreground."""
    missing = {entry.class_id for entry in entries} - {int(i) - 1 for i in np.unique(label)}
    what = "" if label.any() else " (all is background)"
    for class_id in sorted(missing):
        text = f"{entries[0].name} is listed for {class_id + 1} {bench.class_names[class_id]}"
        yield Problem("label", f"{text}, but its label has no pixel of it{what}")


def _last_line(path: Path) -> Iterator[str]:
    if path.stat().st_size and path.read_bytes()[-1:] != b"\n":
        yield f"{path} ends without a newline: its last entry is left out (data.lists = published)"


def _doubled(entries: list[Entry], path: str) -> Iterator[Problem]:
    """Entries that count twice in every result."""
    for entry, count in Counter(entries).items():
        if count > 1:
            text = f"{path}: {entry.name}__{entry.class_id + 1} is listed {count} times"
            yield Problem("list", text)


def _too_few(
    bench: Benchmark, entries: list[Entry], class_ids: Sequence[int], needed: int, path: str
) -> Iterator[Problem]:
    for class_id in class_ids:
        count = len({entry.name for entry in entries if entry.class_id == class_id})
        if count < needed:
            name = f"{class_id + 1} {bench.class_names[class_id]}"
            text = f"{path}: {count} image(s) of {name}, an episode needs {needed}"
            yield Problem("too few", text)
