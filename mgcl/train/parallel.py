"""A model that several processes train together, each on its part of every batch."""

import inspect

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mgcl import distributed


def in_parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` with its gradients averaged over all processes; on a single one `model` itself.

    Wrapped, it takes empty batches, too. Every trainable parameter must have part in the logits.
    """
    if distributed.world_size() == 1:
        return model
    known = inspect.signature(DistributedDataParallel).parameters
    sync = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return DistributedDataParallel(
        _MayBeEmpty(model),
        device_ids=[device] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        **{sync: False},  # type: ignore[arg-type]  # no buffer ever changes
    )


class _MayBeEmpty(nn.Module):
    """Lets a process without episodes take part in the exchange of gradients, with zeros."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        query_image: Tensor,
        query_mask_map: Tensor,
        support_images: Tensor,
        support_labels: Tensor,
        support_mask_maps: Tensor,
    ) -> Tensor:
        """As `MGCL.forward`."""
        B, K, _, H, W = support_images.shape
        if B:
            return self.model(
                query_image, query_mask_map, support_images, support_labels, support_mask_maps
            )
        touched = [p.sum() for p in self.parameters() if p.requires_grad]
        return torch.stack(touched).sum().float().expand(0, K, 2, H, W)
