"""Masks by Segment Anything 2.1, through its own library (`pip install sam2`; no default need)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mgcl.masks.sam_weights import PUBLISHED_2, digest, fill, read_weights

if TYPE_CHECKING:
    from mgcl.config import MasksSection


_PROMPT_BATCH = 64  # the library's own


class Sam2MaskGenerator:
    """SAM 2's automatic mask generator, an image at a time."""

    def __init__(
        self,
        model: Any,
        *,
        precision: str = "float32",
        prompt_batch: int = 0,
        spec: dict[str, Any],
        **settings: Any,
    ) -> None:
        """Nothing is computed yet.

        Args:
            model: a model of the `sam2` library, in eval mode, on its device.
            precision: "float32", or "bf16" for the networks.
            prompt_batch: points a pass of the decoder; 0 takes the library's 64.
            spec: what names the weights in a store's manifest.
            settings: as SAM2AutomaticMaskGenerator takes them.
        """
        from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

        self.spec = {"name": "sam2", **spec, **settings, "precision": precision}
        self._device, self._low_precision = model.device.type, precision == "bf16"
        self._library = SAM2AutomaticMaskGenerator(
            model, points_per_batch=prompt_batch or _PROMPT_BATCH, **settings
        )

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> (M, H, W) bool masks, the best first."""
        import torch

        with torch.autocast(self._device, dtype=torch.bfloat16, enabled=self._low_precision):
            records = self._library.generate(image)
        masks = [record["segmentation"] for record in records]
        return np.array(masks, dtype=bool).reshape(-1, *image.shape[:2])


def build_sam2_generator(section: "MasksSection", device: Any) -> Sam2MaskGenerator:
    """The generator of the config's `masks`, with its weights loaded.

    Raises:
        ValueError: the package or the weights are missing, or the weights are not those of the
            model; the message says what to get.
    """
    name = section.sam2_model
    checkpoint = section.sam_checkpoint or Path("weights") / PUBLISHED_2[name].file_name
    try:
        from sam2.build_sam import build_sam2
    except ImportError as error:
        raise ValueError(
            f'masks.generator = "sam2" needs its package: pip install sam2 ({error})'
        ) from None
    held = read_weights(PUBLISHED_2[name], name, checkpoint)
    weights = held.get("model", held) if isinstance(held, dict) else held
    model = build_sam2(f"configs/sam2.1/sam2.1_{name}.yaml", device=str(device))
    return Sam2MaskGenerator(
        fill(model, weights, name, checkpoint),
        precision=section.precision,
        prompt_batch=section.prompt_batch,
        spec={"model": name, "weights_md5": digest(checkpoint)},
        points_per_side=section.points_per_side,
        pred_iou_thresh=section.pred_iou_thresh,
        stability_score_thresh=section.stability_score_thresh,
        box_nms_thresh=section.box_nms_thresh,
    )
