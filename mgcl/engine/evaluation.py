"""The evaluation of a list of episodes."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mgcl import distributed
from mgcl.engine.forward import EncodedEpisodes, Setup
from mgcl.metrics import IoUMeter, Scores, count_pixels
from mgcl.model.fewshot import FewShotNetwork
from mgcl.model.network import aggregate_shots, average_shots

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # thresholds that an evaluation tries


@dataclass(frozen=True)
class Evaluation:
    """Exact counts of every episode at every threshold."""

    class_ids: tuple[int, ...]
    """Classes that are scored, 0-based."""
    thresholds: tuple[float, ...]
    episode_ids: Tensor
    """(N,)"""
    episode_class: Tensor
    """(N,) 0-based class of each episode."""
    counts: Tensor
    """(N, thresholds, 4), see `metrics.count_pixels`."""
    episodes_per_second: float
    foreground: Tensor | None = None
    """(N,) pixels of the foreground in each episode's label, for precision and recall."""
    presence: Tensor | None = None
    """(N,) log-odds that the query shows the class; None where the network does not tell."""
    of_means: "Evaluation | None" = None
    """The same episodes, decided by the mean of the supports' log-odds instead of their vote."""

    def scores(self, threshold: float) -> Scores:
        """mIoU, FB-IoU and class IoUs at a threshold that was tried."""
        meter = IoUMeter(self.class_ids)
        meter.add(self.counts[:, self.thresholds.index(threshold)], self.episode_class)
        return meter.compute()

    def curve(self) -> dict[float, float]:
        """The mIoU at every threshold."""
        return {threshold: self.scores(threshold).miou for threshold in self.thresholds}

    def best_threshold(self) -> float:
        """The threshold of the largest mIoU; of equal ones the nearest to 0.5."""
        curve = self.curve()
        return max(self.thresholds, key=lambda threshold: (curve[threshold], -abs(threshold - 0.5)))

    def episode_iou(self, threshold: float) -> Tensor:
        """Foreground IoU of every episode at a threshold, percent: (N,)."""
        hit, union = self.counts[:, self.thresholds.index(threshold), :2].double().unbind(-1)
        return 100 * hit / union.clamp_min(1)


def evaluate(
    model: FewShotNetwork,
    episodes: Iterable[EncodedEpisodes],
    ids: Sequence[int],
    class_ids: Sequence[int],
    *,
    setup: Setup,
    thresholds: Sequence[float] = THRESHOLDS,
    vote_share: float = 0.4,
    presence: bool = False,
    means: bool = False,
) -> Evaluation:
    """Segment this process's share of the episodes and count pixels at every threshold.

    Args:
        model: MGCL, a baseline or any other network that encodes and compares.
        episodes: batches of this process's episodes, encoded by this network; the processes share
            all of them.
        ids: the episodes of all processes, in the order of the result.
        class_ids: classes to score, 0-based.
        setup: device and precision.
        thresholds: thresholds of the foreground probability.
        vote_share: of the K-shot vote.
        presence: also whether the queries show the class, if the network can tell.
        means: also decide by the mean of the supports' log-odds, in the same pass.
    """
    model.eval()
    tells = model.tells() if presence else None
    began = time.perf_counter()
    row = {episode_id: i for i, episode_id in enumerate(ids)}
    rules = 2 if means else 1
    # times seen, class, foreground, counts by each rule
    table = torch.zeros(len(ids), 3 + rules * len(thresholds) * 4, dtype=torch.int64)
    told = torch.zeros(len(ids), dtype=torch.float64)
    with torch.inference_mode():
        for query, supports, labels, _ in episodes:
            H, W = labels.query.shape[1:]
            logits = setup.compare(model, query, supports, labels.supports, (H, W))
            found = [
                aggregate_shots(logits, threshold=c, vote_share=vote_share) for c in thresholds
            ]
            if means:
                found += [average_shots(logits, threshold=c) for c in thresholds]
            counts = torch.stack([count_pixels(f, labels.query) for f in found], dim=1)
            classes = labels.class_ids[:, None]
            seen = torch.ones_like(classes)
            foreground = (labels.query == 1).sum(dim=(-2, -1))[:, None]
            counted = torch.cat([foreground, counts.flatten(1)], dim=1).cpu()
            rows = torch.tensor([row[i] for i in labels.episode_ids.tolist()])
            table.index_add_(0, rows, torch.cat([seen, classes, counted], dim=1))
            if tells is not None:
                told[rows] = tells(query, supports, setup.target(labels.supports)).double().cpu()
    table, told = table.to(setup.device), told.to(setup.device)
    distributed.all_reduce(table)
    distributed.all_reduce(told)
    table, told = table.cpu(), told.cpu()
    assert table[:, 0].eq(1).all(), "an episode was left out or scored twice"
    counts = table[:, 3:].unflatten(1, (rules, len(thresholds), 4))
    voted = Evaluation(
        class_ids=tuple(class_ids),
        thresholds=tuple(thresholds),
        episode_ids=torch.tensor([*ids]),
        episode_class=table[:, 1],
        foreground=table[:, 2],
        presence=None if tells is None else told,
        counts=counts[:, 0],
        episodes_per_second=len(ids) / max(time.perf_counter() - began, 1e-9),
    )
    return replace(voted, of_means=replace(voted, counts=counts[:, 1])) if means else voted
