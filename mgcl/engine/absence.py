"""What images without the class cost: false alarms, and what a decision about presence mends."""

from typing import NamedTuple

import torch
from torch import Tensor

from mgcl.engine.evaluation import Evaluation
from mgcl.metrics import IoUMeter

ALARM = 0.01  # share of an image without the class: more than that marked is a false alarm


class Outcome(NamedTuple):
    """Of images with and without the class; percent."""

    alarms: float
    """Images without the class of which more than `ALARM` is marked."""
    marked: float
    """Pixels marked in the images without the class."""
    miou: float
    """Of all images: what is marked without the class counts in the union."""


class Absence(NamedTuple):
    """One network at one threshold; percent."""

    images: int
    """Without the class."""
    plain: Outcome
    """The maps as they are."""
    decided: Outcome | None = None
    """Nothing marked where the class is taken to be absent; None where presence is not told."""
    auc: float | None = None
    """Of presence: pairs of images, with and without the class, in right order; 50 is chance."""
    kept: float | None = None
    """Images with the class that are taken to show it."""
    kept_absent: float | None = None
    """Images without the class that are taken to show it."""


def measure_absence(shown: Evaluation, absent: Evaluation, threshold: float) -> Absence:
    """Put a network's evaluations of both kinds of images together.

    Args:
        shown: episodes whose queries show the class.
        absent: episodes whose queries do not.
        threshold: one that both tried.
    """
    at_threshold = (e.counts[:, e.thresholds.index(threshold)] for e in (shown, absent))
    plain = Absence(len(absent.episode_ids), _outcome(shown, absent, *at_threshold))
    if shown.presence is None or absent.presence is None:
        return plain
    return plain._replace(
        decided=_outcome(shown, absent, decide(shown, threshold), decide(absent, threshold)),
        auc=100 * rank_auc(shown.presence, absent.presence),
        kept=_percent(shown.presence >= 0),
        kept_absent=_percent(absent.presence >= 0),
    )


def decide(found: Evaluation, threshold: float) -> Tensor:
    """Counts (N, 4) as if nothing was marked where the class is taken to be absent."""
    assert found.presence is not None and found.foreground is not None
    counts = found.counts[:, found.thresholds.index(threshold)]
    pixels = counts[:, 0] + counts[:, 3]  # hits, and the union of the background
    nothing = [torch.zeros_like(pixels), found.foreground, pixels - found.foreground, pixels]
    return torch.where((found.presence >= 0)[:, None], counts, torch.stack(nothing, dim=1))


def rank_auc(higher: Tensor, lower: Tensor) -> float:
    """The share of pairs of which the first is the larger; equal ones count by half."""
    more = torch.searchsorted(lower.sort().values, higher)
    equal = torch.searchsorted(lower.sort().values, higher, right=True) - more
    return float((more + 0.5 * equal).mean() / len(lower))


def _outcome(
    shown: Evaluation, absent: Evaluation, shown_counts: Tensor, absent_counts: Tensor
) -> Outcome:
    pixels = absent_counts[:, 0] + absent_counts[:, 3]
    marked = absent_counts[:, 1] / pixels.clamp_min(1)  # nothing can be hit
    meter = IoUMeter(shown.class_ids)
    meter.add(shown_counts, shown.episode_class)
    meter.add(absent_counts, absent.episode_class)
    return Outcome(_percent(marked > ALARM), _percent(marked), meter.compute().miou)


def _percent(values: Tensor) -> float:
    return 100 * float(values.double().mean())
