"""What the supports teach of their class: by which channels it is found in them.

Each support is segmented by the prototypes of the others (leave one out), and a few steps on that
loss change how much each channel counts, for this episode alone. A support that is the only one to
show the class is segmented by its own prototypes, for fewer steps.

Words: as in `mgcl.model.matching`.
"""

from functools import reduce

import torch
from torch import Tensor

STEPS, RATE = 16, 0.05  # of Adam; chosen on classes that the metric was not trained on
BETAS = (0.9, 0.999)  # Adam's; torch's own takes longer than all else for so few numbers
ALONE = 4  # steps of a single support; 3 to 8 are as good
POOLED = 2  # cells a side that count as one: a quarter of the time


@torch.no_grad()
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
    cells, fg, bg = (pooled(x) for x in (support, foreground[:, :, None], background[:, :, None]))
    cells = cells.flatten(0, 1)  # (B * K, C, m)
    given = cells, cells.square(), fg.flatten(0, 1), bg.flatten(0, 1), scale, bias
    others = (showing > 1)[:, None, None, None].float()
    logs = cells.new_zeros(len(support), cells.shape[1])
    first, second = torch.zeros_like(logs), torch.zeros_like(logs)  # Adam's moments
    for step in range(1, steps + 1):
        slope = loss_slope(logs.exp(), *given, others=others)
        first = first.lerp(slope, 1 - BETAS[0])
        second = second.lerp(slope.square(), 1 - BETAS[1])
        size = (second / (1 - BETAS[1] ** step)).sqrt() + 1e-8
        logs = logs - RATE / (1 - BETAS[0] ** step) * first / size
        if step == ALONE:
            alone = logs
    factors = torch.where(showing[:, None] > 1, logs, alone).exp()
    return torch.where(showing[:, None] > 0, factors, 1.0)


def pooled(x: Tensor) -> Tensor:
    """Means of squares of cells: (B, K, C, h, w) -> (B, K, C, m).

    As `F.avg_pool2d` has them, in a quarter of the time for squares as small.
    """
    side = min(POOLED, *x.shape[3:])
    h, w = (length - length % side for length in x.shape[3:])
    rows = reduce(torch.add, (x[..., i:h:side, :] for i in range(side)))
    cells = reduce(torch.add, (rows[..., i:w:side] for i in range(side)))
    return (cells / side**2).flatten(3)


def loss_slope(
    factors: Tensor,
    cells: Tensor,
    squares: Tensor,
    fg: Tensor,
    bg: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    others: Tensor,
) -> Tensor:
    """How cross-entropy and Dice of each support change with the factors' logarithms: (B, C).

    Written out, as autograd takes three times as long for so few numbers. The cells times the
    factors are never made: their lengths and sums are products of the cells and their squares.

    Args:
        factors: (B, C).
        cells: (B * K, C, m).
        squares: of the cells.
        fg: (B * K, 1, m) share of the class.
        bg: (B * K, 1, m) share of anything else that counts.
        scale: of the scores.
        bias: of the scores.
        others: (B, 1, 1, 1), 1 where a support is found by the others alone, 0 where by all.
    """
    K, C = len(cells) // len(factors), factors.shape[1]
    f = factors.repeat_interleave(K, dim=0)[:, None]  # (B * K, 1, C)
    lengths = (f.square() @ squares).clamp_min(1e-16).sqrt()  # (B * K, 1, m)
    shares = torch.cat([fg, bg], dim=1) / lengths  # (B * K, 2, m)
    plain = shares @ cells.transpose(1, 2)  # (B * K, 2, C)
    sums = (plain * f).view(-1, K, 2, C)
    sums = sums.sum(dim=1, keepdim=True) - others * sums
    norm = torch.linalg.vector_norm(sums, dim=3, keepdim=True).clamp_min(1e-8)
    means = sums / norm  # P and N
    apart = (means[:, :, 0] - means[:, :, 1]).view(-1, 1, C)  # (B * K, 1, C)
    cosines = (apart * f) @ cells / lengths
    p, both = (scale * cosines + bias).sigmoid(), fg + bg

    size = (p * both + fg).sum(dim=2, keepdim=True) + 1
    dice = (2 * (p * fg).sum(dim=2, keepdim=True) + 1) / size
    of_p = (dice * both - 2 * fg) / size * p * (1 - p) + (both * p - fg) / p.shape[2]
    of_cosines = of_p * (scale / K) / lengths  # times their lengths
    toward = of_cosines @ cells.transpose(1, 2)  # (B * K, 1, C)
    of_means = torch.cat([toward * f, -toward * f], dim=1).view_as(sums)
    of_sums = (of_means - means * (means * of_means).sum(dim=3, keepdim=True)) / norm
    of_sums = (of_sums.sum(dim=1, keepdim=True) - others * of_sums).view_as(plain)
    of_shares = (of_sums * f) @ cells  # (B * K, 2, m)
    of_lengths = of_cosines * cosines + (of_shares * shares).sum(dim=1, keepdim=True) / lengths
    of_squares = (of_lengths / lengths) @ squares.transpose(1, 2)  # (B * K, 1, C)
    slope = apart * toward + (of_sums * plain).sum(dim=1, keepdim=True) - f * of_squares
    return factors * slope.view(-1, K, C).sum(dim=1)
