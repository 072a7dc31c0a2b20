"""From a stack of overlapping masks to one map: the 128 largest, small painted over large."""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch


MAX_MASKS = 128
"""Masks kept of an image, the largest first."""

Array = TypeVar("Array", np.ndarray, "torch.Tensor")


def merge_masks(masks: Array, max_masks: int = MAX_MASKS) -> Array:
    """Paint masks into one map, the largest first, so that the smallest stays on top.

    The sort by area is stable: of equal masks the later one wins. A mask that others hide wholly
    keeps its number, so numbers may have gaps.

    Args:
        masks: (M, H, W) boolean (or 0 / 1), numpy or torch, in any order; M may be 0.
        max_masks: masks kept, at most 255.

    Returns:
        (H, W) uint8, of the kind (and on the device) of `masks`: 0 = no mask, 1..max_masks.
    """
    if masks.ndim != 3 or not 0 < max_masks <= 255:
        raise ValueError(
            f"masks of shape {tuple(masks.shape)}, max_masks {max_masks}: need (M, H, W), 1 to 255"
        )
    if isinstance(masks, np.ndarray):
        return _merge_numpy(masks.astype(bool, copy=False), max_masks)
    return _merge_torch(masks.bool(), max_masks)


def as_mask_map(result: Any) -> np.ndarray:
    """What a generator returns, (H, W) map or (M, H, W) masks, numpy or torch -> (H, W) uint8."""
    if result.ndim == 3:
        result = merge_masks(result)
    mask_map = result if isinstance(result, np.ndarray) else result.cpu().numpy()
    if mask_map.dtype != np.uint8 or mask_map.ndim != 2:
        raise ValueError(
            f"a generator returned {mask_map.dtype} of shape {mask_map.shape}: "
            "need an (H, W) uint8 mask map or (M, H, W) boolean masks"
        )
    return mask_map


def _merge_numpy(masks: np.ndarray, max_masks: int) -> np.ndarray:
    order = np.argsort(-masks.sum(axis=(1, 2)), kind="stable")[:max_masks]
    mask_map = np.zeros(masks.shape[1:], np.uint8)
    for number, index in enumerate(order, start=1):
        np.putmask(mask_map, masks[index], np.uint8(number))
    return mask_map


def _merge_torch(masks: "torch.Tensor", max_masks: int) -> "torch.Tensor":
    areas = masks.flatten(1).sum(1)  # (M,)
    order = areas.argsort(descending=True, stable=True)[:max_masks]
    mask_map = masks.new_zeros(masks.shape[1:]).byte()
    for number, mask in enumerate(masks[order], start=1):
        mask_map.masked_fill_(mask, number)
    return mask_map
