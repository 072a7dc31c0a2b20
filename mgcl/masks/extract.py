"""A generator over many images into a store: only what is missing; torn files found; sharded."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from mgcl import console, distributed
from mgcl.files import writing_in
from mgcl.images.read import UnreadableImage, image_size, read_image
from mgcl.masks.generator import BatchedMaskGenerator, MaskGenerator
from mgcl.masks.mask_map import as_mask_map
from mgcl.masks.store import MANIFEST, MaskStore
from mgcl.workers import in_processes, processes_for

_THREADS = 4  # decode images and write maps beside the generator

T = TypeVar("T")
R = TypeVar("R")


class Summary(NamedTuple):
    """What a run over a list of images did."""

    made: int
    """Maps written."""
    found: int
    """Maps that were there and in order."""
    damaged: dict[str, str]
    """Maps that were there but torn or foreign, with the reason; they were made again."""
    unreadable: dict[str, str]
    """Images that could not be read, with the reason; they have no map."""


def together(parts: Sequence[Summary]) -> Summary:
    """The summary of several shares."""
    return Summary(
        sum(part.made for part in parts),
        sum(part.found for part in parts),
        {key: reason for part in parts for key, reason in part.damaged.items()},
        {key: reason for part in parts for key, reason in part.unreadable.items()},
    )


def extract(
    images: Mapping[str, Path],
    generator: MaskGenerator,
    store: MaskStore,
    *,
    shard: tuple[int, int] = (0, 1),
    quiet: bool = False,
) -> Summary:
    """Make the mask map of every image that has none yet, and name what is wrong on the way.

    Args:
        images: file of each key.
        generator: what cuts an image; one with `many` and `batch_size` gets several at once.
        store: where the maps go.
        shard: (i, n): this run's share is every n-th key of the sorted list, from the i-th.
        quiet: no progress and no messages.

    Raises:
        DiskFullError: the disk is full; a further run goes on from there.
        MemoryError: the GPU is full.
    """
    keys = sorted(images)[shard[0] :: shard[1]]
    store.remove_leftovers({*keys, MANIFEST} if shard[1] == 1 else set(keys))
    unreadable: dict[str, str] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        found = _ahead(pool, lambda key: (key, _problem(store, key, images[key])), keys, 64)
        problems = {key: problem for key, problem in found if problem is not None}
        damaged = {key: problem for key, problem in problems.items() if problem}
        words = "masks" if shard[1] == 1 else f"masks, share {shard[0]}/{shard[1]}"
        tell = (lambda line: None) if quiet else console.warn
        bar = console.progress(desc=words, total=len(problems), unit="image", disable=quiet)
        with writing_in(store.root), bar:
            for problem in damaged.values():
                tell(f"made again: {problem}")
            cut = _cut(pool, images, list(problems), generator)
            maps = _readable(cut, unreadable, tell)
            made = _save(maps, images, store, pool, bar.update)
    return Summary(made, len(keys) - len(problems), damaged, unreadable)


def _problem(store: MaskStore, key: str, path: Path) -> str | None:
    """None: the map is there and in order; "": it is missing; else what is wrong with it."""
    if key not in store:
        return ""
    try:
        if store.is_stale(key, path):
            return f"{path} has changed since its masks were cut"
        return store.problem(key, image_size(path))
    except UnreadableImage:
        return ""


def _cut(
    pool: ThreadPoolExecutor, images: Mapping[str, Path], keys: list[str], generator: MaskGenerator
) -> Iterator[tuple[str, np.ndarray | UnreadableImage]]:
    """Key and mask map of every image, or why it could not be read."""
    paths = [images[key] for key in keys]
    processes = processes_for(len(keys)) // distributed.world_size()
    if getattr(generator, "in_processes", False) and processes > 1:
        maps = in_processes(partial(_read_and_cut, generator), paths, processes=processes)
        yield from zip(keys, maps, strict=True)
        return
    read = zip(keys, _ahead(pool, _read, paths, 2 * _THREADS), strict=True)
    for batch in _batches(read, getattr(generator, "batch_size", 1)):
        pictures = [image for _, image in batch if not isinstance(image, UnreadableImage)]
        if isinstance(generator, BatchedMaskGenerator) and pictures:
            results = iter(generator.many(pictures))
        else:
            results = map(generator, pictures)
        for key, image in batch:
            yield key, image if isinstance(image, UnreadableImage) else as_mask_map(next(results))


def _read(path: Path) -> np.ndarray | UnreadableImage:
    try:
        return read_image(path)
    except UnreadableImage as error:
        return error


def _read_and_cut(generator: MaskGenerator, path: Path) -> np.ndarray | UnreadableImage:
    image = _read(path)
    return image if isinstance(image, UnreadableImage) else as_mask_map(generator(image))


def _readable(
    cut: Iterable[tuple[str, np.ndarray | UnreadableImage]],
    unreadable: dict[str, str],
    tell: Callable[[str], object],
) -> Iterator[tuple[str, np.ndarray]]:
    """Key and mask map; failures go into `unreadable`."""
    for key, found in cut:
        if isinstance(found, UnreadableImage):
            unreadable[key] = str(found)
            tell(f"left out: {found}")
        else:
            yield key, found


def _save(
    maps: Iterable[tuple[str, np.ndarray]],
    images: Mapping[str, Path],
    store: MaskStore,
    pool: ThreadPoolExecutor,
    advance: Callable[[int], object],
) -> int:
    """Write; this overlaps with the next cut. Returns the number of maps written."""
    made = 0
    writes: deque[Future[None]] = deque()
    try:
        for key, mask_map in maps:
            writes.append(pool.submit(store.save, key, mask_map, images[key]))
            while len(writes) > 4 * _THREADS:
                writes.popleft().result()
            advance(1)
            made += 1
        for write in writes:
            write.result()
    except OSError:
        pool.shutdown(cancel_futures=True)
        raise
    return made


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int
) -> Iterator[R]:
    """`map` in threads, in order, at most `ahead` results in wait."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
