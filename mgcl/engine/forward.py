"""How a forward pass is done, in training and test alike."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mgcl.datasets.episodes import Episode


@dataclass(frozen=True)
class Setup:
    """How a forward pass is done, in training and test alike."""

    device: torch.device
    precision: str = "float32"
    ignore_background: bool = True
    """255 counts as background in loss and support label, as published."""

    def move(self, episode: Episode) -> Episode:
        """An episode batch on the device."""
        return Episode(*(torch.as_tensor(t).to(self.device, non_blocking=True) for t in episode))

    def forward(self, model: nn.Module, episode: Episode) -> Tensor:
        """Logits (B, K, 2, H, W) of a batch on the device, float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return model(
                episode.query_image,
                episode.query_mask_map,
                episode.support_images,
                self.target(episode.support_labels),
                episode.support_mask_maps,
            )

    def target(self, label: Tensor) -> Tensor:
        """The label as loss and support see it."""
        return torch.where(label == 255, 0, label) if self.ignore_background else label
