"""Foreground-background correlation (FBC), Sec. III-C of the paper.

The support label only scales each support pixel, so one product of features serves the foreground
and the background half: with q' = q / (|q| + e) and e = 1e-5,

    corr_fg = relu(q' . s) * g_fg,   g_fg = l / (l |s| + e),

where l is the resized foreground label of the support pixel, and likewise for the background.

The mask-guided feature of a pixel is [f, m]: its own feature and the mean of its mask. In their
product f_q . f_s + m_q . m_s the second part is one number for each pair of masks.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mgcl.model.mgfe import pick, prototypes

EPSILON = 1e-5


class Guided(NamedTuple):
    """Mask-guided features of one level: each pixel's own feature and the mean of its mask."""

    pixels: Tensor
    """(B, h*w, C) the pixels' own features."""
    ids: Tensor | None
    """(B, h*w) the pixels' masks, see `mgfe.mask_ids`; None without masks."""
    means: Tensor | None
    """(B, 1 + M, C) the masks' mean features, row 0 zeros; None without masks."""
    norm: Tensor
    """(B, h*w) length of the joint feature, float32; `unit` leaves it as it was."""
    size: tuple[int, int]
    """(h, w)."""

    @property
    def scale(self) -> Tensor:
        """(B, h*w, 1) what makes a joint feature one of unit length."""
        return (1 / (self.norm + EPSILON))[..., None]

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
    """Join each pixel's feature with its mask's mean.

    Args:
        feature: (B, C, h, w).
        ids: (B, h*w) from `mgfe.mask_ids`; None leaves the features as they are.
    """
    with torch.autocast(feature.device.type, enabled=False):  # lengths in float32 at least
        feature = feature.to(torch.promote_types(feature.dtype, torch.float32))
        pixels = feature.flatten(2).transpose(1, 2)  # (B, h*w, C)
        square = torch.linalg.vector_norm(pixels, dim=-1).square()
        means = None
        if ids is not None:
            means = prototypes(pixels, ids)
            square = square + pick(means.square().sum(dim=-1, keepdim=True), ids)[..., 0]
        norm = square.clamp_min(1e-20).sqrt()
    return Guided(pixels, ids, means, norm, _size(feature))


def similarity(query: Guided, support: Guided) -> Tensor:
    """Products of all pairs of pixels, the query's of unit length, at least 0.

    Returns:
        (B, hs*ws, hq*wq).
    """
    product = support.pixels @ query.pixels.transpose(1, 2)
    if query.ids is not None and support.ids is not None:
        assert query.means is not None and support.means is not None
        pairs = query.means @ support.means.transpose(1, 2)  # (B, 1 + Mq, 1 + Ms)
        pairs = pick(pairs, query.ids) * query.scale  # (B, hq*wq, 1 + Ms)
        product += pick(pairs.transpose(1, 2), support.ids)
    return product.relu_()


def gates(support: Guided, label: Tensor) -> Tensor:
    """What the support label leaves of each support pixel, over its length.

    Args:
        support: the support's features, not scaled.
        label: (B, H, W) integers, 1 = foreground, 0 = background, anything else is neither.

    Returns:
        (B, hs*ws, 2) float32, foreground and background.
    """
    halves = torch.stack([label == 1, label == 0], dim=1).to(support.norm.dtype)
    halves = F.interpolate(halves, size=support.size, mode="bilinear", align_corners=True)
    halves = halves.flatten(2).transpose(1, 2)  # (B, hs*ws, 2)
    return halves / (halves * support.norm[..., None] + EPSILON)


class Correlation(NamedTuple):
    """The 4-D correlation of one level, not multiplied out."""

    query: Guided
    """Of unit length."""
    support: Guided
    gates: Tensor
    """(B, hs*ws, C), see `gates`; C is 2, or 1 for the foreground alone."""

    def chunks(self, limit: int) -> Iterator["Correlation"]:
        """Split the query's pixels so that no part has more than `limit` products."""
        pixels, positions = self.query.pixels.shape[1], self.gates.shape[:2].numel()  # B*hs*ws
        step = max(1, min(pixels, limit // positions))
        for start in range(0, pixels, step):
            yield self._replace(query=self.query.part(slice(start, start + step)))

    def dense(self, stride: int = 1) -> tuple[Tensor, Tensor]:
        """Multiply out.

        Returns:
            (B, hs, ws, hq*wq, C), the support dims in front, and a copy of what of it every
            `stride`-th row and column of the support hold.
        """
        product = similarity(self.query, self.support).unflatten(1, self.support.size)
        return _Gated.apply(product, self.gates.unflatten(1, self.support.size), stride)


class _Gated(torch.autograd.Function):
    """`product[..., None] * gates[..., None, :]` and its strided part.

    Differentiated by autograd, the gradient of the strided part would be spread over zeros of the
    whole, and each half's gradient written out before they are summed.
    """

    @staticmethod
    def forward(product: Tensor, gates: Tensor, stride: int) -> tuple[Tensor, Tensor]:
        """(B, hs, ws, Q), (B, hs, ws, C) -> (B, hs, ws, Q, C), (B, hs', ws', Q, C)."""
        both = product[..., None] * gates[..., None, :]
        return both, both[:, ::stride, ::stride].clone(memory_format=torch.contiguous_format)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Any) -> None:
        """Keep the inputs."""
        ctx.save_for_backward(*inputs[:2])
        ctx.stride = inputs[2]

    @staticmethod
    def backward(ctx: Any, both: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of the two outputs -> of product and gates."""
        product, gates = ctx.saved_tensors
        strided = (slice(None), slice(None, None, ctx.stride), slice(None, None, ctx.stride))
        of_product = _weighted(both, gates)
        of_product[strided] += _weighted(kept, gates[strided])
        of_gates = _projected(both, product)
        of_gates[strided] += _projected(kept, product[strided])
        return of_product.to(product.dtype), of_gates.to(gates.dtype), None


def _weighted(gradient: Tensor, gates: Tensor) -> Tensor:
    """Sum of the halves: (..., Q, C), (..., C) -> (..., Q)."""
    total = gradient[..., 0] * gates[..., None, 0]
    for half in range(1, gates.shape[-1]):
        total = total.addcmul_(gradient[..., half], gates[..., None, half])
    return total


def _projected(gradient: Tensor, product: Tensor) -> Tensor:
    """Sum over the query: (..., Q, C), (..., Q) -> (..., C)."""
    return (product.to(gradient.dtype)[..., None, :] @ gradient)[..., 0, :]


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
    correlation = Correlation(guide(query, None).unit(), guided, gates(guided, label))
    both = correlation.dense()[0].unflatten(3, correlation.query.size)
    return both.permute(0, 5, 3, 4, 1, 2)


def _size(feature: Tensor) -> tuple[int, int]:
    h, w = feature.shape[-2:]
    return h, w
