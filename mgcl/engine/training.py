"""One epoch of training."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from mgcl import distributed
from mgcl.datasets.episodes import Episode
from mgcl.engine.forward import Setup
from mgcl.engine.loss import segmentation_loss, whole_batch
from mgcl.engine.meter import EpochMeter, TrainingResult


def train_one_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Episode],
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
        batches: of 1-shot episodes; of several processes each one's part of them.
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
        episode = setup.move(batch)
        optimizer.zero_grad(set_to_none=True)
        value, margin = add_gradients(model, episode, setup=setup, loss=loss, passes=accumulate)
        optimizer.step()
        meter.add(value, margin, episode.query_label, episode.class_id, batch.episode_id)
        on_step(meter)
        meter.look_if_due(on_log)
    meter.look(on_log)
    return meter.result()


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
