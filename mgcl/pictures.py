"""The pictures that a run makes: panels of episodes, curves over thresholds and epochs."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import default_collate

from mgcl.build import resolve_cut
from mgcl.config import Config
from mgcl.datasets.build import EpisodeSet
from mgcl.datasets.episodes import Episode, EpisodeDataset
from mgcl.engine import Setup
from mgcl.metrics import foreground_iou
from mgcl.model.network import MGCL, aggregate_shots
from mgcl.runlog import read_records

if TYPE_CHECKING:
    from mgcl.testing import Result


class Segmented(NamedTuple):
    """One episode and what the network made of it."""

    episode: Episode
    """Without a batch dimension."""
    probability: np.ndarray
    """(H, W), mean over the supports."""
    prediction: np.ndarray
    """(H, W) uint8."""
    title: str
    """Class, number, IoU and cut."""


def segment(
    model: nn.Module,
    dataset: EpisodeDataset,
    episode_id: int,
    *,
    setup: Setup,
    cut: float,
    vote_share: float = 0.4,
) -> Segmented:
    """Segment a single episode."""
    model.eval()
    episode = dataset[episode_id]
    with torch.inference_mode():
        logits = setup.forward(model, setup.move(default_collate([episode])))
        prediction = aggregate_shots(logits, cut=cut, vote_share=vote_share)[0].cpu().numpy()
        probability = logits.softmax(dim=2)[0, :, 1].mean(dim=0).cpu().numpy()
    iou = 100 * float(foreground_iou(torch.from_numpy(prediction), episode.query_label))
    name = _class_name(dataset, episode).replace("_", " ")
    title = f"{name}, episode {episode_id}: IoU {iou:.1f} % at {cut:.2f}"
    return Segmented(episode, probability, prediction, title)


def draw_panels(
    model: nn.Module,
    dataset: EpisodeDataset,
    ids: Sequence[int],
    *,
    setup: Setup,
    cut: float,
    vote_share: float = 0.4,
) -> Iterator[tuple[str, np.ndarray]]:
    """Segment single episodes and draw them: (name, (h, w, 3) uint8) each."""
    from mgcl.visualize import episode_panel

    for episode_id in ids:
        seen = segment(model, dataset, episode_id, setup=setup, cut=cut, vote_share=vote_share)
        panel = episode_panel(seen.episode, seen.probability, seen.prediction, title=seen.title)
        yield f"{episode_id}_{_class_name(dataset, seen.episode)}", panel


def draw_guidance(
    model: MGCL,
    dataset: EpisodeDataset,
    episode_id: int,
    *,
    setup: Setup,
    cut: float,
    vote_share: float = 0.4,
) -> np.ndarray:
    """An episode with features and correlations before and after mask guidance, (h, w, 3) uint8."""
    from mgcl.guidance import level_tiles, look
    from mgcl.visualize import guidance_panel

    seen = segment(model, dataset, episode_id, setup=setup, cut=cut, vote_share=vote_share)
    levels = look(model, setup.move(default_collate([seen.episode])), setup)
    tiles = [level_tiles(level, seen.episode.query_label) for level in levels]
    return guidance_panel(seen.episode, seen.probability, seen.prediction, tiles, title=seen.title)


def _class_name(dataset: EpisodeDataset, episode: Episode) -> str:
    return dataset.source.benchmark.class_names[int(episode.class_id)]


def write_panels(config: Config, result: "Result", part: EpisodeSet, setup: Setup) -> list[str]:
    """Pictures of the best, the median and the worst episodes; paths relative to the run.

    They replace those of an earlier test.
    """
    from mgcl.visualize import write_png

    for old in config.run_dir.glob(f"panels/{result.shots}shot_*.png"):
        old.unlink()
    cut = resolve_cut(config.test.cut, result.candidate.cut)
    order = result.evaluation.episode_iou(cut).argsort(descending=True, stable=True).tolist()
    written = []
    middle = max(0, (len(order) - config.test.panels) // 2)
    for kind, first in ("best", 0), ("median", middle), ("worst", -config.test.panels):
        places = range(len(order))[first:][: config.test.panels]
        ids = [part.ids[order[place]] for place in places]
        panels = draw_panels(
            result.candidate.model,
            part.dataset,
            ids,
            setup=setup,
            cut=cut,
            vote_share=config.test.vote_share,
        )
        for number, (name, panel) in enumerate(panels, start=1):
            path = f"panels/{result.shots}shot_{kind}_{number}_{name}.png"
            write_png(config.run_dir / path, panel)
            written.append(path)
    return written


def write_curves(config: Config, results: list["Result"]) -> dict[str, dict[float, float]]:
    """The plots of mIoU over the threshold and over the epochs; returns the former's numbers."""
    from mgcl.findings import precision_recall_curve
    from mgcl.plots import learning_curve, precision_recall_plot, threshold_plot

    first = results[0].candidate
    decisive = [r for r in results if r.candidate is first]
    curves = {f"{r.shots}-shot": r.evaluation.curve() for r in decisive}
    marks = {"argmax 0.5": 0.5}
    if first.cut is not None:
        marks[f"calibrated {first.cut:.2f}"] = first.cut
    title = f"{first.name}: mIoU over the decision threshold"
    threshold_plot(config.run_dir / "threshold.png", curves, marks=marks, title=title)
    precision_recall_plot(
        config.run_dir / "precision_recall.png",
        {f"{r.shots}-shot": precision_recall_curve(r) for r in decisive},
        marks=marks,
        title=f"{first.name}: precision over recall, mean over the classes",
    )
    epochs: dict[int, dict[str, Any]] = {}
    for record in read_records(config.run_dir / "log.jsonl"):
        if record["kind"] in ("train", "validation"):
            epochs.setdefault(record["epoch"], {}).update(record, kind="epoch")
    validated = [record for record in epochs.values() if "miou" in record]
    if validated:
        learning_curve(config.run_dir / "learning_curve.png", validated)
    return curves
