"""What every few-shot network offers: images encoded once, queries compared with their supports.

An image costs the backbone once, however many episodes, shots, classes or windows it meets: what
`encode` gives can be split, joined, moved and kept.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from mgcl.model.presence import Presence


class Encoded(NamedTuple):
    """A batch of encoded images."""

    levels: tuple[Tensor, ...]
    """(B, C, h, w) each: the backbone's features that the network compares by, as they are."""
    mask_map: Tensor
    """(B, H, W) uint8, 0 = no mask."""

    def map(self, do: Callable[[Tensor], Tensor]) -> "Encoded":
        """Every tensor changed in the same way."""
        return Encoded(tuple(do(level) for level in self.levels), do(self.mask_map))

    def only(self, which: slice) -> "Encoded":
        """The same images with some of the levels."""
        return self._replace(levels=self.levels[which])

    def to(self, device: torch.device) -> "Encoded":
        """The same batch on a device."""
        return self.map(lambda x: x.to(device, non_blocking=True))

    def expand(self, images: int) -> "Encoded":
        """A single image seen as a batch of that many; nothing is copied."""
        return self.map(lambda x: x.expand(images, *x.shape[1:]))

    def split(self, size: int = 1) -> list["Encoded"]:
        """Batches of `size` images, views of this one; `clone` those that are to outlive it."""
        parts = zip(*(x.split(size) for x in (*self.levels, self.mask_map)), strict=True)
        return [Encoded(part[:-1], part[-1]) for part in parts]

    def clone(self) -> "Encoded":
        """A copy with memory of its own."""
        return self.map(torch.Tensor.clone)

    @property
    def nbytes(self) -> int:
        """Memory of all images together."""
        return sum(x.nbytes for x in (*self.levels, self.mask_map))


def join(parts: Sequence[Encoded]) -> Encoded:
    """The images of several batches in one."""
    levels = zip(*(part.levels for part in parts), strict=True)
    return Encoded(tuple(map(torch.cat, levels)), torch.cat([part.mask_map for part in parts]))


def digest(module: nn.Module) -> str:
    """A digest of a module's kind and of all its numbers."""
    found = hashlib.blake2b(type(module).__name__.encode(), digest_size=16)
    for name, value in module.state_dict().items():
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


class FewShotNetwork(nn.Module):
    """Segments queries by supports in two steps; `forward` does both at once."""

    pools = False
    """Whether all supports give one answer; then one without foreground shows what is not meant."""

    def encode(self, images: Tensor, mask_maps: Tensor) -> Encoded:
        """Encode images, whether they serve as queries or as supports.

        Args:
            images: (B, 3, H, W) uint8 RGB, or float, already normalised.
            mask_maps: (B, H, W) uint8, 0 = no mask.
        """
        raise NotImplementedError

    def compare(
        self,
        query: Encoded,
        supports: Sequence[Encoded],
        support_labels: Tensor,
        query_mask_map: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        """Segment encoded queries by their supports.

        Args:
            query: B images.
            supports: K times B images, or one that serves every query.
            support_labels: (B, K, H, W) integers, 1 = foreground, 0 = background, else neither.
                Without foreground it shows what is not the class to a network that `pools`; one
                that votes must not be given it, or has to leave out the vote.
            query_mask_map: (B, H, W) uint8, 0 = no mask.
            size: (H, W) of the result.

        Returns:
            logits, background and foreground: (B, K, 2, *size), one vote a support, or
            (B, 1, 2, *size), one answer of all supports together.
        """
        raise NotImplementedError

    def encoders(self) -> Sequence[nn.Module]:
        """The parts that `encode` depends on; unless a subclass knows better, the whole network."""
        return [self]

    def fingerprint(self) -> str:
        """Equal for networks that encode images alike: a digest of all that `encode` depends on."""
        return "".join(map(digest, self.encoders()))

    def contains(self) -> Mapping[str, slice]:
        """Which of its levels are those of other networks, by their fingerprints."""
        return {}

    def learns_to_encode(self) -> bool:
        """Whether training changes what `encode` gives."""
        return any(p.requires_grad for part in self.encoders() for p in part.parameters())

    def tells(self) -> "Presence | None":
        """What tells whether a query shows the class at all; None where nothing was fitted to."""
        return None

    def sees(self, support: Encoded, label: Tensor) -> bool:
        """Whether anything of a labelled object (1, H, W) is left at the features' resolution."""
        return bool((label == 1).any())

    def forward(
        self,
        query_image: Tensor,
        query_mask_map: Tensor,
        support_images: Tensor,
        support_labels: Tensor,
        support_mask_maps: Tensor,
    ) -> Tensor:
        """Encode and compare whole episodes; the query is encoded once.

        Args:
            query_image: (B, 3, H, W) uint8 RGB, or float, already normalised.
            query_mask_map: (B, H, W) uint8, 0 = no mask.
            support_images: (B, K, 3, H, W), as the query's.
            support_labels: (B, K, H, W) integers, 1 = foreground, 0 = background.
            support_mask_maps: (B, K, H, W) uint8.

        Returns:
            (B, K or 1, 2, H, W) logits, background and foreground.
        """
        B, _, H, W = query_image.shape
        images = torch.cat([query_image, support_images.transpose(0, 1).flatten(0, 1)])
        maps = torch.cat([query_mask_map, support_mask_maps.transpose(0, 1).flatten(0, 1)])
        query, *supports = self.encode(images, maps).split(B)  # query, support 1 .. support K
        return self.compare(query, supports, support_labels, query_mask_map, (H, W))
