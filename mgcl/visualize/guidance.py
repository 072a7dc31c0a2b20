"""What mask guidance (MGFE) does to features and correlations: the paper's Fig. 7."""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mgcl.datasets.episodes import Episode
from mgcl.engine.forward import Setup
from mgcl.images.resize import resize_nearest
from mgcl.model.fbc import foreground_background_correlation
from mgcl.model.mgfe import mask_mean
from mgcl.model.network import MGCL
from mgcl.visualize.overlays import enlarge, heat
from mgcl.visualize.tiles import INK, Tile


class Pair(NamedTuple):
    """One thing before and after mask guidance."""

    before: np.ndarray
    after: np.ndarray


class Level(NamedTuple):
    """One level of the backbone's features."""

    stride: int
    query: Pair
    """(h, w, 3) float32 in [0, 1]: the features' three main directions as colours."""
    support: Pair
    """The same of the first support."""
    correlation: Pair
    """(h, w) float32: cosine of each query pixel with the supports' foreground pixels, mean."""


@torch.inference_mode()
def look(model: MGCL, episode: Episode, setup: Setup) -> list[Level]:
    """Features and correlations of an episode, three levels, stride 8 first.

    Args:
        model: the network, on the device.
        episode: a batch of one episode, on the device, any number of supports.
        setup: what 255 in a support label means.
    """
    images = torch.cat([episode.query_image, episode.support_images[0]])  # (1 + K, 3, H, W)
    maps = torch.cat([episode.query_mask_map, episode.support_mask_maps[0]])
    label = setup.target(episode.support_labels[0])
    return [
        Level(images.shape[-1] // f.shape[-1], *_colours(f, maps), _correlations(f, maps, label))
        for f in model.eval().backbone(images)
    ]


def level_tiles(level: Level, label: Any) -> list[Tile]:
    """Features of query and support and their correlation, each before and after guidance.

    A tile shows the level's own pixels, unsmoothed; both correlations have one range, dark to
    bright. AUC is the chance that a pixel of the query's object correlates more than another.

    Args:
        level: from `look`.
        label: (S, S) of the query, 1 = foreground, 255 = does not count.
    """
    colours = [
        (f"stride {level.stride}: query features", level.query.before),
        ("after guidance", level.query.after),
        ("support features", level.support.before),
        ("after guidance", level.support.after),
    ]
    tiles = [
        Tile(enlarge(np.round(255 * colour).astype(np.uint8)), [(word, INK)])
        for word, colour in colours
    ]
    low, high = np.min(level.correlation), np.max(level.correlation)
    for word, values in zip(("correlation", "after guidance"), level.correlation, strict=True):
        words = [(f"{word}, AUC {auc(values, np.asarray(label)):.2f}", INK)]
        tiles.append(Tile(heat(enlarge((values - low) / max(high - low, 1e-12))), words))
    return tiles


def auc(values: np.ndarray, label: np.ndarray) -> float:
    """Chance that a foreground pixel has a larger value than a background pixel; ties count half.

    Args:
        values: (s, s), brought to the label's size by nearest.
        label: (S, S), 1 = foreground, 0 = background.

    Returns:
        0 to 1; NaN where the label lacks one of the two.
    """
    values = resize_nearest(values, len(label))
    inside, outside = values[label == 1], np.sort(values[label == 0])
    if not (inside.size and outside.size):
        return float("nan")
    below, upto = (np.searchsorted(outside, inside, side) for side in ("left", "right"))
    return float((below + upto).mean() / (2 * outside.size))


def _colours(feature: Tensor, maps: Tensor) -> tuple[Pair, Pair]:
    """Query and first support as colours, by the main directions of the features before guidance.

    Guidance joins a pixel's feature with its mask's mean. Both halves have the same axes; what is
    shown of the joined feature is the mean of the halves.
    """
    feature = feature.float()
    guided = (feature + mask_mean(feature, maps)) / 2
    before, after = (f.movedim(1, -1) for f in (feature, guided))  # (1 + K, h, w, C)
    centre = before.mean(dim=(0, 1, 2))
    axes = torch.linalg.svd((before - centre).flatten(0, 2), full_matrices=False)[2][:3]  # (3, C)
    axes = axes * axes.sum(dim=1, keepdim=True).sign()  # an axis and its opposite are as good
    before, after = ((f - centre) @ axes.T for f in (before, after))
    low, high = (torch.quantile(before.flatten(0, 2), q, dim=0) for q in (0.02, 0.98))
    before, after = (
        ((f - low) / (high - low).clamp_min(1e-12)).clamp(0, 1).cpu().numpy()
        for f in (before, after)
    )
    return Pair(before[0], after[0]), Pair(before[1], after[1])


def _correlations(feature: Tensor, maps: Tensor, label: Tensor) -> Pair:
    """The network's foreground correlation, mean over the supports' foreground pixels."""
    feature = feature.float()
    guided = torch.cat([feature, mask_mean(feature, maps)], dim=1)
    foreground = (label == 1).float()[:, None]  # (K, 1, H, W)
    size = feature.shape[-2:]
    held = F.interpolate(foreground, size=size, mode="bilinear", align_corners=True) > 0
    pair = []
    for f in (feature, guided):
        query = f[:1].expand(len(label), -1, -1, -1)
        both = foreground_background_correlation(query, f[1:], label)  # (K, 2, hq, wq, hs, ws)
        mean = both[:, 0].sum(dim=(0, 3, 4)) / held.sum().clamp_min(1)  # (hq, wq)
        pair.append(mean.cpu().numpy())
    return Pair(*pair)
