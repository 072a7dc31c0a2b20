"""Where the matcher splits the map of an episode, learned on episodes of the training classes."""

from collections.abc import Iterable

import torch
from torch import Tensor

from mgcl import distributed
from mgcl.datasets.episodes import Episode
from mgcl.engine.forward import Setup
from mgcl.model.fewshot import join
from mgcl.model.matcher import Matcher

EVERY = 2  # pixels of map and label between those that the best threshold is found on


@torch.inference_mode()
def fit_threshold(network: Matcher, loader: Iterable[Episode], *, setup: Setup) -> None:
    """Regress the threshold of an episode from its map, on episodes of the training classes.

    Args:
        network: on the device.
        loader: batches of episodes, all of one number of supports, for which this serves.
        setup: device and precision.
    """
    found: list[tuple[Tensor, ...]] = []
    network.eval()
    for batch in loader:
        episode = setup.move(batch)
        B, K = episode.support_labels.shape[:2]
        query = setup.encode(network, episode.query_image, episode.query_mask_map)
        images, maps = episode.support_images, episode.support_mask_maps
        supports = setup.encode(network, images.flatten(0, 1), maps.flatten(0, 1)).split(1)
        scores, statistics = network.score(
            query,
            [join(supports[k::K]) for k in range(K)],
            setup.target(episode.support_labels),
            episode.query_mask_map,
            (episode.query_label.shape[1], episode.query_label.shape[2]),
        )
        best, reached = best_thresholds(scores, episode.query_label)
        found.append((statistics.cpu(), best.cpu(), reached.cpu()))
    found = [row for rows in distributed.gather(found) for row in rows]  # all have the same
    statistics, best, reached = (
        torch.cat(part).to(setup.device) for part in zip(*found, strict=True)
    )
    network.threshold_of(K).fit(statistics, best, reached)


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
