"""What supports say of the pixels of a band, and which class gets each."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from mgcl.model.network import logit


class Votes(NamedTuple):
    """What the supports of each class say of a band."""

    counts: np.ndarray
    """(C, h, W) uint8: supports by which the pixel's probability is over the threshold."""
    levels: np.ndarray
    """(C, h, W) uint16: probability * 65535, mean over the supports."""


def count_votes(margins: Sequence[Tensor], threshold: float) -> Votes:
    """Votes and probabilities of the classes' log-odds, (K, h, W) each."""
    counts = [(m > logit(threshold)).sum(dim=0).byte().cpu().numpy() for m in margins]
    means = [m.sigmoid().mean(dim=0).cpu().numpy() for m in margins]
    return Votes(np.stack(counts), np.stack([as_levels(mean) for mean in means]))


def as_levels(probability: np.ndarray) -> np.ndarray:
    """Probabilities as uint16, * 65535."""
    return np.round(probability * 65535).astype(np.uint16)


def decide(votes: Votes, needed: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel goes to the class of the highest probability among those with enough votes.

    Args:
        votes: of all classes.
        needed: votes that each class needs.

    Returns:
        (h, W) uint8: 1 + the place of the class, 0 = none; (h, W) uint16: its level, or, of no
        class, the highest.
    """
    enough = votes.counts >= np.array(needed)[:, None, None]
    levels = np.where(enough, votes.levels.astype(np.int32) + 65536, votes.levels)
    best = levels.argmax(axis=0)
    highest = np.take_along_axis(levels, best[None], axis=0)[0]
    found = highest >= 65536
    return np.where(found, best + 1, 0).astype(np.uint8), (highest % 65536).astype(np.uint16)
