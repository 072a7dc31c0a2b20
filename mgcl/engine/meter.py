"""The epoch of training under way: what its steps have summed up, and how that is kept."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from mgcl import distributed
from mgcl.metrics import IoUMeter, Scores
from mgcl.model.network import logit


class TrainingResult(NamedTuple):
    """What an epoch of training gave."""

    loss: float
    scores: Scores
    """At the threshold 0.5."""
    images_per_second: float
    steps: int
    scores_calibrated: Scores | None = None
    """At the calibrated threshold, where there was one."""


class LossNotFiniteError(ValueError):
    """The loss became NaN or infinite; the message names the episodes."""


class EpochMeter:
    """Losses and counts of an epoch; they stay on the device until they are looked at."""

    def __init__(
        self,
        class_ids: Sequence[int],
        device: torch.device,
        *,
        threshold: float | None = None,
        log_every: int = 20,
    ) -> None:
        """Nothing done yet.

        Args:
            class_ids: the training classes, for the scores.
            device: where the steps compute.
            threshold: calibrated threshold to score at, beside 0.5.
            log_every: steps between two looks at the loss.
        """
        self.step = 0
        self.log_every = log_every
        self.threshold = threshold
        self._meters = {c: IoUMeter(class_ids, device) for c in (0.5, threshold) if c is not None}
        self._device = device
        self._parts: list[tuple[Tensor, Tensor]] = []  # own part of a step's loss, its episode ids
        self._losses: list[float] = []  # settled ones since the last report
        self._total = 0.0
        self._images = 0
        self._began = time.perf_counter()

    def add(self, loss: Tensor, margin: Tensor, label: Tensor, class_id: Any, ids: Any) -> None:
        """Count a step; no host sync.

        Args:
            loss: this process's part of the batch's loss.
            margin: (B, H, W) foreground's logit less background's, of this process's episodes.
            label: (B, H, W) as `metrics.count_pixels` takes it.
            class_id: (B,) 0-based.
            ids: (B,) episode ids, on the host.
        """
        self.step += 1
        self._parts.append((loss.detach(), torch.as_tensor(ids)))
        for threshold, meter in self._meters.items():
            prediction = margin > logit(threshold)
            meter.update(prediction, label, torch.as_tensor(class_id))

    def look_if_due(self, on_log: Callable[[int, float, float], None]) -> None:
        """`look` after every `log_every`-th step; only then the host waits for the device."""
        if self.step % self.log_every == 0:
            self.look(on_log)

    def look(self, on_log: Callable[[int, float, float], None]) -> None:
        """Check the losses since the last look and report their mean; the host waits for it."""
        self.settle()
        if not self._losses:
            return
        self._total += sum(self._losses)
        on_log(self.step, sum(self._losses) / len(self._losses), self._speed())
        self._losses = []

    def settle(self) -> None:
        """Sum up what the processes know apart; all call it at the same step.

        Raises:
            LossNotFiniteError: a loss is not a number.
        """
        if not self._parts:
            return
        images = torch.full((), 2 * sum(len(ids) for _, ids in self._parts), device=self._device)
        table = torch.stack([*(loss for loss, _ in self._parts), images.float()])
        distributed.all_reduce(table)
        *losses, count = table.tolist()
        for loss, (_, ids) in zip(losses, self._parts, strict=True):
            if not math.isfinite(loss):
                self.refuse(f"the loss is {loss}", ids.tolist())
        self._parts = []
        self._losses += losses
        self._images += int(count)

    def refuse(self, what: str, ids: list[int]) -> NoReturn:
        """Stop, naming the episodes of a batch, of which `ids` are this process's.

        Raises:
            LossNotFiniteError: always.
        """
        ids = sorted(number for part in distributed.gather(ids) for number in part)
        raise LossNotFiniteError(
            f"{what} on the training episodes {ids}: lower train.lr, or look at these episodes; "
            "the last good checkpoint is kept"
        )

    def result(self) -> TrainingResult:
        """The epoch's loss and scores, once all was looked at; all processes call it."""
        for meter in self._meters.values():
            meter.all_reduce()
        scores = {threshold: meter.compute() for threshold, meter in self._meters.items()}
        calibrated = None if self.threshold is None else scores[self.threshold]
        mean = self._total / max(self.step, 1)
        return TrainingResult(mean, scores[0.5], self._speed(), self.step, calibrated)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep to go on from here; all processes call it.

        Raises:
            LossNotFiniteError: a loss is not a number.
        """
        self.settle()
        counts = torch.stack([meter.counts for meter in self._meters.values()])
        distributed.all_reduce(counts)
        return {
            "step": self.step,
            "losses": [*self._losses],
            "total": self._total,
            "counts": counts.cpu(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; the first process takes the sums, the others add to them."""
        self.step, self._losses, self._total = state["step"], [*state["losses"]], state["total"]
        for meter, counts in zip(self._meters.values(), state["counts"], strict=True):
            if distributed.is_main():
                meter.counts.copy_(counts)

    def _speed(self) -> float:
        """Images a second, of this start of the program."""
        return self._images / max(time.perf_counter() - self._began, 1e-9)
