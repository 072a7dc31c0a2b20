"""The batches of a training, in their order, and each process's part of them."""

from collections.abc import Iterator, Sequence

import torch

from mgcl import distributed
from mgcl.datasets.episodes import Episode, EpisodeDataset
from mgcl.datasets.loader import in_batches, load_batches


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
