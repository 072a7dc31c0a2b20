"""What mask guidance (MGFE) does to features and correlations: the paper's Fig. 7."""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mgcl.datasets.episodes import Episode
from mgcl.engine.forward import Setup
from mgcl.images.resize import resize_nearest
from mgcl.model.fbc import Correlation, gates, halves_of
from mgcl.model.mgfe import Guided, guide
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
    model.eval()
    query = model.encode(episode.query_image, episode.query_mask_map)
    supports = model.encode(episode.support_images[0], episode.support_mask_maps[0])
    label = setup.target(episode.support_labels[0])
    guided = (model.segmentation_head.guide(*encoded) for encoded in (query, supports))
    return [
        Level(label.shape[-1] // q.size[1], *_colours(q, s), _correlations(q, s, label))
        for q, s in zip(*guided, strict=True)
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


def _colours(query: Guided, supports: Guided) -> tuple[Pair, Pair]:
    """Query and first support as colours, by the main directions of the features before guidance.

    Both halves of a guided feature, its own and what is joined, have the same axes; what is shown
    of it is their mean.
    """
    before = torch.cat([query.pixels, supports.pixels])  # (1 + K, h*w, C)
    after = (before + torch.cat([query.joined, supports.joined])) / 2
    centre = before.mean(dim=(0, 1))
    axes = torch.linalg.svd((before - centre).flatten(0, 1), full_matrices=False)[2][:3]  # (3, C)
    axes = axes * axes.sum(dim=1, keepdim=True).sign()  # an axis and its opposite are as good
    before, after = ((f - centre) @ axes.T for f in (before, after))
    low, high = (torch.quantile(before.flatten(0, 1), q, dim=0) for q in (0.02, 0.98))
    before, after = (
        ((f - low) / (high - low).clamp_min(1e-12)).clamp(0, 1).unflatten(1, query.size)
        for f in (before, after)
    )
    shown = [Pair(before[i].cpu().numpy(), after[i].cpu().numpy()) for i in (0, 1)]
    return shown[0], shown[1]


def _correlations(query: Guided, supports: Guided, label: Tensor) -> Pair:
    """The network's foreground correlation, mean over the supports' foreground pixels."""
    foreground = (label == 1).float()[:, None]  # (K, 1, H, W)
    held = F.interpolate(foreground, size=query.size, mode="bilinear", align_corners=True) > 0
    pair = []
    for q, s in ((_unguided(query), _unguided(supports)), (query, supports)):
        unit = q.unit().expand(len(label))
        gate = gates(s, halves_of(label))[..., :1]
        product, _ = Correlation(unit, s, gate).dense()  # (K, hs, ws, hq*wq, 1)
        mean = product.sum(dim=(0, 1, 2))[:, 0] / held.sum().clamp_min(1)  # (hq*wq,)
        pair.append(mean.unflatten(0, query.size).cpu().numpy())
    return Pair(*pair)


def _unguided(level: Guided) -> Guided:
    """The pixels' own features alone."""
    return guide(level.pixels.transpose(1, 2).unflatten(2, level.size), None)
