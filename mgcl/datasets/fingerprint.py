"""Whether data are still what they were: digests of lists and files, cheap for each start."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

from mgcl.datasets.benchmarks import Benchmark
from mgcl.datasets.lists import Entry
from mgcl.files import fingerprint
from mgcl.images.read import image_size

Facts = Mapping[str, str]
NO_FACTS: Facts = MappingProxyType({})
_THREADS = 8
_SIDES = 64  # images that say how large the training's tiles are


def data_facts(benchmark: Benchmark, root: Path, entries: Iterable[Entry]) -> dict[str, str]:
    """What a training learns from, in words and digests: kept in its checkpoints.

    Args:
        benchmark: classes and file layout.
        root: the data root.
        entries: of the training, those for its calibration among them.

    Returns:
        The class names in order, a digest each of the lists, the images and the labels, and the
        side of the images in pixels (the longer one that most have).

    Raises:
        FileNotFoundError: a file is missing.
    """
    listed = list(entries)
    names = sorted({(entry.split, entry.name) for entry in listed})
    return {
        "classes": " ".join(benchmark.class_names),
        "lists": _digest(sorted(map(str, listed))),
        "images": _digest(_prints(benchmark.image_path(root, *name) for name in names)),
        "labels": _digest(_prints(benchmark.label_path(root, *name) for name in names)),
        "side": str(_side([benchmark.image_path(root, *name) for name in names])),
    }


def changed_facts(then: Facts, now: Facts) -> list[str]:
    """What of the data changed since, in words; nothing where a fact was not kept."""
    return [f"other {name}" for name, fact in now.items() if then.get(name, fact) != fact]


def _side(paths: Sequence[Path]) -> int:
    """Pixels of the longer side that most images have, by some of them; 0 of no images."""
    some = paths[:: -(-len(paths) // _SIDES) or 1]
    sides = [max(image_size(path)) for path in some]
    return max(set(sides), key=lambda side: (sides.count(side), side), default=0)


def _prints(paths: Iterable[Path]) -> list[str]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(fingerprint, paths))


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()
