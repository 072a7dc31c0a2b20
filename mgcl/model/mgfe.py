"""Mask-guided feature enhancement (MGFE), Sec. III-B of the paper.

Each pixel's feature is joined by the mean feature of the mask that the pixel lies in.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def mask_ids(mask_map: Tensor, size: tuple[int, int], max_masks: int = 128) -> Tensor:
    """Which mask each pixel of a feature map lies in.

    Args:
        mask_map: (B, H, W) uint8, 0 = no mask, i = mask i.
        size: (h, w) of the feature map; the map is sampled by torch's `nearest`, floor(i * H / h).
        max_masks: largest mask number that counts.

    Returns:
        (B, h*w) int64, 0 = no mask. Numbers are at most h*w: where the map's own could be larger, a
        mask is called by its first pixel, counted from 1.
    """
    ids = F.interpolate(mask_map[:, None], size=size, mode="nearest").flatten(1).long()
    ids = ids * (ids <= max_masks)
    if ids.shape[1] >= max_masks:
        return ids
    same = ids[:, :, None] == ids[:, None, :]  # (B, h*w, h*w)
    return (same.byte().argmax(dim=2) + 1) * (ids > 0)


def prototypes(pixels: Tensor, ids: Tensor, max_masks: int = 128) -> Tensor:
    """Mean feature of every mask.

    Args:
        pixels: (B, h*w, C).
        ids: (B, h*w) from `mask_ids`.
        max_masks: largest mask number.

    Returns:
        (B, 1 + M, C), M = min(max_masks, h*w): row i is that of mask i; zeros if it is empty, and
        in row 0.
    """
    B, P, C = pixels.shape
    M = min(max_masks, P)
    rows = _rows(ids, 1 + M)
    sums = pixels.new_zeros(B * (1 + M), C).index_add(0, rows, pixels.reshape(B * P, C))
    count = pixels.new_zeros(B * (1 + M)).index_add(0, rows, pixels.new_ones(B * P))
    is_mask = torch.arange(1 + M, device=ids.device) > 0
    share = is_mask / (count.view(B, 1 + M) + 1e-8)
    return sums.view(B, 1 + M, C) * share[..., None]


def pick(table: Tensor, ids: Tensor) -> Tensor:
    """The row of each pixel's mask: (B, 1 + M, N), (B, P) -> (B, P, N)."""
    rows = _rows(ids, table.shape[1])
    return table.flatten(0, 1).index_select(0, rows).unflatten(0, ids.shape)


def mask_mean(feature: Tensor, mask_map: Tensor, max_masks: int = 128) -> Tensor:
    """Replace each pixel's feature by the mean feature of the mask that it lies in.

    Args:
        feature: (B, C, h, w).
        mask_map: (B, H, W) uint8, 0 = no mask.
        max_masks: largest mask number.

    Returns:
        (B, C, h, w); zeros where a pixel lies in no mask.
    """
    B, C, h, w = feature.shape
    pixels = feature.flatten(2).transpose(1, 2)  # (B, h*w, C)
    ids = mask_ids(mask_map, (h, w), max_masks)
    means = pick(prototypes(pixels, ids, max_masks), ids)  # (B, h*w, C)
    return means.transpose(1, 2).reshape(B, C, h, w)


def _rows(ids: Tensor, count: int) -> Tensor:
    """(B, P) -> (B*P,) rows of a (B, count, ...) table whose first two dims are flattened."""
    images = torch.arange(len(ids), device=ids.device)[:, None]
    return (images * count + ids).flatten()
