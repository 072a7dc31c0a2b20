"""Random input that looks like the real one: maps of 60 to 128 regions, one object an image."""

from typing import NamedTuple

import torch
from torch import Tensor

from tests import oracle


def region_map(size: int, generator: torch.Generator) -> Tensor:
    """(size, size) uint8 mask map of 60 to 128 Voronoi cells, numbered from large to small.

    A tenth of the cells is left out (0 = no mask), as in a map of SAM's masks.
    """
    cells = int(torch.randint(60, 129, (1,), generator=generator))
    centres = torch.rand(cells, 2, generator=generator) * size
    pixels = torch.cartesian_prod(torch.arange(size), torch.arange(size)).float()
    nearest = torch.cdist(pixels, centres).argmin(1)  # (size*size,)
    area = nearest.bincount(minlength=cells)
    area[torch.rand(cells, generator=generator) < 0.1] = 0
    number = torch.zeros(cells, dtype=torch.uint8)
    order = area.argsort(descending=True)[: int((area > 0).sum())]
    number[order] = torch.arange(1, len(order) + 1, dtype=torch.uint8)
    return number[nearest].view(size, size)


class Inputs(NamedTuple):
    """A batch of episodes, as `MGCL.forward` takes it, and the query's label."""

    query: Tensor  # (B, 3, H, W) uint8
    query_map: Tensor  # (B, H, W) uint8
    supports: Tensor  # (B, K, 3, H, W) uint8
    labels: Tensor  # (B, K, H, W) uint8
    maps: Tensor  # (B, K, H, W) uint8
    query_label: Tensor  # (B, H, W) uint8

    def ours(self) -> tuple[Tensor, ...]:
        """Arguments of `MGCL.forward`."""
        return self[:5]

    def reference(self) -> tuple[Tensor, ...]:
        """Arguments of `OracleMGCL.forward`: mask stacks instead of maps."""
        stacks = torch.stack([oracle.mask_stack(m) for m in self.maps.unbind(1)], dim=1)
        return self.query, oracle.mask_stack(self.query_map), self.supports, self.labels, stacks


def episodes(batch: int, shots: int, size: int, seed: int = 0) -> Inputs:
    """Random images, region maps, and labels with one region-shaped object each."""
    g = torch.Generator().manual_seed(seed)
    maps = torch.stack([region_map(size, g) for _ in range(batch * (shots + 1))])
    coarse = torch.randint(0, 256, (len(maps), 3, size // 8, size // 8), generator=g).float()
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    images = (smooth + 8 * torch.randn(smooth.shape, generator=g)).clamp(0, 255).to(torch.uint8)
    labels = ((maps > 2) & (maps < 12)).to(torch.uint8)
    images, maps, labels = (x.unflatten(0, (batch, shots + 1)) for x in (images, maps, labels))
    return Inputs(images[:, 0], maps[:, 0], images[:, 1:], labels[:, 1:], maps[:, 1:], labels[:, 0])
