"""What a trained model has to beat: everything foreground, and prototypes of untrained features."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgcl.model.backbone import Backbone
from mgcl.model.fewshot import Encoded, FewShotNetwork


class EverythingForeground(FewShotNetwork):
    """Answers foreground everywhere."""

    def encode(self, images: Tensor, mask_maps: Tensor) -> Encoded:
        """No features at all."""
        return Encoded((), mask_maps)

    def compare(
        self,
        query: Encoded,
        supports: Sequence[Encoded],
        support_labels: Tensor,
        query_mask_map: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        """-> (B, 1, 2, *size) logits."""
        logits = torch.tensor([-1.0, 1.0], device=query_mask_map.device)
        return logits.view(1, 1, 2, 1, 1).expand(len(query_mask_map), 1, 2, *size)


class CosinePrototypes(FewShotNetwork):
    """The nearer of a foreground and a background prototype, by cosine, at stride 16.

    Prototypes are label-weighted means of the support features, averaged over the K supports, as in
    PANet (arXiv:1908.06391); the backbone is untrained on the benchmark. A feature's weight is the
    share of its cell that the label covers.
    """

    def __init__(self, backbone: Backbone) -> None:
        """`backbone` as built, before any training."""
        super().__init__()
        self.backbone = backbone

    def encode(self, images: Tensor, mask_maps: Tensor) -> Encoded:
        """All levels of the backbone: what is kept of an image serves MGCL, too."""
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
        """Without using mask maps: -> (B, 1, 2, *size) cosines."""
        pairs = zip(supports, support_labels.unbind(1), strict=True)
        means = [_label_means(support.levels[1].float(), label) for support, label in pairs]
        prototypes = F.normalize(torch.stack(means).mean(dim=0), dim=2)  # (B, 2, C)
        features = F.normalize(query.levels[1].float(), dim=1)  # (B, C, h, w)
        cosines = torch.einsum("bchw,bpc->bphw", features, prototypes)
        return F.interpolate(cosines, size=size, mode="bilinear")[:, None]


def _label_means(feature: Tensor, label: Tensor) -> Tensor:
    """Mean feature of background and foreground: (B or 1, C, h, w), (B, H, W) -> (B, 2, C)."""
    halves = torch.stack([label == 0, label == 1], dim=1).float()
    weights = F.interpolate(halves, size=feature.shape[2:], mode="area")  # (B, 2, h, w)
    sums = torch.einsum("bchw,bphw->bpc", feature.expand(len(label), -1, -1, -1), weights)
    return sums / weights.sum(dim=(2, 3))[..., None].clamp_min(1e-8)
