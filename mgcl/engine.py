"""One epoch of training, and the evaluation of a list of episodes."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgcl import distributed
from mgcl.datasets.episodes import Episode
from mgcl.metrics import IoUMeter, Scores, count_pixels
from mgcl.model.network import aggregate_shots

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


def segmentation_loss(logits: Tensor, target: Tensor, kind: str = "ce") -> Tensor:
    """Pixel-wise cross-entropy, mean over all pixels that are not 255.

    Args:
        logits: (B, 2, H, W).
        target: (B, H, W) integers, 1 = foreground, 0 = background, 255 = left out.
        kind: "ce", or "ce+dice" to add 1 - soft Dice of the foreground, mean over images
            (V-Net, arXiv:1606.04797).
    """
    # By pixels (N, 2), (N,): on CUDA the kernel for pictures has no deterministic form.
    pixels = logits.movedim(1, -1).flatten(0, 2)  # (B*H*W, 2)
    loss = F.cross_entropy(pixels, target.long().flatten(), ignore_index=255)
    if kind == "ce":
        return loss
    valid = target != 255
    probability = logits.softmax(dim=1)[:, 1] * valid
    foreground = (target == 1).to(probability.dtype)
    overlap = (probability * foreground).sum(dim=(1, 2))
    size = (probability + foreground).sum(dim=(1, 2))
    return loss + (1 - (2 * overlap + 1) / (size + 1)).mean()


class TrainingResult(NamedTuple):
    """What an epoch of training gave."""

    loss: float
    scores: Scores
    """At the cut 0.5."""
    images_per_second: float
    steps: int
    scores_calibrated: Scores | None = None
    """At the calibrated cut, where there was one."""


class LossNotFiniteError(ValueError):
    """The loss became NaN or infinite; the message names the episodes."""


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
) -> TrainingResult:
    """Train on every batch of `loader` once.

    Args:
        model: MGCL, or a wrapper of it.
        optimizer: its rates are set already.
        loader: batches of 1-shot episodes.
        setup: device and precision.
        loss: "ce" or "ce+dice".
        class_ids: the training classes, for the scores.
        log_every: steps between two looks at the loss; only then the host waits for the device.
        on_log: called with (steps done, mean loss since the last call, images/s).
        cut: calibrated threshold to score at, beside 0.5.

    Raises:
        LossNotFiniteError: the loss is not a number any more.
    """
    model.train()
    meters = {c: IoUMeter(class_ids) for c in (0.5, cut) if c is not None}
    losses, step = _Losses(on_log), 0
    for step, batch in enumerate(loader, start=1):
        episode = setup.move(batch)
        logits = setup.forward(model, episode)[:, 0]  # (B, 2, H, W)
        value = segmentation_loss(logits, setup.target(episode.query_label), loss)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        margin = (logits[:, 1] - logits[:, 0]).detach()  # (B, H, W)
        for at, meter in meters.items():
            prediction = margin > math.log(at / (1 - at))
            meter.update(prediction, episode.query_label, torch.as_tensor(episode.class_id))
        losses.add(value.detach(), torch.as_tensor(batch.episode_id))
        if step % log_every == 0:
            losses.look(step)
    losses.look(step)
    for meter in meters.values():
        meter.all_reduce()
    scores = {at: meter.compute() for at, meter in meters.items()}
    calibrated = None if cut is None else scores[cut]
    mean = losses.total / max(step, 1)
    return TrainingResult(mean, scores[0.5], losses.speed(), step, calibrated)


class _Losses:
    """Keeps losses on the device until they are looked at, and checks them then."""

    def __init__(self, on_log: Callable[[int, float, float], None]) -> None:
        self.on_log = on_log
        self.recent: list[tuple[Tensor, Tensor]] = []
        self.total = 0.0
        self.images = 0
        self.began = time.perf_counter()

    def add(self, loss: Tensor, episode_ids: Tensor) -> None:
        self.recent.append((loss, episode_ids))
        self.images += 2 * len(episode_ids)

    def speed(self) -> float:
        return self.images / _since(self.began)

    def look(self, step: int) -> None:
        """Check and report what came since the last look; here the host waits for the device."""
        if not self.recent:
            return
        losses = torch.stack([loss for loss, _ in self.recent]).tolist()
        for loss, (_, ids) in zip(losses, self.recent, strict=True):
            if not math.isfinite(loss):
                raise LossNotFiniteError(
                    f"the loss is {loss} on the training episodes {ids.tolist()}: lower train.lr, "
                    "or look at these episodes; the last good checkpoint is kept"
                )
        self.recent = []
        self.total += sum(losses)
        self.on_log(step, sum(losses) / len(losses), self.speed())


def _since(began: float) -> float:
    return max(time.perf_counter() - began, 1e-9)


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
    episodes: int,
    class_ids: Sequence[int],
    *,
    setup: Setup,
    cuts: Sequence[float] = CUTS,
    vote_share: float = 0.4,
) -> Evaluation:
    """Segment this process's share of the episodes and count pixels at every cut.

    Args:
        model: MGCL, or anything that gives (B, K, 2, H, W) logits.
        loader: batches of this process's episodes, see `distributed.share`.
        episodes: number of episodes of all processes.
        class_ids: classes to score, 0-based.
        setup: device and precision.
        cuts: thresholds of the foreground probability.
        vote_share: of the K-shot vote.
    """
    model.eval()
    table, done = torch.zeros(episodes, len(cuts) * 4 + 2, dtype=torch.int64), distributed.rank()
    began = time.perf_counter()
    with torch.inference_mode():
        for batch in loader:
            episode = setup.move(batch)
            logits = setup.forward(model, episode)
            votes = [aggregate_shots(logits, cut=c, vote_share=vote_share) for c in cuts]
            counts = torch.stack([count_pixels(v, episode.query_label) for v in votes], dim=1)
            ids, classes = torch.as_tensor(episode.episode_id), torch.as_tensor(episode.class_id)
            facts = torch.stack([ids, classes], dim=1)
            rows = torch.cat([facts, counts.flatten(1)], dim=1).cpu()  # (B, 2 + 4 * cuts)
            last = done + len(rows) * distributed.world_size()
            table[done : last : distributed.world_size()] = rows
            done = last
    table = table.to(setup.device)
    distributed.all_reduce(table)
    table = table.cpu()
    return Evaluation(
        class_ids=tuple(class_ids),
        cuts=tuple(cuts),
        episode_ids=table[:, 0],
        episode_class=table[:, 1],
        counts=table[:, 2:].unflatten(1, (len(cuts), 4)),
        episodes_per_second=episodes / _since(began),
    )
