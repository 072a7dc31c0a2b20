"""One epoch of training."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from mgcl import distributed
from mgcl.datasets.episodes import Episode
from mgcl.engine.forward import EncodedEpisodes, Setup
from mgcl.engine.loss import segmentation_loss, whole_batch
from mgcl.engine.meter import EpochMeter, TrainingResult


def train_one_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Episode | EncodedEpisodes],
    meter: EpochMeter,
    *,
    setup: Setup,
    loss: str,
    accumulate: int = 1,
    on_log: Callable[[int, float, float], None] = lambda *look: None,
    on_step: Callable[[EpochMeter], None] = lambda meter: None,
) -> TrainingResult:
    """Train on every batch once.

    Args:
        model: MGCL, or a wrapper of it.
        optimizer: its rates are set already.
        batches: of 1-shot episodes, encoded if training does not change how images are encoded; of
            several processes each one's part of them.
        meter: of this epoch; where it was interrupted, `batches` are those that are left.
        setup: device and precision.
        loss: "ce" or "ce+dice".
        accumulate: passes that a batch is split into, for small cards.
        on_log: called with (steps done, mean loss since the last call, images/s).
        on_step: called after each step, before anything is logged of it.

    Raises:
        LossNotFiniteError: the loss is not a number any more.
    """
    model.train()
    meter.look_if_due(on_log)  # the last step before an interruption may not be logged yet
    for batch in batches:
        moved = setup.move(batch)
        optimizer.zero_grad(set_to_none=True)
        value, margin = add_gradients(model, moved, setup=setup, loss=loss, passes=accumulate)
        optimizer.step()
        labels = moved.labels
        meter.add(value, margin, labels.query, labels.class_ids, batch.labels.episode_ids)
        on_step(meter)
        meter.look_if_due(on_log)
    meter.look(on_log)
    return meter.result()


def add_gradients(
    model: nn.Module,
    batch: Episode | EncodedEpisodes,
    *,
    setup: Setup,
    loss: str,
    passes: int,
) -> tuple[Tensor, Tensor]:
    """The gradients of a batch's loss, whoever has which part of it and in how many passes.

    Returns:
        this process's part of the loss, and (B, H, W) foreground's logit less background's.
    """
    count = len(batch.labels.query)
    whole = whole_batch(setup.target(batch.labels.query))
    size = max(1, -(-count // passes))
    starts = range(0, max(1, count), size)  # a process without episodes takes part, too
    values, margins = [], []
    for start in starts:
        part = batch.part(start, start + size)
        with nullcontext() if start == starts[-1] else _without_exchange(model):
            logits = setup.forward(model, part)[:, 0]  # (b, 2, H, W)
            value = segmentation_loss(logits, setup.target(part.labels.query), loss, whole)
            # The processes' gradients are averaged, their parts of the loss add up.
            (distributed.world_size() * value).backward()
        values.append(value.detach())
        margins.append((logits[:, 1] - logits[:, 0]).detach())
    return torch.stack(values).sum(), torch.cat(margins)


def _without_exchange(model: nn.Module) -> AbstractContextManager[None]:
    """Keep the gradients in this process until the last pass."""
    return getattr(model, "no_sync", nullcontext)()
