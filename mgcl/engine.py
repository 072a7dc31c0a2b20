"""One epoch of training, and the evaluation of a list of episodes."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mgcl import distributed
from mgcl.datasets.episodes import Episode
from mgcl.loss import segmentation_loss, whole_batch
from mgcl.metrics import IoUMeter, Scores, count_pixels
from mgcl.model.network import aggregate_shots
from mgcl.progress import Progress, TrainingResult

CUTS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # thresholds that an evaluation tries


@dataclass(frozen=True)
class Setup:
    """How a forward pass is done, in training and test alike."""

    device: torch.device
    precision: str = "float32"
    ignore_background: bool = True
    """255 counts as background in loss and support label, as published."""

    def move(self, episode: Episode) -> Episode:
        """An episode batch on the device."""
        return Episode(*(torch.as_tensor(t).to(self.device, non_blocking=True) for t in episode))

    def forward(self, model: nn.Module, episode: Episode) -> Tensor:
        """Logits (B, K, 2, H, W) of a batch on the device, float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return model(
                episode.query_image,
                episode.query_mask_map,
                episode.support_images,
                self.target(episode.support_labels),
                episode.support_mask_maps,
            )

    def target(self, label: Tensor) -> Tensor:
        """The label as loss and support see it."""
        return torch.where(label == 255, 0, label) if self.ignore_background else label


def train_one_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Iterable[Episode],
    *,
    setup: Setup,
    loss: str,
    class_ids: Sequence[int],
    log_every: int,
    on_log: Callable[[int, float, float], None],
    cut: float | None = None,
    accumulate: int = 1,
    begun: Mapping[str, Any] | None = None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> TrainingResult:
    """Train on every batch of `loader` once.

    Args:
        model: MGCL, or a wrapper of it.
        optimizer: its rates are set already.
        loader: batches of 1-shot episodes, of several processes each one's part of them.
        setup: device and precision.
        loss: "ce" or "ce+dice".
        class_ids: the training classes, for the scores.
        log_every: steps between two looks at the loss; only then the host waits for the device.
        on_log: called with (steps done, mean loss since the last call, images/s).
        cut: calibrated threshold to score at, beside 0.5.
        accumulate: passes that a batch is split into, for small cards.
        begun: state of the epoch where it was interrupted; `loader` holds the batches left.
        on_step: called after each step, before anything is logged of it.

    Raises:
        LossNotFiniteError: the loss is not a number any more.
    """
    model.train()
    progress = Progress(class_ids, setup.device, cut=cut)
    if begun is not None:
        progress.load_state_dict(begun)
        _look_if_due(progress, log_every, on_log)
    for batch in loader:
        episode = setup.move(batch)
        optimizer.zero_grad(set_to_none=True)
        value, margin = add_gradients(model, episode, setup=setup, loss=loss, passes=accumulate)
        optimizer.step()
        progress.add(value, margin, episode.query_label, episode.class_id, batch.episode_id)
        on_step(progress)
        _look_if_due(progress, log_every, on_log)
    progress.look(on_log)
    return progress.result()


def _look_if_due(
    progress: Progress, log_every: int, on_log: Callable[[int, float, float], None]
) -> None:
    if progress.step % log_every == 0:
        progress.look(on_log)


def add_gradients(
    model: nn.Module, episode: Episode, *, setup: Setup, loss: str, passes: int
) -> tuple[Tensor, Tensor]:
    """The gradients of a batch's loss, whoever has which part of it and in how many passes.

    Returns:
        this process's part of the loss, and (B, H, W) foreground's logit less background's.
    """
    whole = whole_batch(setup.target(episode.query_label))
    size = max(1, -(-len(episode.query_label) // passes))
    parts = list(zip(*(torch.as_tensor(t).split(size) for t in episode), strict=True))
    values, margins = [], []
    for i, part in enumerate(map(Episode._make, parts), start=1):
        with nullcontext() if i == len(parts) else _without_exchange(model):
            logits = setup.forward(model, part)[:, 0]  # (b, 2, H, W)
            value = segmentation_loss(logits, setup.target(part.query_label), loss, whole)
            # The processes' gradients are averaged, their parts of the loss add up.
            (distributed.world_size() * value).backward()
        values.append(value.detach())
        margins.append((logits[:, 1] - logits[:, 0]).detach())
    return torch.stack(values).sum(), torch.cat(margins)


def _without_exchange(model: nn.Module) -> AbstractContextManager[None]:
    """Keep the gradients in this process until the last pass."""
    return getattr(model, "no_sync", nullcontext)()


@dataclass(frozen=True)
class Evaluation:
    """Exact counts of every episode at every threshold."""

    class_ids: tuple[int, ...]
    """Classes that are scored, 0-based."""
    cuts: tuple[float, ...]
    episode_ids: Tensor
    """(N,)"""
    episode_class: Tensor
    """(N,) 0-based class of each episode."""
    counts: Tensor
    """(N, cuts, 4), see `metrics.count_pixels`."""
    episodes_per_second: float
    foreground: Tensor | None = None
    """(N,) pixels of the foreground in each episode's label, for precision and recall."""

    def scores(self, cut: float) -> Scores:
        """mIoU, FB-IoU and class IoUs at a cut that was tried."""
        meter = IoUMeter(self.class_ids)
        meter.add(self.counts[:, self.cuts.index(cut)], self.episode_class)
        return meter.compute()

    def curve(self) -> dict[float, float]:
        """The mIoU at every cut."""
        return {cut: self.scores(cut).miou for cut in self.cuts}

    def best_cut(self) -> float:
        """The cut of the largest mIoU; of equal ones the nearest to 0.5."""
        curve = self.curve()
        return max(self.cuts, key=lambda cut: (curve[cut], -abs(cut - 0.5)))

    def episode_iou(self, cut: float) -> Tensor:
        """Foreground IoU of every episode at a cut, percent: (N,)."""
        hit, union = self.counts[:, self.cuts.index(cut), :2].double().unbind(-1)
        return 100 * hit / union.clamp_min(1)


def evaluate(
    model: nn.Module,
    loader: Iterable[Episode],
    ids: Sequence[int],
    class_ids: Sequence[int],
    *,
    setup: Setup,
    cuts: Sequence[float] = CUTS,
    vote_share: float = 0.4,
) -> Evaluation:
    """Segment this process's share of the episodes and count pixels at every cut.

    Args:
        model: MGCL, or anything that gives (B, K, 2, H, W) logits.
        loader: batches of this process's episodes; the processes share all of them.
        ids: the episodes of all processes, in the order of the result.
        class_ids: classes to score, 0-based.
        setup: device and precision.
        cuts: thresholds of the foreground probability.
        vote_share: of the K-shot vote.
    """
    model.eval()
    began = time.perf_counter()
    row = {episode_id: i for i, episode_id in enumerate(ids)}
    # times seen, class, foreground, counts
    table = torch.zeros(len(ids), 3 + len(cuts) * 4, dtype=torch.int64)
    with torch.inference_mode():
        for batch in loader:
            episode = setup.move(batch)
            logits = setup.forward(model, episode)
            votes = [aggregate_shots(logits, cut=c, vote_share=vote_share) for c in cuts]
            counts = torch.stack([count_pixels(v, episode.query_label) for v in votes], dim=1)
            classes = torch.as_tensor(batch.class_id)[:, None]
            seen = torch.ones_like(classes)
            foreground = (episode.query_label == 1).sum(dim=(-2, -1))[:, None]
            counted = torch.cat([foreground, counts.flatten(1)], dim=1).cpu()
            rows = torch.tensor([row[i] for i in torch.as_tensor(batch.episode_id).tolist()])
            table.index_add_(0, rows, torch.cat([seen, classes, counted], dim=1))
    table = table.to(setup.device)
    distributed.all_reduce(table)
    table = table.cpu()
    assert table[:, 0].eq(1).all(), "an episode was left out or scored twice"
    return Evaluation(
        class_ids=tuple(class_ids),
        cuts=tuple(cuts),
        episode_ids=torch.tensor([*ids]),
        episode_class=table[:, 1],
        foreground=table[:, 2],
        counts=table[:, 3:].unflatten(1, (len(cuts), 4)),
        episodes_per_second=len(ids) / max(time.perf_counter() - began, 1e-9),
    )
