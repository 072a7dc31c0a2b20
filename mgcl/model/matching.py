"""The matcher's arithmetic: cells of a query scored by the cells of its supports.

Words: B queries, K supports each, C channels, n = h*w cells of a query, m of all its supports.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mgcl.model.fewshot import Encoded
from mgcl.model.mgfe import means as mask_means
from mgcl.model.mgfe import pick

TEMPERATURE = 0.1  # of the attention; scores over it are log-odds
SELF_FOREGROUND, SELF_BACKGROUND = 0.05, 0.30  # shares of the query's cells that correct prototypes
SURE_FOREGROUND, SURE_BACKGROUND = 0.5, 0.1  # a support's cells by their share of the class
FITTED_SHOTS = (1, 5)  # numbers of supports for which something is fitted
NEGATIVE = 0.5  # least weight of a support of negatives, as a share of the other supports'
MASK_SHARE = 0.8  # of the masks' means in the map


def unit(x: Tensor, dim: int = 1) -> Tensor:
    """Vectors of length 1 along `dim`."""
    return F.normalize(x, dim=dim, eps=1e-8)


def class_share(labels: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """How much of each cell is the class, and how much is anything that counts.

    Args:
        labels: (B, H, W), 1 = class, 0 = background, anything else does not count.
        size: (h, w) of the grid.

    Returns:
        foreground and background share of each cell, (B, n) each.
    """
    halves = torch.stack([labels == 1, labels == 0], dim=1).float()
    shares = F.adaptive_avg_pool2d(halves, size).flatten(2)  # (B, 2, n)
    return shares[:, 0], shares[:, 1]


def match(query: Tensor, support: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
    """Score the query's cells: above 0 is nearer to the foreground.

    Args:
        query: (B, C, n) of unit length.
        support: (B or 1, C, m), the cells of all supports side by side.
        foreground: (B or 1, m) share of the class in each.
        background: (B or 1, m) share of anything else that counts.

    Returns:
        (B, n).
    """
    P, N = support_prototypes(support, foreground, background)
    attention = _attention(query, support, foreground, background)
    scores = (dot(P - N, query) + attention) / 2
    P = unit(P + unit(mean_of(query, scores, SELF_FOREGROUND, largest=True)))
    N = unit(N + unit(mean_of(query, scores, SELF_BACKGROUND, largest=False)))
    return (dot(P - N, query) + attention) / 2


def support_prototypes(
    support: Tensor, foreground: Tensor, background: Tensor
) -> tuple[Tensor, Tensor]:
    """Means of the supports' cells by their shares, of unit length: (B, C) each."""
    P, N = (unit(torch.einsum("bcm,bm->bc", support, w)) for w in (foreground, background))
    return P, N


def _attention(query: Tensor, support: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
    """T (log mean over the foreground's cells of exp(s.q / T) - the same of the background)."""
    B, C, n = query.shape
    sides = torch.stack(sure_cells(foreground, background), dim=1)  # (B or 1, 2, m)
    if len(support) == 1:  # one product for all queries, of the cells that have a side
        query = query.transpose(0, 1).reshape(1, C, B * n)
        kept = sides.any(dim=1)[0].nonzero()[:, 0]
        support, sides = (x.index_select(2, kept) for x in (support, sides))
    likeness = torch.bmm(support.transpose(1, 2), query) / TEMPERATURE  # at most 1 / T
    logs = torch.bmm(sides, likeness.exp_()).log()  # (B, 2, n) or (1, 2, B * n)
    return (TEMPERATURE * (logs[:, 0] - logs[:, 1])).view(B, n)


def sure_cells(foreground: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
    """Averaging weights over what surely is the class and what surely is not, (B, m) each.

    Where no cell is sure, those that are most.
    """
    sides = []
    for share, sure in (
        (foreground, foreground > SURE_FOREGROUND),
        (background, (foreground < SURE_BACKGROUND) & (background > SURE_FOREGROUND)),
    ):
        most = share == share.amax(dim=1, keepdim=True)
        cells = torch.where(sure.any(dim=1, keepdim=True), sure, most) * share.clamp_min(1)
        sides.append(cells / cells.sum(dim=1, keepdim=True))
    return sides[0], sides[1]


def dot(p: Tensor, cells: Tensor) -> Tensor:
    """(B, C), (B, C, n) -> (B, n)."""
    return torch.einsum("bc,bcn->bn", p, cells)


def mean_of(cells: Tensor, scores: Tensor, share: float, *, largest: bool) -> Tensor:
    """Mean of the cells with the largest or the smallest scores: (B, C, n), (B, n) -> (B, C)."""
    count = max(1, round(share * scores.shape[1]))
    chosen = scores.topk(count, dim=1, largest=largest).indices
    return cells.gather(2, chosen[:, None].expand(-1, cells.shape[1], -1)).mean(dim=2)


def over_masks(scores: Tensor, mask_map: Tensor, size: tuple[int, int]) -> Tensor:
    """Scores of cells as a map, drawn towards the mean of each mask.

    Args:
        scores: (B, h, w).
        mask_map: (B, H, W) uint8 of the query; what lies in no mask keeps its own.
        size: (H, W) of the result.

    Returns:
        (B, H, W).
    """
    fine = F.interpolate(scores[:, None], size=size, mode="bilinear", align_corners=False)
    ids = mask_map.flatten(1).long()  # (B, H*W)
    pixels = fine.flatten(1)[..., None]  # (B, H*W, 1)
    drawn = pick(mask_means(pixels, ids, max_masks=255), ids)  # zeros outside the masks
    drawn = torch.where(ids[..., None] > 0, drawn, pixels)
    return (MASK_SHARE * drawn + (1 - MASK_SHARE) * pixels).view(fine[:, 0].shape)


def side_by_side(
    query: Encoded, supports: Sequence[Encoded], support_labels: Tensor, place: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `match` takes: the cells of a level of the query, and of all supports, and shares."""
    B, grid = len(support_labels), (query.levels[place].shape[2], query.levels[place].shape[3])
    features = torch.cat([s.levels[place].flatten(2).expand(B, -1, -1) for s in supports], dim=2)
    shares = [class_share(label, grid) for label in support_labels.unbind(1)]
    foreground, background = (torch.stack(side, dim=1) for side in zip(*shares, strict=True))
    background = weigh_negatives(foreground, background)  # (B, K, n)
    return query.levels[place].flatten(2), features, foreground.flatten(1), background.flatten(1)


def once(supports: Sequence[Encoded], labels: Tensor) -> Tensor:
    """Labels (B, K, H, W) as (1, K, H, W) where supports and labels are one, seen as many."""
    shared = labels.stride(0) == 0 and all(len(support.mask_map) == 1 for support in supports)
    return labels[:1] if shared else labels


def weigh_negatives(foreground: Tensor, background: Tensor) -> Tensor:
    """Let a support that only shows what is not the class count for something.

    A false alarm that a user marks covers a few cells, among hundreds that are background anyway:
    unweighted, marking it changes nothing.

    Args:
        foreground: (B, K, m) share of the class in the cells of each support.
        background: (B, K, m) share of anything else that counts.

    Returns:
        (B, K, m) background; over 1 it is a weight.
    """
    shown = (foreground > 0).any(dim=2)  # (B, K)
    totals = background.sum(dim=2)
    usual = (totals * shown).sum(dim=1) / shown.sum(dim=1).clamp_min(1)  # (B,)
    factor = (NEGATIVE * usual[:, None] / totals.clamp_min(1e-8)).clamp_min(1)
    return background * torch.where(shown, 1, factor)[..., None]


def nearest_fitted(shots: int) -> int:
    """The number of supports that was fitted which is nearest to this one."""
    return min(FITTED_SHOTS, key=lambda K: abs(math.log(K / shots)))
