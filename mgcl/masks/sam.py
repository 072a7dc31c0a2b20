"""Masks by Segment Anything: the masks of the library's automatic generator, faster.

For every point of a grid the model proposes three masks. Those that it thinks good (predicted IoU)
and that hardly change with the threshold (stability) are kept, near duplicates dropped (by their
boxes), the largest painted into one map. With the same weights and settings that map equals the one
made from `SamAutomaticMaskGenerator`; nothing leaves the device before the map is done.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from segment_anything.modeling import Sam
from segment_anything.utils import amg
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor
from torchvision.ops import batched_nms

from mgcl.masks import sam_decoder, sam_encoder
from mgcl.masks.mask_map import MAX_MASKS, merge_masks
from mgcl.masks.sam_weights import PUBLISHED, digest, load_sam

if TYPE_CHECKING:
    from mgcl.config import MasksSection


@dataclass(frozen=True)
class SamSettings:
    """What decides which masks an image gets; the defaults are the paper's.

    As in the library, a threshold of quality or stability that is not over 0 drops nothing.
    """

    points_per_side: int = 32
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.5
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7


class Proposals(NamedTuple):
    """Masks of some points that passed the filters."""

    logits: Tensor  # (K, 4h, 4w), low resolution
    quality: Tensor  # (K,)
    boxes: Tensor  # (K, 4)
    areas: Tensor  # (K,), pixels


class SamMaskGenerator:
    """Segment Anything on a grid of points."""

    def __init__(
        self,
        sam: Sam,
        settings: SamSettings | None = None,
        *,
        precision: str = "float32",
        image_batch: int = 0,
        prompt_batch: int = 0,
        compile: bool = False,
        spec: dict[str, Any] | None = None,
    ) -> None:
        """Nothing is computed yet.

        Args:
            sam: a model of the `segment_anything` library, in eval mode, on its device.
            settings: grid and thresholds; None takes the paper's.
            precision: "float32", or "bf16" for the networks (thresholds stay in float32).
            image_batch: images a pass of the encoder; 0 chooses by device and free memory.
            prompt_batch: points a pass of the decoder; 0 chooses by device and free memory.
            compile: torch.compile the encoder.
            spec: what names the weights in a store's manifest.
        """
        self.sam = sam
        self.settings = settings or SamSettings()
        self.batch_size = image_batch or _images_at_a_time(sam.device)
        self.prompt_batch = prompt_batch or _prompts_at_a_time(sam.device)
        self.spec: dict[str, Any] = {"name": "sam", **(spec or {}), **asdict(self.settings)}
        self.spec["precision"] = precision
        self._low_precision = precision == "bf16"
        self._encode = torch.compile(sam_encoder.encode) if compile else sam_encoder.encode
        self._transform = ResizeLongestSide(sam.image_encoder.img_size)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB -> (H, W) uint8 mask map.

        Raises:
            MemoryError: the GPU is full; the message names the batches.
        """
        return self._maps([image], wanted=1)[0]

    def many(self, images: list[np.ndarray]) -> list[np.ndarray]:
        """At most `batch_size` images of any sizes -> their mask maps.

        A short batch is filled up, so that a map does not depend on how the work was divided.
        """
        filling = images[-1:] * (self.batch_size - len(images))
        return self._maps(images + filling, wanted=len(images))

    def _maps(self, images: list[np.ndarray], wanted: int) -> list[np.ndarray]:
        try:
            return self._cut_all(images, wanted)
        except torch.cuda.OutOfMemoryError as error:
            raise MemoryError(
                f"the device's memory is full at masks.image_batch {self.batch_size} and "
                f"masks.prompt_batch {self.prompt_batch}: set lower ones and run again "
                f"({str(error).splitlines()[0]})"
            ) from error

    @torch.inference_mode()
    def _cut_all(self, images: list[np.ndarray], wanted: int) -> list[np.ndarray]:
        inputs = torch.cat([self._to_input(image) for image in images])  # (B, 3, S, S)
        with self._autocast():
            embeddings = self._encode(self.sam.image_encoder, inputs).float()  # (B, C, h, w)
        maps = [
            self._cut(embedding[None], (image.shape[0], image.shape[1]))
            for embedding, image in zip(embeddings[:wanted], images, strict=False)
        ]
        return [mask_map.cpu().numpy() for mask_map in maps]

    def _to_input(self, image: np.ndarray) -> Tensor:
        """(H, W, 3) -> (1, 3, S, S): long side S = 1024, normalised, padded."""
        resized = torch.as_tensor(self._transform.apply_image(image), device=self.sam.device)
        return self.sam.preprocess(resized.permute(2, 0, 1).contiguous()[None])

    def _cut(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        """(1, C, h, w) embedding of an image of `size` -> (H, W) uint8 map, on the device."""
        with self._autocast():
            side = sam_decoder.image_side(self.sam, embedding)
        batches = self._grid(size).split(self.prompt_batch)
        found = [self._propose(side, points, size) for points in batches]
        logits, quality, boxes, areas = (torch.cat(parts) for parts in zip(*found, strict=True))
        category = torch.zeros_like(quality)
        kept = batched_nms(boxes.float(), quality, category, self.settings.box_nms_thresh)
        largest = kept[areas[kept].argsort(descending=True, stable=True)[:MAX_MASKS]]
        masks = [part > self.sam.mask_threshold for part in self._upsample(logits[largest], size)]
        return merge_masks(torch.cat(masks) if masks else logits.new_zeros(0, *size))

    def _grid(self, size: tuple[int, int]) -> Tensor:
        """Points (N, 2), x and y in the encoder's pixels; float64 as in the library."""
        points = amg.build_point_grid(self.settings.points_per_side) * np.array(size[::-1])
        return torch.as_tensor(self._transform.apply_coords(points, size), device=self.sam.device)

    def _propose(
        self, side: sam_decoder.ImageSide, points: Tensor, size: tuple[int, int]
    ) -> Proposals:
        """Masks of `points` (N, 2) that pass both filters, in the points' order."""
        with self._autocast():
            prediction = sam_decoder.predict(self.sam, side, points)
            good = _over(prediction.quality, self.settings.pred_iou_thresh)  # (N, 3)
            logits = sam_decoder.draw(self.sam, side, prediction, good)  # (K, 4h, 4w)
        measured = [self._measure(part) for part in self._upsample(logits, size)]
        if not measured:
            none = good.new_zeros(0)
            return Proposals(logits, prediction.quality[good], none.view(0, 1).expand(0, 4), none)
        stable, boxes, areas = (torch.cat(parts) for parts in zip(*measured, strict=True))
        quality = prediction.quality[good]
        return Proposals(logits[stable], quality[stable], boxes[stable], areas[stable])

    def _measure(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (k, H, W) -> stable enough (k,) bool, boxes (k, 4), areas (k,)."""
        threshold, offset = self.sam.mask_threshold, self.settings.stability_score_offset
        stability = amg.calculate_stability_score(logits, threshold, offset)
        masks = logits > threshold
        stable = _over(stability, self.settings.stability_score_thresh, or_equal=True)
        return stable, amg.batched_mask_to_box(masks), masks.flatten(1).sum(1)

    def _upsample(self, logits: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
        """Logits (K, 4h, 4w) -> parts (k, H, W), a few at a time to bound the memory."""
        side = self.sam.image_encoder.img_size
        inner = self._transform.get_preprocess_shape(*size, side)
        budget = 1 << (30 if logits.is_cuda else 24)  # bytes: more is mapped anew on a CPU
        few = max(1, budget // (4 * (side * side + size[0] * size[1])))
        for part in logits.split(few) if len(logits) else ():
            # one channel each: with many, PyTorch takes another kernel, which rounds otherwise
            yield self.sam.postprocess_masks(part[:, None], inner, size)[:, 0]

    def _autocast(self) -> torch.autocast:
        kind = self.sam.device.type
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=self._low_precision)


def _over(scores: Tensor, threshold: float, or_equal: bool = False) -> Tensor:
    if threshold <= 0:
        return torch.ones_like(scores, dtype=torch.bool)
    return scores >= threshold if or_equal else scores > threshold


def build_sam_generator(section: "MasksSection", device: "torch.device | str") -> SamMaskGenerator:
    """The generator of the config's `masks`, with its weights loaded.

    Raises:
        ValueError: no weights there; the message says what to download.
    """
    published = PUBLISHED[section.sam_model]
    checkpoint = section.sam_checkpoint or Path("weights") / published.file_name
    sam = load_sam(section.sam_model, checkpoint, device)
    settings = SamSettings(
        points_per_side=section.points_per_side,
        pred_iou_thresh=section.pred_iou_thresh,
        stability_score_thresh=section.stability_score_thresh,
        box_nms_thresh=section.box_nms_thresh,
    )
    return SamMaskGenerator(
        sam,
        settings,
        precision=section.precision,
        image_batch=section.image_batch,
        prompt_batch=section.prompt_batch,
        compile=section.compile,
        spec={"model": section.sam_model, "weights_md5": digest(checkpoint)},
    )


def _images_at_a_time(device: torch.device) -> int:
    """One on a CPU; on a GPU up to 8, at about 3 GB of activations each (ViT-H)."""
    return max(1, min(8, _free_memory(device) // 2 // (3 << 30)))


def _prompts_at_a_time(device: torch.device) -> int:
    """4 on a CPU; on a GPU 64 to 512, at about 100 MB each.

    On a CPU tensors of 8 prompts (32 MiB) would be mapped and cleared anew at each allocation.
    """
    free = _free_memory(device)
    return max(64, min(512, free // 4 // (100 << 20))) if free else 4


def _free_memory(device: torch.device) -> int:
    """Bytes free on a GPU; 0 on a CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
