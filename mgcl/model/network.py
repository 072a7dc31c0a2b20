"""MGCL, Fig. 2 of the paper: backbone -> MGFE -> FBC -> MGCD, and the K-shot vote."""

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgcl.model.backbone import Backbone
from mgcl.model.fbc import Correlation, Guided, gates, guide, halves_of
from mgcl.model.fewshot import Encoded, FewShotNetwork
from mgcl.model.mgcd import MGCD
from mgcl.model.mgfe import mask_ids
from mgcl.model.pretrained import build_backbone

Count = TypeVar("Count", int, Tensor)


class SegmentationHead(nn.Module):
    """Everything behind the backbone; 700,818 parameters."""

    def __init__(
        self, *, mgfe: bool = True, background: bool = True, decoder_masks: bool = True
    ) -> None:
        """The switches are the paper's ablations.

        All three off is the idea of HSNet (foreground correlation, no masks) with MGCD's decoder.
        """
        super().__init__()
        self.mgfe = mgfe
        self.background = background
        self.mgcd = MGCD(2 if background else 1, decoder_masks)

    def forward(
        self,
        query_feats: Sequence[Tensor],
        support_feats: Sequence[Tensor],
        support_label: Tensor,
        query_mask_map: Tensor,
        support_mask_map: Tensor,
    ) -> Tensor:
        """Compare query and support.

        Args:
            query_feats: three levels of (B, C, h, w), stride 8 first.
            support_feats: likewise.
            support_label: (B, H, W) integers, 1 = foreground, 0 = background.
            query_mask_map: (B, H, W) uint8.
            support_mask_map: (B, H, W) uint8.

        Returns:
            (B, 2, 2*h8, 2*w8) logits, background and foreground.
        """
        query = [level.unit() for level in self.guide(query_feats, query_mask_map)]
        support = self.guide(support_feats, support_mask_map)
        return self.compare(query, support, support_label, query_mask_map)

    def guide(self, feats: Sequence[Tensor], mask_map: Tensor) -> list[Guided]:
        """MGFE of every level."""
        return [
            guide(f, mask_ids(mask_map, (f.shape[2], f.shape[3])) if self.mgfe else None)
            for f in feats
        ]

    def compare(
        self,
        query: Sequence[Guided],
        support: Sequence[Guided],
        support_label: Tensor,
        query_mask_map: Tensor,
    ) -> Tensor:
        """FBC of every level, then MGCD: -> (B, 2, 2*h8, 2*w8) logits."""
        halves = halves_of(support_label, support[0].norm.dtype)
        count = 2 if self.background else 1
        correlations = [
            Correlation(q, s, gates(s, halves)[..., :count])
            for q, s in zip(query, support, strict=True)
        ]
        return self.mgcd(correlations, query_mask_map)


class MGCL(FewShotNetwork):
    """The whole network. BatchNorm layers of the backbone keep their statistics, always."""

    def __init__(self, backbone: Backbone, head: SegmentationHead) -> None:
        """`backbone` gives three levels, strides 8, 16, 32."""
        super().__init__()
        self.backbone = backbone
        self.segmentation_head = head

    def train(self, mode: bool = True) -> "MGCL":
        """As nn.Module's, but the backbone stays in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def encode(self, images: Tensor, mask_maps: Tensor) -> Encoded:
        """The backbone's three levels, stride 8 first."""
        return Encoded(tuple(self.backbone(images)), mask_maps)

    def encoders(self) -> Sequence[nn.Module]:
        """The backbone alone."""
        return [self.backbone]

    def compare(
        self,
        query: Encoded,
        supports: Sequence[Encoded],
        support_labels: Tensor,
        query_mask_map: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        """Segment each query once for each of its K supports: -> (B, K, 2, *size) logits."""
        head = self.segmentation_head
        queries = [level.unit() for level in head.guide(*query)]
        logits = []
        for support, label in zip(supports, support_labels.unbind(1), strict=True):
            guided = [level.expand(len(label)) for level in head.guide(*support)]
            logits.append(_enlarged(head.compare(queries, guided, label, query_mask_map), size))
        return torch.stack(logits, dim=1)

    def sees(self, support: Encoded, label: Tensor) -> bool:
        """Whether the label opens a gate at stride 8."""
        finest = self.segmentation_head.guide(support.levels[:1], support.mask_map)[0]
        return bool(gates(finest, halves_of(label, finest.norm.dtype))[..., 0].any())


def _enlarged(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 2, h, w) -> (B, 2, *size), float32 at least."""
    # Planes, not channels last: two channels a pixel are enlarged three times as slowly.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).contiguous()
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=True)


def aggregate_shots(logits: Tensor, *, threshold: float = 0.5, vote_share: float = 0.4) -> Tensor:
    """Let K supports vote on every pixel.

    Args:
        logits: (B, K, 2, H, W).
        threshold: a support votes foreground where its probability is over this; 0.5 is the argmax.
        vote_share: foreground where votes / max(1, largest vote of the image) reaches this.

    Returns:
        (B, H, W) uint8, 1 = foreground.
    """
    votes = (logits[:, :, 1] - logits[:, :, 0] > logit(threshold)).sum(dim=1)  # (B, H, W)
    largest = votes.amax(dim=(1, 2), keepdim=True).clamp_min(1)
    return (votes >= votes_needed(largest, vote_share)).to(torch.uint8)


def average_shots(logits: Tensor, *, threshold: float = 0.5) -> Tensor:
    """Decide by the mean of the K supports' log-odds, instead of a vote.

    A threshold suits one number of supports: their mean spreads less than each of them.

    Args:
        logits: (B, K, 2, H, W).
        threshold: foreground where the probability of the mean log-odds is over this.

    Returns:
        (B, H, W) uint8, 1 = foreground.
    """
    odds = (logits[:, :, 1] - logits[:, :, 0]).mean(dim=1)  # (B, H, W)
    return (odds > logit(threshold)).to(torch.uint8)


def logit(probability: float) -> float:
    """The log-odds of a probability: a difference of logits is over it where softmax is over p."""
    return math.log(probability / (1 - probability))


def votes_needed(largest: Count, vote_share: float) -> Count:
    """The least number of votes whose share of the `largest`, at least 1, reaches `vote_share`."""
    # In tenths of a per mille, so that 2 of 5 votes reach a share of 0.4 exactly; rounded up.
    return -(-round(10_000 * vote_share) * largest // 10_000)


def build_model(
    backbone: str = "resnet50",
    weights: str = "imagenet",
    *,
    mgfe: bool = True,
    background: bool = True,
    decoder_masks: bool = True,
) -> MGCL:
    """Build the network.

    Args:
        backbone: resnet50, resnet101, vgg16 or efficientnet_lite0.
        weights: of the backbone: "imagenet", "none" or the path of a state dict.
        mgfe: join features with their mask means.
        background: correlate with the support's background, too.
        decoder_masks: join the decoder's input with its mask means.

    Raises:
        ValueError: unknown backbone, weights that are missing or do not fit.
    """
    head = SegmentationHead(mgfe=mgfe, background=background, decoder_masks=decoder_masks)
    return MGCL(build_backbone(backbone, weights), head)
