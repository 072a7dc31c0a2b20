"""How a forward pass is done, in training and test alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mgcl.datasets.episodes import Episode
from mgcl.engine.features import FeatureStore
from mgcl.model.fewshot import Encoded, FewShotNetwork


@dataclass(frozen=True)
class Setup:
    """How a forward pass is done, in training and test alike."""

    device: torch.device
    precision: str = "float32"
    ignore_background: bool = True
    """255 counts as background in loss and support label, as published."""
    features: FeatureStore = field(default_factory=lambda: FeatureStore(0))
    """Encoded images that are kept from one evaluation to the next."""

    def move(self, episode: Episode) -> Episode:
        """An episode batch on the device."""
        return Episode(*(torch.as_tensor(t).to(self.device, non_blocking=True) for t in episode))

    def forward(self, model: nn.Module, episode: Episode) -> Tensor:
        """Logits (B, K or 1, 2, H, W) of a batch on the device, float32."""
        with self.autocast():
            return model(
                episode.query_image,
                episode.query_mask_map,
                episode.support_images,
                self.target(episode.support_labels),
                episode.support_mask_maps,
            )

    def encode(self, network: FewShotNetwork, images: Tensor, mask_maps: Tensor) -> Encoded:
        """Images (B, 3, H, W) and mask maps (B, H, W) uint8, from anywhere, on the device."""
        with self.autocast():
            return network.encode(images.to(self.device), mask_maps.to(self.device))

    def compare(
        self,
        network: FewShotNetwork,
        query: Encoded,
        supports: Sequence[Encoded],
        support_labels: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        """Logits (B, K or 1, 2, *size), float32, as `FewShotNetwork.compare`.

        Args:
            network: on the device, as all that follows.
            query: B images.
            supports: K times B images, or one that serves every query.
            support_labels: (B, K, H, W) in {0, 1, 255}.
            size: of the result.
        """
        labels = self.target(support_labels)
        with self.autocast():
            return network.compare(query, supports, labels, query.mask_map, size)

    def target(self, label: Tensor) -> Tensor:
        """The label as loss and support see it."""
        return torch.where(label == 255, 0, label) if self.ignore_background else label

    def autocast(self) -> torch.autocast:
        """The precision of the network's products and convolutions."""
        bf16 = self.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)
