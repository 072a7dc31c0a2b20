"""What the supports teach of their class: by which channels it is found in them.

Each support is segmented by the prototypes of the others (leave one out), and a few steps on that
loss change how much each channel counts, for this episode alone. A support that is the only one to
show the class is segmented by its own prototypes, for fewer steps.

Words: as in `mgcl.model.matching`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mgcl.model.matching import unit

STEPS, RATE = 16, 0.05  # of Adam; chosen on classes that the metric was not trained on
BETAS = (0.9, 0.999)  # Adam's; torch's own takes longer than all else for so few numbers
ALONE = 4  # steps of a single support; 3 to 8 are as good
POOLED = 2  # cells a side that count as one: a quarter of the time


def adapt(
    support: Tensor, foreground: Tensor, background: Tensor, *, scale: Tensor, bias: Tensor
) -> Tensor:
    """How much each channel counts for an episode.

    Args:
        support: (B, K, C, h, w) cells of unit length.
        foreground: (B, K, h, w) share of the class in each.
        background: (B, K, h, w) share of anything else that counts.
        scale: of the scores that the metric was trained by, as `bias`.
        bias: likewise.

    Returns:
        (B, C) factors; ones where no support shows the class.
    """
    showing = foreground.flatten(2).any(dim=2).sum(dim=1)  # (B,)
    several = support.shape[1] > 1 and bool((showing > 1).any())  # a host waits where it looks
    steps = STEPS if several else ALONE
    with torch.inference_mode(False), torch.enable_grad():
        given = (support, foreground[:, :, None], background[:, :, None])
        cells, fg, bg = (_pooled(x.detach()) for x in given)  # (B, K, C or 1, m)
        scale, bias = scale.detach().clone(), bias.detach().clone()
        squares = cells.square()
        others = (showing > 1)[:, None, None].float()
        logs = torch.zeros(len(cells), cells.shape[2], device=cells.device)
        first, second = torch.zeros_like(logs), torch.zeros_like(logs)  # Adam's moments
        for step in range(1, steps + 1):
            leaf = logs.detach().requires_grad_(True)
            loss = _loss(leaf.exp(), cells, squares, fg, bg, others, scale, bias)
            (slope,) = torch.autograd.grad(loss, leaf)
            first = first.lerp(slope, 1 - BETAS[0])
            second = second.lerp(slope.square(), 1 - BETAS[1])
            size = (second / (1 - BETAS[1] ** step)).sqrt() + 1e-8
            logs = logs - RATE / (1 - BETAS[0] ** step) * first / size
            if step == ALONE:
                alone = logs
        factors = torch.where(showing[:, None] > 1, logs, alone).exp()
    return torch.where(showing[:, None] > 0, factors, 1.0)


def _pooled(x: Tensor) -> Tensor:
    """Means of squares of cells: (B, K, C, h, w) -> (B, K, C, m)."""
    side = min(POOLED, *x.shape[3:])
    return F.avg_pool2d(x.flatten(0, 1), side).flatten(2).unflatten(0, x.shape[:2])


def _loss(
    factors: Tensor,
    cells: Tensor,
    squares: Tensor,
    fg: Tensor,
    bg: Tensor,
    others: Tensor,
    scale: Tensor,
    bias: Tensor,
) -> Tensor:
    """Cross-entropy and Dice of each support; a sum over the episodes.

    The cells times `factors` (B, C) are never made: their lengths and sums are products of the
    cells and their squares. `others` (B, 1, 1): 1 where a support is found by the others alone, 0
    where by all.
    """
    B, K, C, m = cells.shape
    flat, factors = cells.flatten(0, 1), factors[:, None]  # (B * K, C, m), (B, 1, C)
    lengths = (factors.square()[:, None] @ squares)[:, :, 0].clamp_min(1e-16).sqrt()  # (B, K, m)
    shares = torch.cat([fg, bg], dim=2) / lengths[:, :, None]  # (B, K, 2, m)
    sums = (flat @ shares.flatten(0, 1).transpose(1, 2)).view(B, K, C, 2) * factors[..., None]
    P, N = unit(sums.sum(dim=1, keepdim=True) - others[..., None] * sums, dim=2).unbind(3)
    toward = ((P - N) * factors).expand(B, K, C).reshape(B * K, 1, C)
    scores = scale * (toward @ flat).view(B, K, m) / lengths + bias
    p, fg, bg = scores.sigmoid(), fg[:, :, 0], bg[:, :, 0]
    entropy = -(fg * F.logsigmoid(scores) + bg * F.logsigmoid(-scores)).mean(dim=2)
    marked, shown = (p * (fg + bg)).sum(dim=2), fg.sum(dim=2)
    dice = 1 - (2 * (p * fg).sum(dim=2) + 1) / (marked + shown + 1)
    return (entropy + dice).mean(dim=1).sum()
