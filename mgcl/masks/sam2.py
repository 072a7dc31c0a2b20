"""Masks by Segment Anything 2.1, through its own library (`pip install sam2`; no default need)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mgcl.masks.sam_weights import PUBLISHED_2, digest

if TYPE_CHECKING:
    from mgcl.config import MasksSection


class Sam2MaskGenerator:
    """SAM 2's automatic mask generator, an image at a time."""

    def __init__(self, model: Any, *, spec: dict[str, Any], **settings: Any) -> None:
        """Nothing is computed yet.

        Args:
            model: a model of the `sam2` library, in eval mode, on its device.
            spec: what names the weights in a store's manifest.
            settings: as SAM2AutomaticMaskGenerator takes them.
        """
        from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

        self.spec = {"name": "sam2", **spec, **settings}
        self._library = SAM2AutomaticMaskGenerator(model, **settings)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> (M, H, W) bool masks, the best first."""
        records = self._library.generate(image)
        masks = [record["segmentation"] for record in records]
        return np.array(masks, dtype=bool).reshape(-1, *image.shape[:2])


def build_sam2_generator(section: "MasksSection", device: Any) -> Sam2MaskGenerator:
    """The generator of the config's `masks`, with its weights loaded.

    Raises:
        ValueError: the package or the weights are missing; the message says what to get.
    """
    published = PUBLISHED_2[section.sam2_model]
    checkpoint = section.sam_checkpoint or Path("weights") / published.file_name
    try:
        from sam2.build_sam import build_sam2
    except ImportError:
        raise ValueError('masks.generator = "sam2" needs its package: pip install sam2') from None
    if not checkpoint.is_file():
        raise ValueError(published.missing(section.sam2_model, checkpoint))
    architecture = f"configs/sam2.1/sam2.1_{section.sam2_model}.yaml"
    model = build_sam2(architecture, str(checkpoint), device=str(device))
    return Sam2MaskGenerator(
        model,
        spec={"model": section.sam2_model, "weights_md5": digest(checkpoint)},
        points_per_side=section.points_per_side,
        pred_iou_thresh=section.pred_iou_thresh,
        stability_score_thresh=section.stability_score_thresh,
        box_nms_thresh=section.box_nms_thresh,
    )
