"""A model that several processes train together, each on its part of every batch."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mgcl import distributed
from mgcl.model.fewshot import Encoded, FewShotNetwork
from mgcl.model.residual import ResidualMGCL


class Comparing(nn.Module):
    """The part of a network that encoded images go through."""

    def __init__(self, network: FewShotNetwork) -> None:
        """`network`: whose `encode` no training changes."""
        super().__init__()
        self.network = network

    def forward(
        self,
        query: Encoded,
        supports: Sequence[Encoded],
        matched: Tensor | None = None,
        *,
        support_labels: Tensor,
    ) -> Tensor:
        """As `FewShotNetwork.compare`, at the labels' size (H, W)."""
        H, W = support_labels.shape[2:]
        episodes = query, supports, support_labels, query.mask_map, (H, W)
        if matched is None:
            return self.network.compare(*episodes)
        assert isinstance(self.network, ResidualMGCL)
        return self.network.compare(*episodes, matched=matched)


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

    def forward(self, *images: Any, support_labels: Tensor, **more: Tensor) -> Tensor:
        """As the model's, with (B, K, H, W) `support_labels`."""
        B, K, H, W = support_labels.shape
        if B:
            return self.model(*images, support_labels=support_labels, **more)
        touched = [p.sum() for p in self.parameters() if p.requires_grad]
        return torch.stack(touched).sum().float().expand(0, K, 2, H, W)
