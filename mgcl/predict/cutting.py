"""Supports cut from an image in which objects are marked: where the windows lie, what they show."""

from collections.abc import Sequence

import numpy as np
import shapely
from rasterio.features import rasterize
from shapely.ops import nearest_points

from mgcl.predict.vectors import Feature

Corner = tuple[int, int]
"""(y, x) of a window's first pixel."""


def find_windows(
    features: Sequence[Feature], window: int, size: tuple[int, int]
) -> list[tuple[Corner, list[int]]]:
    """Windows that together hold every feature: a cluster of near ones each.

    From the topmost feature on, the nearest are taken in as long as one window holds them whole.
    One that no window holds gets a window at its rim, where class and background meet.

    Args:
        features: in pixel coordinates of the image.
        window: side, pixels.
        size: (H, W) of the image.

    Returns:
        corner of each window and the places of its features in the list, in the order of the rows.
    """
    boxes = shapely.bounds([f.shape for f in features])  # (n, 4): x0, y0, x1, y1
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    left = np.lexsort((boxes[:, 0], boxes[:, 1]))
    found = []
    while left.size:
        box, members = boxes[left[0]], [int(left[0])]
        if (box[2:] - box[:2] > window).any():
            middle = _rim(features[left[0]])
        else:
            away = np.abs(centres[left] - centres[left[0]]).max(axis=1)
            near = left[np.argsort(away, kind="stable")][: np.count_nonzero(away < window)]
            for other in near[near != left[0]]:
                joint = np.r_[
                    np.minimum(box[:2], boxes[other, :2]), np.maximum(box[2:], boxes[other, 2:])
                ]
                if (joint[2:] - joint[:2] <= window).all():
                    box = joint
                    members.append(int(other))
            middle = (box[:2] + box[2:]) / 2
        found.append((_corner(middle, window, size), sorted(members)))
        left = left[~np.isin(left, members)]
    return found


def too_large(features: Sequence[Feature], window: int) -> int:
    """How many features no window holds whole."""
    boxes = shapely.bounds([f.shape for f in features])
    return int((boxes[:, 2:] - boxes[:, :2] > window).any(axis=1).sum())


def _rim(feature: Feature) -> np.ndarray:
    inner = feature.shape.representative_point()
    at = nearest_points(feature.shape.boundary, inner)[0]
    return np.array([at.x, at.y])


def _corner(middle: np.ndarray, window: int, size: tuple[int, int]) -> Corner:
    x, y = np.round(middle - window / 2)
    height, width = size
    top = np.clip(y, 0, max(0, height - window))
    left = np.clip(x, 0, max(0, width - window))
    return int(top), int(left)


def paint(
    features: Sequence[Feature],
    name: str,
    size: tuple[int, int],
    *,
    corner: Corner = (0, 0),
    mask_map: np.ndarray | None = None,
) -> np.ndarray:
    """Label of a window: (H, W) uint8, 1 the class, 0 anything else, 255 what does not count.

    Small objects lie over large ones. A polygon marks the pixels whose centres lie in it, or, if
    there are none, those that it touches. A point marks the mask under it; a box the masks of which
    at least half lies in it, or, if there are none, itself.

    Args:
        features: of the whole image, of any class.
        name: the class that becomes 1.
        size: (H, W) of the window.
        corner: (y, x) of its first pixel in the image.
        mask_map: (H, W) uint8 of the window, 0 = no mask; points mark nothing without one.
    """
    label = np.zeros(size, np.uint8)
    frame = shapely.box(corner[1], corner[0], corner[1] + size[1], corner[0] + size[0])
    here = [f for f in features if f.shape.intersects(frame)]
    for feature in sorted(here, key=lambda f: -f.shape.area):
        value = 255 if feature.ignored else int(feature.name == name and not feature.negative)
        label[marked_by(feature, size, corner=corner, mask_map=mask_map)] = value
    return label


def marked_by(
    feature: Feature,
    size: tuple[int, int],
    *,
    corner: Corner = (0, 0),
    mask_map: np.ndarray | None = None,
) -> np.ndarray:
    """Pixels of a window that a feature means, (H, W) bool; arguments as those of `paint`."""
    shape = shapely.transform(feature.shape, lambda xy: xy - (corner[1], corner[0]))
    if feature.kind == "point":
        x, y = int(np.floor(shape.x)), int(np.floor(shape.y))
        inside = 0 <= y < size[0] and 0 <= x < size[1]
        if not inside or mask_map is None or mask_map[y, x] == 0:
            return np.zeros(size, bool)
        return mask_map == mask_map[y, x]
    area = rasterize([shape], out_shape=size, dtype="uint8").astype(bool)
    if not area.any():
        area = rasterize([shape], out_shape=size, all_touched=True, dtype="uint8").astype(bool)
    if feature.kind == "box" and mask_map is not None:
        held = np.bincount(mask_map[area], minlength=256)
        whole = np.bincount(mask_map.ravel(), minlength=256)
        chosen = (held > 0) & (2 * held >= whole)
        chosen[0] = False
        if chosen.any():
            return chosen[mask_map]
    return area
