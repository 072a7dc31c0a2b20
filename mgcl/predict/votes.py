"""What supports say of the pixels of a band, and which class gets each."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from mgcl.model.network import logit

_FINE = 1 << 20  # log-odds as integers: what a level says is kept apart, ties are ties
_LEVELS = (np.arange(65536) + 0.5) / 65536
_ODDS = np.round(_FINE * np.log(_LEVELS / (1 - _LEVELS))).astype(np.int32)  # by level


class Votes(NamedTuple):
    """What the supports of each class say of a band."""

    counts: np.ndarray
    """(C, h, W) uint8: supports by which the pixel's probability is over the threshold."""
    levels: np.ndarray
    """(C, h, W) uint16: probability * 65535, mean over the supports."""


def count_votes(margins: Sequence[Tensor], thresholds: Sequence[float]) -> Votes:
    """Votes and probabilities of the classes' log-odds, (K, h, W) each."""
    pairs = zip(margins, thresholds, strict=True)
    counts = [(m > logit(t)).sum(dim=0).byte().cpu().numpy() for m, t in pairs]
    means = [m.sigmoid().mean(dim=0).cpu().numpy() for m in margins]
    return Votes(np.stack(counts), np.stack([as_levels(mean) for mean in means]))


def as_levels(probability: np.ndarray) -> np.ndarray:
    """Probabilities as uint16, * 65535."""
    return np.round(probability * 65535).astype(np.uint16)


def decide(
    votes: Votes, needed: Sequence[int], thresholds: Sequence[float] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel goes to the likeliest class among those with enough votes.

    Likeliest is the class whose log-odds are furthest above those of its threshold; where all have
    one threshold, that of the highest probability.

    Args:
        votes: of all classes.
        needed: votes that each class needs.
        thresholds: of the classes; none: all have the same.

    Returns:
        (h, W) uint8: 1 + the place of the class, 0 = none; (h, W) uint16: its level, or, of no
        class, the highest.
    """
    enough = votes.counts >= np.array(needed)[:, None, None]
    height = votes.levels.astype(np.int32)
    if len(set(thresholds)) > 1:
        from_zero = [_ODDS - round(_FINE * logit(t)) for t in thresholds]
        height = np.stack([o[level] for o, level in zip(from_zero, votes.levels, strict=True)])
    best = np.where(enough, height + (1 << 28), height).argmax(axis=0)
    level = np.take_along_axis(votes.levels, best[None], axis=0)[0]
    found = np.take_along_axis(enough, best[None], axis=0)[0]
    return np.where(found, best + 1, 0).astype(np.uint8), level
