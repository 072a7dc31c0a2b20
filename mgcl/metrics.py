"""mIoU and FB-IoU from exact integer counts, as the field computes them.

Intersections and unions of foreground and background are summed per class over all episodes. mIoU
is the mean over classes of the foreground IoU; FB-IoU the mean of the foreground and the background
IoU, each pooled over the classes. Pixels labelled 255 are left out.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mgcl import distributed


class Scores(NamedTuple):
    """Percent; class_iou by 0-based class id."""

    miou: float
    fb_iou: float
    class_iou: dict[int, float]


def count_pixels(prediction: Tensor, label: Tensor) -> Tensor:
    """Count what IoUs are made of, image by image.

    Args:
        prediction: (..., H, W), foreground where not 0.
        label: (..., H, W) integers, 1 = foreground, 255 = left out; broadcasts with `prediction`.

    Returns:
        (..., 4) int64: foreground intersection and union, background intersection and union.
    """
    foreground, valid = label == 1, label != 255
    marked = prediction.bool() & valid
    hit = (marked & foreground).sum(dim=(-2, -1))
    union = marked.sum(dim=(-2, -1)) + foreground.sum(dim=(-2, -1)) - hit
    pixels = valid.sum(dim=(-2, -1))
    return torch.stack([hit, union, pixels - union, pixels - hit], dim=-1)


def precision_recall(counts: Tensor, foreground: Tensor) -> Tensor:
    """Share of the marked pixels that are right, and of the foreground that is marked, percent.

    Args:
        counts: (..., 4), see `count_pixels`.
        foreground: pixels of the label's foreground; broadcasts with (...).

    Returns:
        (..., 2) float64; NaN where nothing is marked, and where there is no foreground.
    """
    hit, union = counts[..., 0], counts[..., 1]
    marked = union - foreground + hit
    of = torch.stack([marked, foreground.expand_as(marked)], dim=-1)
    return torch.where(of > 0, 100 * hit[..., None].double() / of.clamp_min(1), torch.nan)


def foreground_iou(prediction: Tensor, label: Tensor) -> Tensor:
    """Foreground IoU of each image, 0..1: (..., H, W), (..., H, W) -> (...)."""
    hit, union = count_pixels(prediction, label)[..., :2].double().unbind(-1)
    return hit / union.clamp_min(1)


class IoUMeter:
    """Sums counts per class; stays on its device, without a host sync."""

    def __init__(self, class_ids: Sequence[int], device: torch.device | str = "cpu") -> None:
        """`class_ids`: the classes to report, 0-based; `device`: where the updates come from."""
        self.class_ids = tuple(class_ids)
        self.counts = torch.zeros(max(self.class_ids) + 1, 4, dtype=torch.int64, device=device)

    def update(self, prediction: Tensor, label: Tensor, class_id: Tensor) -> None:
        """Add a batch: (B, H, W), (B, H, W), (B,) 0-based class ids."""
        self.add(count_pixels(prediction, label), class_id)

    def add(self, counts: Tensor, class_id: Tensor) -> None:
        """Add counts of B images: (B, 4), (B,)."""
        self.counts = self.counts.to(counts.device)
        self.counts.index_add_(0, class_id.to(counts.device), counts)

    def all_reduce(self) -> None:
        """Sum over all processes."""
        distributed.all_reduce(self.counts)

    def compute(self) -> Scores:
        """The scores of all that was added."""
        counts = self.counts.cpu()[list(self.class_ids)].double()  # (classes, 4)
        class_iou = 100 * counts[:, 0] / counts[:, 1].clamp_min(1)
        pooled = counts.sum(dim=0)
        fb_iou = 50 * (pooled[0] / pooled[1].clamp_min(1) + pooled[2] / pooled[3].clamp_min(1))
        by_class = dict(zip(self.class_ids, class_iou.tolist(), strict=True))
        return Scores(class_iou.mean().item(), fb_iou.item(), by_class)
