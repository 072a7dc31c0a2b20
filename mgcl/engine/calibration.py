"""Where the matcher splits the map of an episode, learned on episodes of the training classes."""

from collections.abc import Iterable

import torch
from torch import Tensor

from mgcl import distributed
from mgcl.engine.forward import EncodedEpisodes, Setup
from mgcl.model.matcher import Matcher

EVERY = 2  # pixels of map and label between those that the best threshold is found on


@torch.inference_mode()
def fit_threshold(
    network: Matcher, episodes: Iterable[EncodedEpisodes], *, shots: int, setup: Setup
) -> None:
    """Regress the threshold of an episode from its map, on episodes of the training classes.

    Args:
        network: on the device.
        episodes: batches, encoded by the network; of several processes each one's part of them.
        shots: supports of each, for which this serves.
        setup: device and precision.
    """
    found: list[tuple[Tensor, ...]] = []
    network.eval()
    for query, supports, labels in episodes:
        H, W = labels.query.shape[1:]
        given = setup.target(labels.supports)
        scores, statistics = network.score(query, supports, given, query.mask_map, (H, W))
        best, reached = best_thresholds(scores, labels.query)
        found.append((statistics.cpu(), best.cpu(), reached.cpu()))
    found = [row for rows in distributed.gather(found) for row in rows]  # all have the same
    statistics, best, reached = (
        torch.cat(part).to(setup.device) for part in zip(*found, strict=True)
    )
    network.threshold_of(shots).fit(statistics, best, reached)


def best_thresholds(scores: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Where each map would best be split, and the IoU that this reaches: (B,), (B,).

    Args:
        scores: (B, H, W).
        label: (B, H, W) in {0, 1, 255}.
    """
    values = scores[:, ::EVERY, ::EVERY].flatten(1)
    target = label[:, ::EVERY, ::EVERY].flatten(1)
    counts = target != 255
    order = values.masked_fill(~counts, -torch.inf).argsort(dim=1, descending=True)
    values, hits = values.gather(1, order), (target == 1).gather(1, order).cumsum(dim=1)
    marked = counts.gather(1, order).cumsum(dim=1)
    union = marked + hits[:, -1:] - hits
    iou = hits / union.clamp_min(1)
    reached, place = iou.max(dim=1)
    after = (place + 1).clamp_max(values.shape[1] - 1)
    pair = values.gather(1, torch.stack([place, after], dim=1))  # (B, 2)
    return pair.mean(dim=1), reached
