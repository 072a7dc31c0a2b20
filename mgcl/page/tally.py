"""What was found, in numbers: by class and threshold, without looking at the maps again."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

SHARE = 0.01  # of the pixels whose levels say how surely a picture shows a class


class Tally(NamedTuple):
    """Of one item of the gallery."""

    pixels: np.ndarray
    """(classes, 256) pixels by their likeliest class and its level."""
    score: dict[int, float]
    """By class, how surely the item shows it: larger comes first."""
    gained: int
    """Pixels that were not found before the last change, at the threshold of that time."""
    lost: int


def found_at(level: np.ndarray, threshold: float) -> np.ndarray:
    """Where a map of levels is over a threshold."""
    return level > np.uint8(min(255, int(255 * threshold)))


def surely(level: np.ndarray) -> float:
    """Mean of the highest levels of a class's map (h, w), 0 to 1."""
    counts = np.bincount(level.ravel(), minlength=256)
    left, total = most = max(1, round(SHARE * level.size)), 0
    for value in range(255, -1, -1):
        taken = min(left, int(counts[value]))
        total, left = total + taken * value, left - taken
        if not left:
            break
    return total / (255 * most[0])


def tally(
    numbers: Sequence[int],
    now: tuple[np.ndarray, np.ndarray],
    before: tuple[np.ndarray, np.ndarray] | None,
    threshold: float,
    score: Mapping[int, float],
) -> Tally:
    """Count.

    Args:
        numbers: of the classes, as they stand in the maps.
        now: likeliest class and its level, (h, w) uint8 each.
        before: the same before the last change.
        threshold: at which changes are counted.
        score: of each class.
    """
    best, level = now
    joint = np.bincount((best.astype(np.int32) << 8 | level).ravel(), minlength=1 << 16)
    pixels = joint.reshape(256, 256)[list(numbers)]
    gained = lost = 0
    if before is not None:
        here, there = found_at(level, threshold), found_at(before[1], threshold)
        gained, lost = int((here & ~there).sum()), int((there & ~here).sum())
    return Tally(pixels, dict(score), gained, lost)


def count_objects(best: np.ndarray, level: np.ndarray, threshold: float) -> dict[int, int]:
    """Objects of each class in a picture: what hangs together by edges."""
    found = np.where(found_at(level, threshold), best, 0)
    counts = {}
    for number in np.unique(found).tolist():
        if number:
            one = (found == number).astype(np.uint8)
            counts[number] = cv2.connectedComponents(one, connectivity=4)[0] - 1
    return counts
