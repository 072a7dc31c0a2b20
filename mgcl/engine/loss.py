"""The loss of a batch, whose parts may lie on several processes and come in several passes."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mgcl import distributed


class Whole(NamedTuple):
    """What the losses of a batch's parts are divided by, so that they add up to the batch's."""

    pixels: Tensor
    """() int64: those that are not 255."""
    images: Tensor
    """() int64."""


def whole_batch(target: Tensor) -> Whole:
    """Count the batch of which each process has the part `target` (B, H, W); no host sync."""
    images = torch.full((), len(target), device=target.device)
    counts = torch.stack([(target != 255).sum(), images])
    distributed.all_reduce(counts)
    return Whole(*counts)


def segmentation_loss(
    logits: Tensor, target: Tensor, kind: str = "ce", whole: Whole | None = None
) -> Tensor:
    """Pixel-wise cross-entropy, mean over all pixels that are not 255.

    Args:
        logits: (B, 2, H, W).
        target: (B, H, W) integers, 1 = foreground, 0 = background, 255 = left out.
        kind: "ce", or "ce+dice" to add 1 - soft Dice of the foreground, mean over images
            (V-Net, arXiv:1606.04797).
        whole: the batch that these images are a part of; left out: they are all of it.
    """
    of_pixels, of_images = whole or Whole((target != 255).sum(), torch.tensor(len(target)))
    # Of two classes the margin says all: in a third of the time of a softmax over rows of two.
    margin = logits[:, 1] - logits[:, 0]  # (B, H, W)
    valid = (target != 255).to(margin.dtype)
    foreground = (target == 1).to(margin.dtype)
    entropy = F.binary_cross_entropy_with_logits(margin, foreground, valid, reduction="sum")
    loss = entropy / of_pixels
    if kind == "ce":
        return loss
    probability = margin.sigmoid() * valid
    overlap = (probability * foreground).sum(dim=(1, 2))
    size = (probability + foreground).sum(dim=(1, 2))
    return loss + (1 - (2 * overlap + 1) / (size + 1)).sum() / of_images
