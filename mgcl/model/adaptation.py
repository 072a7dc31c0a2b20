"""What several supports teach of their class: by which channels they find each other.

Each support is segmented by the prototypes of the others (leave one out), and a few steps on that
loss change how much each channel counts, for this episode alone. One support has nobody to be found
by and changes nothing.

Words: as in `mgcl.model.matching`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mgcl.model.matching import unit

STEPS, RATE = 16, 0.05  # of Adam; chosen on classes that the metric was not trained on
POOLED = 2  # cells a side that count as one: a quarter of the time
FEWEST = 2  # supports that show the class


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
        (B, C) factors; ones where fewer than two supports show the class.
    """
    several = foreground.flatten(2).any(dim=2).sum(dim=1) >= FEWEST  # (B,)
    with torch.inference_mode(False), torch.enable_grad():
        given = (support, foreground[:, :, None], background[:, :, None])
        cells, fg, bg = (_pooled(x.detach().clone()) for x in given)  # (B, K, C or 1, m)
        scale, bias = scale.detach().clone(), bias.detach().clone()
        logs = torch.zeros(len(cells), cells.shape[2], device=cells.device, requires_grad=True)
        optimizer = torch.optim.Adam([logs], lr=RATE)
        for _ in range(STEPS):
            optimizer.zero_grad()
            changed = unit(cells * logs.exp()[:, None, :, None], dim=2)
            _loss(changed, fg, bg, scale, bias).backward()
            optimizer.step()
        factors = logs.detach().exp()
    return torch.where(several[:, None], factors, 1.0)


def _pooled(x: Tensor) -> Tensor:
    """Means of squares of cells: (B, K, C, h, w) -> (B, K, C, m)."""
    side = min(POOLED, *x.shape[3:])
    return F.avg_pool2d(x.flatten(0, 1), side).flatten(2).unflatten(0, x.shape[:2])


def _loss(cells: Tensor, fg: Tensor, bg: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Cross-entropy and Dice of each support, found by the others; a sum over the episodes."""
    sums = ((cells * share).sum(dim=3) for share in (fg, bg))  # (B, K, C)
    P, N = (unit(of.sum(dim=1, keepdim=True) - of, dim=2) for of in sums)
    scores = scale * torch.einsum("bkc,bkcm->bkm", P - N, cells) + bias
    p, fg, bg = scores.sigmoid(), fg[:, :, 0], bg[:, :, 0]
    entropy = -(fg * F.logsigmoid(scores) + bg * F.logsigmoid(-scores)).mean(dim=2)
    marked, shown = (p * (fg + bg)).sum(dim=2), fg.sum(dim=2)
    dice = 1 - (2 * (p * fg).sum(dim=2) + 1) / (marked + shown + 1)
    return (entropy + dice).mean(dim=1).sum()
