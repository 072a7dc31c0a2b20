"""What a user gives as an example: checked, and cut to the window that the network is shown."""

from typing import NamedTuple

import numpy as np

from mgcl.images import windows
from mgcl.masks.generator import BatchedMaskGenerator, MaskGenerator
from mgcl.masks.mask_map import as_mask_map


class Example(NamedTuple):
    """One labelled window of a support image."""

    image: np.ndarray
    """(window, window, 3) uint8."""
    label: np.ndarray
    """(window, window) uint8: 1 foreground, 0 background, 255 ignored."""
    mask_map: np.ndarray
    """(window, window) uint8, 0 = no mask."""


def cut_example(
    image: np.ndarray,
    label: np.ndarray,
    mask_map: np.ndarray | None,
    window: int,
    generator: MaskGenerator | None,
) -> Example:
    """Cut the window around the labelled objects out of a support (`windows.around_objects`).

    Where no mask map is given, `generator` makes that of the window.

    Raises:
        ValueError: shapes or values that do not fit, or a label without foreground.
    """
    size = check_image(image)
    label = _checked_label(label, size)
    check_mask_map(mask_map, size)
    corner = windows.around_objects(label == 1, window)
    arrays = (image, label) if mask_map is None else (image, label, mask_map)
    part, marked, *masks = (windows.cut(array, *corner, window) for array in arrays)
    return Example(part, marked, *(masks or make_mask_maps(generator, [part])))


def make_mask_maps(generator: MaskGenerator | None, images: list[np.ndarray]) -> list[np.ndarray]:
    """The mask map of each image (H, W, 3), (H, W) uint8; zeros without a generator."""
    if generator is None:
        return [np.zeros(image.shape[:2], np.uint8) for image in images]
    if not isinstance(generator, BatchedMaskGenerator):
        return [as_mask_map(generator(image)) for image in images]
    maps: list[np.ndarray] = []
    for first in range(0, len(images), generator.batch_size):
        made = generator.many(images[first : first + generator.batch_size])
        maps += [as_mask_map(result) for result in made]
    return maps


def check_image(image: np.ndarray) -> tuple[int, int]:
    """(H, W) of an image.

    Raises:
        ValueError: it is not (H, W, 3) uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"an image of {image.dtype} {image.shape}: need (H, W, 3) uint8 RGB")
    return image.shape[0], image.shape[1]


def check_mask_map(mask_map: np.ndarray | None, size: tuple[int, int]) -> None:
    """Refuse a mask map that is not (H, W) uint8 of that size.

    Raises:
        ValueError: so it is.
    """
    if mask_map is not None and (mask_map.shape != size or mask_map.dtype != np.uint8):
        raise ValueError(
            f"a mask map of {mask_map.dtype} {mask_map.shape} for an image of {size} (height, "
            "width): need uint8 of the same size"
        )


def _checked_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The label as uint8 in {0, 1, 255}."""
    if label.shape != size:
        raise ValueError(f"a label of {label.shape} for an image of {size} (height, width)")
    foreground, ignored = label == 1, label == 255
    if not (foreground | ignored | (label == 0)).all():
        raise ValueError("a label may hold 1 (the class), 0 (anything else) and 255 (ignored) only")
    if ignored.any() and not foreground.any():
        raise ValueError(
            "its label marks no pixel with 1, but some with 255, which are ignored: where 255 is "
            "the class, give label == 255"
        )
    if not foreground.any():
        raise ValueError("its label marks no pixel with 1: an example must show the class")
    return foreground.astype(np.uint8) + np.uint8(255) * ignored.astype(np.uint8)
