"""Mask-guided feature enhancement (MGFE), Sec. III-B of the paper: all of it, and nowhere else.

Each pixel's feature f is joined by the feature m of the mask that the pixel lies in: [f, m]. What
the feature of a mask is, `prototypes` says; how it is joined, `guide` and `similarity` do. The
correlation (`fbc`), the decoder (`mgcd`) and the pictures (`mgcl.visualize`) take it from here.

In the product of two guided pixels f_q . f_s + m_q . m_s the second part is one number for each
pair of masks, so the joined features are never written out.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-5  # added to every length that something is divided by


class Guided(NamedTuple):
    """Mask-guided features of one level: each pixel's own feature and that of its mask."""

    pixels: Tensor
    """(B, h*w, C) the pixels' own features."""
    ids: Tensor | None
    """(B, h*w) the pixels' masks, see `mgfe.mask_ids`; None without masks."""
    means: Tensor | None
    """(B, 1 + M, C) from `prototypes`; None without masks."""
    norm: Tensor
    """(B, h*w) length of the joint feature, float32; `unit` leaves it as it was."""
    size: tuple[int, int]
    """(h, w)."""

    @property
    def scale(self) -> Tensor:
        """(B, h*w, 1) what makes a joint feature one of unit length."""
        return (1 / (self.norm + EPSILON))[..., None]

    @property
    def joined(self) -> Tensor:
        """(B, h*w, C) what is joined to the pixels' own features; zeros without masks."""
        if self.ids is None or self.means is None:
            return torch.zeros_like(self.pixels)
        return pick(self.means, self.ids)

    def unit(self) -> "Guided":
        """Divide the pixels' own features by (length + epsilon), as a query's."""
        return self._replace(pixels=self.pixels * self.scale)

    def expand(self, images: int) -> "Guided":
        """A single image seen as a batch of that many; a batch of that many is left as it is."""
        pixels, norm = (x.expand(images, *x.shape[1:]) for x in (self.pixels, self.norm))
        if self.ids is None or self.means is None:
            return self._replace(pixels=pixels, norm=norm)
        ids, means = (x.expand(images, *x.shape[1:]) for x in (self.ids, self.means))
        return Guided(pixels, ids, means, norm, self.size)

    def part(self, pixels: slice) -> "Guided":
        """Some of the pixels; `size` is that of the whole."""
        ids = self.ids[:, pixels] if self.ids is not None else None
        return self._replace(pixels=self.pixels[:, pixels], ids=ids, norm=self.norm[:, pixels])


def guide(feature: Tensor, ids: Tensor | None) -> Guided:
    """Join each pixel's feature with its mask's.

    Args:
        feature: (B, C, h, w).
        ids: (B, h*w) from `mgfe.mask_ids`; None leaves the features as they are.
    """
    with torch.autocast(feature.device.type, enabled=False):  # lengths in float32 at least
        feature = feature.to(torch.promote_types(feature.dtype, torch.float32))
        pixels = feature.flatten(2).transpose(1, 2)  # (B, h*w, C)
        square = torch.linalg.vector_norm(pixels, dim=-1).square()
        of_masks = None
        if ids is not None:
            of_masks = prototypes(pixels, ids)
            square = square + pick(of_masks.square().sum(dim=-1, keepdim=True), ids)[..., 0]
        norm = square.clamp_min(1e-20).sqrt()
    h, w = feature.shape[2:]
    return Guided(pixels, ids, of_masks, norm, (h, w))


def similarity(query: Guided, support: Guided) -> Tensor:
    """Products of all pairs of pixels, the query's of unit length, at least 0.

    Returns:
        (B, hs*ws, hq*wq).
    """
    pixels = support.pixels, query.pixels.transpose(1, 2)
    if query.ids is not None and support.ids is not None:
        assert query.means is not None and support.means is not None
        pairs = query.means @ support.means.transpose(1, 2)  # (B, 1 + Mq, 1 + Ms)
        autocast = pairs.dtype != query.means.dtype  # which does not reach what works in place
        pairs = pick(pairs, query.ids) * query.scale  # (B, hq*wq, 1 + Ms)
        picked = pick(pairs.transpose(1, 2), support.ids)
        add = picked.baddbmm if autocast else picked.baddbmm_
        return add(*pixels).relu_()
    return torch.bmm(*pixels).relu_()


def mask_ids(mask_map: Tensor, size: tuple[int, int], max_masks: int = 128) -> Tensor:
    """Which mask each pixel of a feature map lies in.

    Args:
        mask_map: (B, H, W) uint8, 0 = no mask, i = mask i.
        size: (h, w) of the feature map; the map is sampled by torch's `nearest`, floor(i * H / h).
        max_masks: largest mask number that counts.

    Returns:
        (B, h*w) int64, 0 = no mask. Numbers are at most h*w: where the map's own could be larger, a
        mask is called by its first pixel, counted from 1.
    """
    ids = F.interpolate(mask_map[:, None], size=size, mode="nearest").flatten(1).long()
    ids = ids * (ids <= max_masks)
    if ids.shape[1] >= max_masks:
        return ids
    same = ids[:, :, None] == ids[:, None, :]  # (B, h*w, h*w)
    return (same.byte().argmax(dim=2) + 1) * (ids > 0)


def prototypes(pixels: Tensor, ids: Tensor, max_masks: int = 128) -> Tensor:
    """The feature of every mask, which MGFE joins to that of its pixels: their mean.

    Another one (weighted, the largest, ...) written here changes the network, its decoder and the
    pictures. Arguments and result are those of `means`.
    """
    return means(pixels, ids, max_masks)


def means(pixels: Tensor, ids: Tensor, max_masks: int = 128) -> Tensor:
    """Mean of the pixels of every mask.

    Args:
        pixels: (B, h*w, C).
        ids: (B, h*w) from `mask_ids`.
        max_masks: largest mask number.

    Returns:
        (B, 1 + M, C), M = min(max_masks, h*w): row i is that of mask i; zeros if it is empty, and
        in row 0.
    """
    B, P, C = pixels.shape
    M = min(max_masks, P)
    rows = _rows(ids, 1 + M)
    sums = pixels.new_zeros(B * (1 + M), C).index_add(0, rows, pixels.reshape(B * P, C))
    count = pixels.new_zeros(B * (1 + M)).index_add(0, rows, pixels.new_ones(B * P))
    is_mask = torch.arange(1 + M, device=ids.device) > 0
    share = is_mask / (count.view(B, 1 + M) + 1e-8)
    return sums.view(B, 1 + M, C) * share[..., None]


def pick(table: Tensor, ids: Tensor) -> Tensor:
    """The row of each pixel's mask: (B, 1 + M, N), (B, P) -> (B, P, N)."""
    rows = _rows(ids, table.shape[1])
    return table.flatten(0, 1).index_select(0, rows).unflatten(0, ids.shape)


def mask_mean(feature: Tensor, mask_map: Tensor, max_masks: int = 128) -> Tensor:
    """Replace each pixel's feature by the mean feature of the mask that it lies in.

    Args:
        feature: (B, C, h, w).
        mask_map: (B, H, W) uint8, 0 = no mask.
        max_masks: largest mask number.

    Returns:
        (B, C, h, w), channels last; zeros where a pixel lies in no mask.
    """
    h, w = feature.shape[2:]
    pixels = feature.flatten(2).transpose(1, 2)  # (B, h*w, C)
    ids = mask_ids(mask_map, (h, w), max_masks)
    means = pick(prototypes(pixels, ids, max_masks), ids)  # (B, h*w, C)
    return means.unflatten(1, (h, w)).permute(0, 3, 1, 2)


def _rows(ids: Tensor, count: int) -> Tensor:
    """(B, P) -> (B*P,) rows of a (B, count, ...) table whose first two dims are flattened."""
    images = torch.arange(len(ids), device=ids.device)[:, None]
    return (images * count + ids).flatten()
