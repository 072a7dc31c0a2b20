"""Superpixels as masks: no weights, no GPU; regions of one colour that cover the whole image."""

import math
from typing import Any

import cv2
import numpy as np
from skimage.segmentation import felzenszwalb

from mgcl.masks.mask_map import MAX_MASKS


class SuperpixelMaskGenerator:
    """Felzenszwalb and Huttenlocher's graph-based regions (IJCV 2004) on a shrunken image.

    At most 128 regions, numbered from large to small; every pixel lies in one. The same image gives
    the same map, always.
    """

    in_processes = True
    """Computes on one core, and holds nothing: processes may share the images."""

    def __init__(
        self,
        *,
        scale: float = 50.0,
        sigma: float = 0.5,
        min_size: float = 0.0005,
        long_side: int = 128,
    ) -> None:
        """Nothing is computed yet.

        Args:
            scale: larger gives fewer, larger regions.
            sigma: blur before the cut, in pixels of the shrunken image.
            min_size: smallest region, as a share of the image.
            long_side: images are shrunk to this side for the cut, and the map is brought back by
                nearest; 256-pixel tiles at half size are about four times as fast.
        """
        self.scale, self.sigma = scale, sigma
        self.min_size, self.long_side = min_size, long_side
        self.spec: dict[str, Any] = {
            "name": "superpixels",
            "algorithm": "felzenszwalb",
            "scale": scale,
            "sigma": sigma,
            "min_size": min_size,
            "long_side": long_side,
        }

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> (H, W) uint8 map of the regions, 1 (largest) to at most 128."""
        height, width = image.shape[:2]
        small = _shrink(image, self.long_side)  # (h, w, 3)
        regions = felzenszwalb(
            small,
            scale=self.scale,
            sigma=self.sigma,
            min_size=max(1, math.ceil(self.min_size * small.shape[0] * small.shape[1])),
        )
        mask_map = number_regions(regions)
        return cv2.resize(mask_map, (width, height), interpolation=cv2.INTER_NEAREST)


def number_regions(regions: np.ndarray, max_regions: int = MAX_MASKS) -> np.ndarray:
    """Number regions by size and hand those over the limit to the nearest region kept.

    Args:
        regions: (H, W) integers from 0, one value a region.
        max_regions: regions kept, the largest; at most 255.

    Returns:
        (H, W) uint8, 1 (largest) to at most `max_regions`; every pixel has a number.
    """
    for _ in range(2):  # a region that took in others has grown: number once more
        order = np.argsort(-np.bincount(regions.ravel()), kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        regions = rank[regions]  # (H, W), 0 = largest
        if regions.max() < max_regions:
            break
        regions = _fill_from_nearest(regions, regions < max_regions)
    return (regions + 1).astype(np.uint8)


def _fill_from_nearest(regions: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Every pixel outside `known` (H, W) takes the value of the nearest pixel inside."""
    _, nearest = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    value_of = np.zeros(nearest.max() + 1, regions.dtype)
    value_of[nearest[known]] = regions[known]
    return value_of[nearest]


def _shrink(image: np.ndarray, long_side: int) -> np.ndarray:
    height, width = image.shape[:2]
    ratio = long_side / max(height, width)
    if ratio >= 1:
        return image
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
