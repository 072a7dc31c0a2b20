"""Log-odds that an image shows a class, from a few statistics: a logistic regression.

What is fitted of `mgcl.model.presence`, for one number of supports.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

KEPT = 0.9  # of the images that show the class lie above 0
QUANTILES = tuple(number / 20 for number in range(1, 20))  # of shown pairs that a rule knows
RIDGE = 30.0  # penalty of squared weights, beside the sum of all pairs' losses


class Rule(nn.Module):
    """Log-odds from statistics: logistic regression, shifted so that 0 keeps what it was told to.

    Before it is fitted it answers 0.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    shown: Tensor

    def __init__(self, count: int) -> None:
        """`count` of the statistics."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("scale", torch.ones(count))
        self.register_buffer("weight", torch.zeros(count))
        self.register_buffer("bias", torch.zeros(()))
        self.register_buffer("shown", torch.zeros(len(QUANTILES)))

    def forward(self, statistics: Tensor) -> Tensor:
        """(B, S) -> (B,)."""
        return (statistics - self.mean) / self.scale @ self.weight + self.bias

    def linear(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights and bias for statistics as they are; how high shown pairs lie."""
        weight = self.weight / self.scale
        return weight, self.bias - weight @ self.mean, self.shown

    def least(self, kept: float) -> float:
        """Log-odds over which that share of the pairs lies that share a class."""
        return float(np.interp(1 - kept, QUANTILES, self.shown.tolist()))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Earlier checkpoints know fewer statistics, and not how high the shown pairs lie."""
        state.setdefault(f"{prefix}shown", self.shown)
        for name in ("mean", "scale", "weight"):
            held = state.get(f"{prefix}{name}", getattr(self, name))
            more = len(self.mean) - len(held)
            state[f"{prefix}{name}"] = F.pad(held, (0, more), value=float(name == "scale"))
        super()._load_from_state_dict(state, prefix, *rest)

    def fit(self, statistics: Tensor, shown: Tensor, group: Tensor, kept: float = KEPT) -> None:
        """Fit, and put 0 where `kept` of the shown pairs lie above it.

        Where that is is told from pairs of groups that were left out of a fit of their own.

        Args:
            statistics: (N, S).
            shown: (N,) bool.
            group: (N,) integers; pairs of one class are of one group.
            kept: share.
        """
        self.mean, self.scale = statistics.mean(dim=0), statistics.std(dim=0).clamp_min(1e-6)
        z = torch.cat([(statistics - self.mean) / self.scale, self.bias.expand(len(shown), 1)], 1)
        z = z.double()
        z[:, -1] = 1
        unseen = torch.zeros(len(shown), dtype=torch.double, device=z.device)
        for number in group.unique():
            out = group == number
            unseen[out] = z[out] @ _logistic(z[~out], shown[~out].double())
        solved = _logistic(z, shown.double())
        self.weight = solved[:-1].to(self.mean)
        zero = unseen[shown].quantile(1 - kept)
        self.bias = (solved[-1] - zero).to(self.mean)
        places = torch.tensor(QUANTILES, dtype=unseen.dtype, device=unseen.device)
        self.shown = (unseen[shown].quantile(places) - zero).to(self.mean)


def _logistic(x: Tensor, y: Tensor) -> Tensor:
    """Weights of a logistic regression by Newton's steps; all but the last are penalised."""
    weight = x.new_zeros(x.shape[1])
    penalty = RIDGE * torch.eye(len(weight), dtype=x.dtype, device=x.device)
    penalty[-1, -1] = 1e-6
    for _ in range(10):
        p = (x @ weight).sigmoid()
        slope = x.T @ (p - y) + penalty @ weight
        weight = weight - torch.linalg.solve((x.T * (p * (1 - p))) @ x + penalty, slope)
    return weight
