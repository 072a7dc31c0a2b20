"""What cuts an image into masks, and the configured one."""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from mgcl.config import MasksSection


@runtime_checkable
class MaskGenerator(Protocol):
    """Cuts one image into masks."""

    spec: dict[str, Any]
    """Name and every option that changes the masks; JSON values; kept in the store's manifest."""

    def __call__(self, image: np.ndarray) -> Any:
        """(H, W, 3) uint8 RGB -> (H, W) uint8 mask map, or (M, H, W) boolean masks in any order."""


@runtime_checkable
class BatchedMaskGenerator(MaskGenerator, Protocol):
    """A generator that is faster on several images at once."""

    batch_size: int
    """Images a call."""

    def many(self, images: list[np.ndarray]) -> list[Any]:
        """At most `batch_size` images (H, W, 3), of any sizes -> their results, in that order."""


def build_generator(section: "MasksSection", device: Any = "cpu") -> MaskGenerator:
    """The generator that the config names; its libraries are imported only here.

    Args:
        section: the config's `masks`.
        device: torch device for generators that use a network.

    Raises:
        ValueError: weights or a package are missing; the message says what to fetch.
    """
    if section.generator == "superpixels":
        from mgcl.masks.superpixels import SuperpixelMaskGenerator

        return SuperpixelMaskGenerator(
            scale=section.superpixel_scale, min_size=section.superpixel_min_size
        )
    if section.generator == "sam":
        from mgcl.masks.sam import build_sam_generator

        return build_sam_generator(section, device)
    if section.generator == "sam2":
        from mgcl.masks.sam2 import build_sam2_generator

        return build_sam2_generator(section, device)
    raise ValueError(
        f"masks.generator = {section.generator!r} cuts no masks: "
        "choose 'sam', 'sam2' or 'superpixels'"
    )
