"""Mask-guided feature enhancement (MGFE), Sec. III-B of the paper.

Each pixel's feature is joined by the mean feature of the mask that the pixel lies in.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def assignment(mask_map: Tensor, size: tuple[int, int], max_masks: int = 128) -> Tensor:
    """Which mask each pixel of a feature map lies in, one-hot.

    Args:
        mask_map: (B, H, W) uint8, 0 = no mask, i = mask i.
        size: (h, w) of the feature map; the map is sampled by torch's `nearest`, floor(i * H / h).
        max_masks: largest mask number M.

    Returns:
        (B, h*w, min(M, h*w)) float32, a row of zeros for a pixel in no mask.
    """
    ids = F.interpolate(mask_map[:, None], size=size, mode="nearest").flatten(1)  # (B, h*w)
    if ids.shape[1] < max_masks:  # fewer pixels than numbers: a mask is called by its first pixel
        same = ids[:, :, None] == ids[:, None, :]
        earlier = same.tril(-1).any(dim=2)  # (B, h*w) not the first pixel of its mask
        counted = ~earlier & (ids > 0) & (ids <= max_masks)
        return (same & counted[:, None]).float()
    numbers = torch.arange(1, max_masks + 1, device=ids.device, dtype=ids.dtype)
    return (ids[..., None] == numbers).float()  # (B, h*w, M)


def prototypes(pixels: Tensor, assigned: Tensor) -> Tensor:
    """Mean feature of every mask: (B, h*w, C), (B, h*w, M) -> (B, M, C); zeros if empty."""
    count = assigned.sum(dim=1)[..., None]  # (B, M, 1)
    return assigned.transpose(1, 2) @ pixels / (count + 1e-8)


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
    assigned = assignment(mask_map, (h, w), max_masks).to(feature.dtype)
    means = assigned @ prototypes(pixels, assigned)  # (B, h*w, C)
    return means.transpose(1, 2).reshape(B, C, h, w)
