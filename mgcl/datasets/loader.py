"""Batches of episodes from worker processes; the worker count changes the speed, nothing else."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from mgcl import distributed
from mgcl.datasets.episodes import Episode, EpisodeDataset, Images, Labels
from mgcl.datasets.lists import Entry
from mgcl.workers import WorkerKilled


class EpisodeLoader(DataLoader):
    """A DataLoader that raises a worker's error as it was raised there."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield what was loaded: collated episodes, or `Images` and `Labels`."""
        try:
            batches = super().__iter__()
            if self.num_workers and hasattr(signal, "SIGCHLD"):
                # PyTorch's handler raises a worker's death anywhere in the program; here it is
                # met when the batch of that worker is waited for, within seconds.
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for batch in batches:
                if isinstance(batch, _Failure):
                    try:
                        raise batch.error
                    finally:
                        del batch  # no reference cycle: the workers end at once, not after 5 s
                yield batch
        except RuntimeError as error:
            if not (said := _of_workers(str(error))):
                raise
            for worker in multiprocessing.active_children():
                worker.kill()  # a lock that the killed one held may keep them waiting
            raise WorkerKilled(said) from None


def _of_workers(said: str) -> str:
    """What to do about an error of PyTorch's that speaks of loading processes; empty for others."""
    shared = "start the container with --shm-size=2g or --ipc=host, or set data.workers to 0"
    if "shared memory" in said or "/torch_" in said:
        return f"/dev/shm is too small for the processes that load episodes: {shared}"
    if "Too many open files" in said:
        return "too many open files: raise the limit (ulimit -n 4096), or lower data.workers"
    if "DataLoader worker" in said:
        return (
            "a process that loads episodes was killed, as the system does when memory runs out: "
            f"lower data.workers or data.cache_gib. If /dev/shm is small: {shared}"
        )
    return ""


def in_batches(ids: Sequence[int], batch_size: int) -> list[list[int]]:
    """Episode ids in their order, `batch_size` at a time; the last batch may be smaller."""
    return [list(ids[i : i + batch_size]) for i in range(0, len(ids), batch_size)]


def load_batches(
    dataset: EpisodeDataset,
    batches: Sequence[list[int]],
    *,
    workers: int,
    pin_memory: bool,
) -> EpisodeLoader:
    """Load given batches of episode ids.

    Args:
        dataset: the episodes.
        batches: episode ids of each batch; those of many epochs keep the workers alive between.
        workers: worker processes; 0 loads in this one.
        pin_memory: put batches into page-locked memory; ignored without a CUDA device.

    Returns:
        An iterable of `Episode`s with a batch dimension in front.
    """
    return EpisodeLoader(
        _Guarded(dataset.__getitem__),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin_memory and torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_start_worker,
    )


@dataclass(frozen=True)
class Work:
    """One piece of a loader's work: the images of list entries, or the labels of episodes."""

    entries: Sequence[Entry] = ()
    episode_ids: Sequence[int] = ()


def load_work(dataset: EpisodeDataset, work: Sequence[Work], *, workers: int) -> EpisodeLoader:
    """Load `Images` and `Labels` apart, piece by piece, in the order of `work`.

    Args:
        dataset: the episodes.
        work: what to load.
        workers: worker processes; 0 loads in this one.
    """
    return EpisodeLoader(
        _Guarded(partial(_load_piece, dataset, work)),
        sampler=range(len(work)),
        batch_size=None,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
    )


def _load_piece(dataset: EpisodeDataset, work: Sequence[Work], number: int) -> Images | Labels:
    piece = work[number]
    return dataset.images(piece.entries) if piece.entries else dataset.labels(piece.episode_ids)


@dataclass(frozen=True)
class _Failure:
    error: Exception


@dataclass(frozen=True)
class _Guarded(Dataset):
    """Hands an error over as a value: DataLoader would bury its message in a traceback."""

    load: Callable[[int], Any]

    def __getitem__(self, number: int) -> Any:
        try:
            return self.load(number)
        except (ValueError, OSError) as error:
            return _Failure(error)


def _collate(episodes: list[Any]) -> Any:
    failures = [episode for episode in episodes if isinstance(episode, _Failure)]
    return failures[0] if failures else default_collate(episodes)


def _start_worker(worker_id: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # The main process decides when to stop: a signal to all of them gives it a minute for that.
    for name in ("SIGINT", "SIGUSR1"):  # Windows lacks the last
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_in_a_minute)


def _end_in_a_minute(*_: object) -> None:
    timer = threading.Timer(60, os._exit, (1,))
    timer.daemon = True
    timer.start()


def epoch_batches(
    ids: Sequence[int], epochs: int, batch_size: int, *, begun: tuple[int, int] = (0, 0)
) -> list[list[list[int]]]:
    """Episode ids by epoch and batch; the last batch of an epoch may be smaller.

    Args:
        ids: of all epochs.
        epochs: number of them.
        batch_size: episodes of a step.
        begun: finished epochs, and how many episodes of the next one are seen: they are left out.
    """
    size, (epoch, seen) = len(ids) // epochs, begun
    left = [ids[i * size : (i + 1) * size] for i in range(epoch, epochs)]
    left[:1] = [part[seen:] for part in left[:1]]
    return [in_batches(part, batch_size) for part in left]


def load_parts(
    dataset: EpisodeDataset, batches: Sequence[list[int]], *, workers: int
) -> Iterator[Episode]:
    """Load this process's part of each batch.

    The part is empty, (0, ...), where a batch has fewer episodes than there are processes; one is
    loaded for its shape.
    """
    parts = [list(distributed.share(batch)) for batch in batches]
    to_load = [part or batch[:1] for part, batch in zip(parts, batches, strict=True)]
    loader = load_batches(dataset, to_load, workers=workers, pin_memory=True)
    for part, episode in zip(parts, loader, strict=True):
        yield episode if part else Episode(*(torch.as_tensor(t)[:0] for t in episode))
