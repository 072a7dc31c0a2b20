"""What a trained model has to beat: everything foreground, and prototypes of untrained features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgcl.model.backbone import Backbone


class EverythingForeground(nn.Module):
    """Answers foreground everywhere."""

    def forward(self, query_image: Tensor, *supports: Tensor) -> Tensor:
        """-> (B, 1, 2, H, W) logits."""
        B, _, H, W = query_image.shape
        return (
            query_image.new_tensor([-1.0, 1.0], dtype=torch.float32)
            .view(1, 1, 2, 1, 1)
            .expand(B, 1, 2, H, W)
        )


class CosinePrototypes(nn.Module):
    """The nearer of a foreground and a background prototype, by cosine, at stride 16.

    Prototypes are label-weighted means of the support features, averaged over the K supports, as in
    PANet (arXiv:1908.06391); the backbone is untrained on the benchmark.
    """

    def __init__(self, backbone: Backbone) -> None:
        """`backbone` as built, before any training."""
        super().__init__()
        self.backbone = backbone

    def forward(
        self,
        query_image: Tensor,
        query_mask_map: Tensor,
        support_images: Tensor,
        support_labels: Tensor,
        support_mask_maps: Tensor,
    ) -> Tensor:
        """As `MGCL.forward`, without using mask maps: -> (B, 1, 2, H, W) cosines."""
        B, K, _, H, W = support_images.shape
        query = self.backbone(query_image)[1].float()  # (B, C, h, w)
        support = self.backbone(support_images.flatten(0, 1))[1].float()
        size = (support.shape[2], support.shape[3])
        halves = torch.stack([support_labels == 0, support_labels == 1], dim=2).flatten(0, 1)
        weights = F.interpolate(halves.float(), size=size, mode="bilinear", align_corners=True)
        sums = torch.einsum("nchw,nphw->npc", support, weights)
        means = sums / weights.sum(dim=(2, 3))[..., None].clamp_min(1e-8)  # (B*K, 2, C)
        prototypes = means.unflatten(0, (B, K)).mean(dim=1)  # (B, 2, C)
        cosines = torch.einsum(
            "bchw,bpc->bphw", F.normalize(query, dim=1), F.normalize(prototypes, dim=2)
        )
        return F.interpolate(cosines, size=(H, W), mode="bilinear", align_corners=True)[:, None]
