"""Single episodes, segmented and drawn."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import default_collate

from mgcl.datasets.episodes import Episode, EpisodeDataset
from mgcl.engine.forward import Setup
from mgcl.metrics import foreground_iou
from mgcl.model.network import MGCL, aggregate_shots
from mgcl.model.residual import ResidualMGCL


class Segmented(NamedTuple):
    """One episode and what the network made of it."""

    episode: Episode
    """Without a batch dimension."""
    probability: np.ndarray
    """(H, W), mean over the supports."""
    prediction: np.ndarray
    """(H, W) uint8."""
    title: str
    """Class, number, IoU and threshold."""


def segment(
    model: nn.Module,
    dataset: EpisodeDataset,
    episode_id: int,
    *,
    setup: Setup,
    threshold: float,
    vote_share: float = 0.4,
) -> Segmented:
    """Segment a single episode."""
    model.eval()
    episode = dataset[episode_id]
    with torch.inference_mode():
        logits = setup.forward(model, setup.move(default_collate([episode])))
        prediction = (
            aggregate_shots(logits, threshold=threshold, vote_share=vote_share)[0].cpu().numpy()
        )
        probability = logits.softmax(dim=2)[0, :, 1].mean(dim=0).cpu().numpy()
    iou = 100 * float(foreground_iou(torch.from_numpy(prediction), episode.query_label))
    name = _class_name(dataset, episode).replace("_", " ")
    title = f"{name}, episode {episode_id}: IoU {iou:.1f} % at {threshold:.2f}"
    return Segmented(episode, probability, prediction, title)


def draw_panels(
    model: nn.Module,
    dataset: EpisodeDataset,
    ids: Sequence[int],
    *,
    setup: Setup,
    threshold: float,
    vote_share: float = 0.4,
) -> Iterator[tuple[str, np.ndarray]]:
    """Segment single episodes and draw them: (name, (h, w, 3) uint8) each."""
    from mgcl.visualize.panels import episode_panel

    for episode_id in ids:
        seen = segment(
            model, dataset, episode_id, setup=setup, threshold=threshold, vote_share=vote_share
        )
        panel = episode_panel(seen.episode, seen.probability, seen.prediction, title=seen.title)
        yield f"{episode_id}_{_class_name(dataset, seen.episode)}", panel


def draw_guidance(
    model: MGCL | ResidualMGCL,
    dataset: EpisodeDataset,
    episode_id: int,
    *,
    setup: Setup,
    threshold: float,
    vote_share: float = 0.4,
) -> np.ndarray:
    """An episode with features and correlations before and after mask guidance, (h, w, 3) uint8."""
    from mgcl.visualize.guidance import level_tiles, look
    from mgcl.visualize.panels import guidance_panel

    seen = segment(
        model, dataset, episode_id, setup=setup, threshold=threshold, vote_share=vote_share
    )
    levels = look(
        model.mgcl if isinstance(model, ResidualMGCL) else model,
        setup.move(default_collate([seen.episode])),
        setup,
    )
    tiles = [level_tiles(level, seen.episode.query_label) for level in levels]
    return guidance_panel(seen.episode, seen.probability, seen.prediction, tiles, title=seen.title)


def _class_name(dataset: EpisodeDataset, episode: Episode) -> str:
    return dataset.source.benchmark.class_names[int(episode.class_id)]
