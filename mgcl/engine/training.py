"""One epoch of training."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from mgcl import distributed
from mgcl.datasets.episodes import Episode
from mgcl.engine.forward import Setup
from mgcl.engine.loss import segmentation_loss, whole_batch
from mgcl.engine.meter import Progress, TrainingResult


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
    threshold: float | None = None,
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
        threshold: calibrated threshold to score at, beside 0.5.
        accumulate: passes that a batch is split into, for small cards.
        begun: state of the epoch where it was interrupted; `loader` holds the batches left.
        on_step: called after each step, before anything is logged of it.

    Raises:
        LossNotFiniteError: the loss is not a number any more.
    """
    model.train()
    progress = Progress(class_ids, setup.device, threshold=threshold)
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
