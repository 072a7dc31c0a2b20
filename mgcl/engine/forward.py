"""How a forward pass is done, in training and test alike."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, overload

import torch
from torch import Tensor, nn

from mgcl.datasets.episodes import Episode, Labels
from mgcl.engine.features import FeatureStore
from mgcl.model.fewshot import Encoded, FewShotNetwork


class EncodedEpisodes(NamedTuple):
    """A batch of B episodes with K supports each."""

    query: Encoded
    """B images."""
    supports: list[Encoded]
    """K times B images."""
    labels: Labels
    matched: Tensor | None = None
    """(B, 1, 2, H, W): what `ResidualMGCL.match` gave, if it was asked before."""

    def part(self, start: int, stop: int) -> "EncodedEpisodes":
        """Some of the episodes, none where there are none."""
        images = (encoded.map(lambda x: x[start:stop]) for encoded in (self.query, *self.supports))
        query, *supports = images
        labels = Labels(*(x[start:stop] for x in self.labels))
        matched = None if self.matched is None else self.matched[start:stop]
        return EncodedEpisodes(query, supports, labels, matched)


@dataclass(frozen=True)
class Setup:
    """How a forward pass is done, in training and test alike."""

    device: torch.device
    precision: str = "float32"
    ignore_background: bool = True
    """255 counts as background in loss and support label, as published."""
    features: FeatureStore = field(default_factory=lambda: FeatureStore(0))
    """Encoded images that are kept from one evaluation to the next."""

    @overload
    def move(self, batch: Episode) -> Episode: ...

    @overload
    def move(self, batch: EncodedEpisodes) -> EncodedEpisodes: ...

    def move(self, batch: Episode | EncodedEpisodes) -> Episode | EncodedEpisodes:
        """A batch on the device; what is encoded is there already."""
        if isinstance(batch, EncodedEpisodes):
            return batch._replace(labels=Labels(*map(self._moved, batch.labels)))
        return Episode(*(self._moved(torch.as_tensor(t)) for t in batch))

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

    def forward(self, model: nn.Module, batch: Episode | EncodedEpisodes) -> Tensor:
        """Logits (B, K or 1, 2, H, W) of a batch on the device, float32.

        Args:
            model: a `FewShotNetwork`, or `Comparing` one for encoded episodes, or a wrapper.
            batch: on the device.
        """
        labels = self.target(batch.labels.supports)
        with self.autocast():
            if isinstance(batch, EncodedEpisodes):
                return model(batch.query, batch.supports, batch.matched, support_labels=labels)
            return model(
                batch.query_image,
                batch.query_mask_map,
                batch.support_images,
                support_labels=labels,
                support_mask_maps=batch.support_mask_maps,
            )

    def encode(self, network: FewShotNetwork, images: Tensor, mask_maps: Tensor) -> Encoded:
        """Images (B, 3, H, W) and mask maps (B, H, W) uint8, from anywhere, on the device."""
        with self.autocast():
            return network.encode(self._moved(images), self._moved(mask_maps))

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
