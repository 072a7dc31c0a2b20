"""Where the matcher splits the map of an episode, learned on episodes of the training classes."""

from collections.abc import Iterable

import torch
from torch import Tensor

from mgcl import distributed
from mgcl.engine.forward import EncodedEpisodes, Setup
from mgcl.model.matcher import Matcher

EVERY = 2  # pixels of map and label between those that the best threshold is found on
TRIED = tuple(step / 100 for step in range(-10, 50))  # as one threshold of all episodes
LEANING = {1: 0.5}  # to that one, by the supports; found best on classes that were left out


@torch.inference_mode()
def fit_threshold(
    network: Matcher, episodes: Iterable[EncodedEpisodes], *, shots: int, setup: Setup
) -> None:
    """Regress the threshold of an episode from its map, on episodes of the training classes.

    What one support's map looks like says less than several supports': there the threshold is the
    mean of what is regressed and of the one that is best for all episodes.

    Args:
        network: on the device.
        episodes: batches, encoded by the network; of several processes each one's part of them.
        shots: supports of each, for which this serves.
        setup: device and precision.
    """
    found: list[tuple[Tensor, ...]] = []
    network.eval()
    for query, supports, labels, _ in episodes:
        H, W = labels.query.shape[1:]
        given = setup.target(labels.supports)
        scores, statistics = network.score(query, supports, given, query.mask_map, (H, W))
        best, reached = best_thresholds(scores, labels.query)
        row = (statistics, best, reached, *overlaps(scores, labels.query), labels.class_ids)
        found.append(tuple(part.cpu() for part in row))
    found = [row for rows in distributed.gather(found) for row in rows]  # all have the same
    statistics, best, reached, hits, union, class_ids = (
        torch.cat(part).to(setup.device) for part in zip(*found, strict=True)
    )
    threshold = network.threshold_of(shots)
    threshold.fit(statistics, best, reached)
    threshold.lean(best_of_all(hits, union, class_ids), LEANING.get(shots, 0.0))


def overlaps(scores: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union of each map with its label at each of T `TRIED`: (B, T) each.

    Args:
        scores: (B, H, W).
        label: (B, H, W) in {0, 1, 255}.
    """
    values, target = _taken(scores), _taken(label)
    place = torch.bucketize(values, values.new_tensor(TRIED))  # thresholds that a value is over
    kinds = torch.stack([target == 1, target != 255], dim=1).float()  # (B, 2, pixels)
    counted = kinds.new_zeros(len(values), 2, len(TRIED) + 1)
    counted.scatter_add_(2, place[:, None].expand_as(kinds), kinds)
    hits, marked = counted.flip(2).cumsum(dim=2).flip(2)[:, :, 1:].unbind(1)
    return hits, marked + kinds[:, 0].sum(dim=1, keepdim=True) - hits


def best_of_all(hits: Tensor, union: Tensor, class_ids: Tensor) -> float:
    """The one of `TRIED` with the best mean of the classes' IoUs.

    Args:
        hits: (N, T) intersections of N episodes.
        union: (N, T).
        class_ids: (N,).
    """
    each = [class_ids == class_id for class_id in class_ids.unique()]
    ious = torch.stack([hits[of].sum(dim=0) / union[of].sum(dim=0).clamp_min(1) for of in each])
    return TRIED[int(ious.mean(dim=0).argmax())]


def best_thresholds(scores: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Where each map would best be split, and the IoU that this reaches: (B,), (B,).

    Args:
        scores: (B, H, W).
        label: (B, H, W) in {0, 1, 255}.
    """
    values, target = _taken(scores), _taken(label)
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


def _taken(picture: Tensor) -> Tensor:
    """The pixels that are looked at: (B, H, W) -> (B, pixels)."""
    return picture[:, ::EVERY, ::EVERY].flatten(1)
