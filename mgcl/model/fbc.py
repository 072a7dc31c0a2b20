"""Foreground-background correlation (FBC), Sec. III-C of the paper.

The support label only scales each support pixel, so one product of normalised features serves the
foreground and the background half: with q' = q / (|q| + e) and s' = s / |s|,

    corr_fg = relu(q' . s') * g_fg,   g_fg = l |s| / (l |s| + e),   e = 1e-5,

where l is the resized foreground label of the support pixel, and likewise for the background.

The mask-guided features are [f, A P]: f the pixel's own feature, A the one-hot assignment of pixels
to masks, P the masks' means. Their product f_q . f_s + A_q P_q P_s' A_s' needs P_q P_s' only, one
number for each pair of masks.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mgcl.model.mgfe import prototypes

EPSILON = 1e-5


class Guided(NamedTuple):
    """Mask-guided features of one level, scaled to unit length pixel by pixel."""

    pixels: Tensor
    """(B, h*w, C) the pixels' own features, scaled."""
    assigned: Tensor | None
    """(B, h*w, M) the one-hot assignment to masks, scaled; None without masks."""
    means: Tensor | None
    """(B, M, C) the masks' mean features; None without masks."""
    norm: Tensor
    """(B, h*w) length before scaling, float32."""
    size: tuple[int, int]
    """(h, w)."""

    def part(self, pixels: slice) -> "Guided":
        """Some of the pixels; `size` is that of the whole."""
        assigned = self.assigned[:, pixels] if self.assigned is not None else None
        return self._replace(
            pixels=self.pixels[:, pixels], assigned=assigned, norm=self.norm[:, pixels]
        )


def guide(feature: Tensor, assigned: Tensor | None, epsilon: float = 0.0) -> Guided:
    """Join each pixel's feature with its mask's mean and divide by (length + epsilon).

    Args:
        feature: (B, C, h, w).
        assigned: (B, h*w, M) from `mgfe.assignment`; None leaves the features as they are.
        epsilon: added to the length; with 0 a zero feature stays zero.
    """
    with torch.autocast(feature.device.type, enabled=False):  # lengths in float32 at least
        feature = feature.to(torch.promote_types(feature.dtype, torch.float32))
        pixels = feature.flatten(2).transpose(1, 2)  # (B, h*w, C)
        square = pixels.square().sum(dim=-1)
        means = None
        if assigned is not None:
            assigned = assigned.to(feature.dtype)
            means = prototypes(pixels, assigned)
            # A row of `assigned` picks one mask, so |A P|^2 = A |P|^2.
            square = square + (assigned @ means.square().sum(dim=-1, keepdim=True))[..., 0]
        norm = square.clamp_min(1e-20).sqrt()
        scale = (1 / (norm + epsilon))[..., None]
        scaled = assigned * scale if assigned is not None else None
    return Guided(pixels * scale, scaled, means, norm, _size(feature))


def cosine(query: Guided, support: Guided) -> Tensor:
    """Products of all pairs of pixels, clamped at 0: -> (B, hs*ws, hq*wq)."""
    product = support.pixels @ query.pixels.transpose(1, 2)
    if query.assigned is not None and support.assigned is not None:
        assert query.means is not None and support.means is not None
        pairs = support.means @ query.means.transpose(1, 2)  # (B, M, M)
        pairs = pairs @ query.assigned.transpose(1, 2)  # (B, M, hq*wq)
        product = torch.baddbmm(product, support.assigned, pairs)
    return product.relu_()


def gates(support: Guided, label: Tensor) -> Tensor:
    """What the support label leaves of each support pixel.

    Args:
        support: the support's features.
        label: (B, H, W) integers, 1 = foreground, 0 = background, anything else is neither.

    Returns:
        (B, hs*ws, 2) float32, foreground and background.
    """
    halves = torch.stack([label == 1, label == 0], dim=1).to(support.norm.dtype)
    halves = F.interpolate(halves, size=support.size, mode="bilinear", align_corners=True)
    lengths = halves.flatten(2).transpose(1, 2) * support.norm[..., None]  # (B, hs*ws, 2)
    return lengths / (lengths + EPSILON)


class Correlation(NamedTuple):
    """The 4-D correlation of one level, not multiplied out."""

    query: Guided
    support: Guided
    gates: Tensor
    """(B, hs*ws, C), see `gates`; C is 2, or 1 for the foreground alone."""

    def chunks(self, limit: int) -> Iterator["Correlation"]:
        """Split the query's pixels so that no part has more than `limit` cosines."""
        pixels, positions = self.query.pixels.shape[1], self.gates.shape[:2].numel()  # B*hs*ws
        step = max(1, min(pixels, limit // positions))
        for start in range(0, pixels, step):
            yield self._replace(query=self.query.part(slice(start, start + step)))

    def dense(self) -> Tensor:
        """Multiply out: -> (B, hs, ws, hq*wq, C), the support dims in front."""
        both = cosine(self.query, self.support)[..., None] * self.gates[:, :, None]
        return both.unflatten(1, self.support.size)


def foreground_background_correlation(query: Tensor, support: Tensor, label: Tensor) -> Tensor:
    """The 4-D correlation of query and support, foreground and background.

    Args:
        query: (B, C, hq, wq) features, already joined with their mask means.
        support: (B, C, hs, ws), likewise.
        label: (B, H, W) integer support label, 1 = foreground, 0 = background.

    Returns:
        (B, 2, hq, wq, hs, ws), not negative.
    """
    guided = guide(support, None)
    correlation = Correlation(guide(query, None, EPSILON), guided, gates(guided, label))
    both = correlation.dense().unflatten(3, correlation.query.size)
    return both.permute(0, 5, 3, 4, 1, 2)


def _size(feature: Tensor) -> tuple[int, int]:
    h, w = feature.shape[-2:]
    return h, w
