"""Foreground-background correlation (FBC), Sec. III-C of the paper.

The support label only scales each support pixel, so one product of features serves the foreground
and the background half: with q' = q / (|q| + e) and e = 1e-5,

    corr_fg = relu(q' . s) * g_fg,   g_fg = l / (l |s| + e),

where l is the resized foreground label of the support pixel, and likewise for the background. What
the features q and s are, and how their products are made, is `mgfe`'s affair.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mgcl.model.mgfe import EPSILON, Guided, guide, similarity


def halves_of(label: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Where a label shows the foreground and where the background, for the `gates` of all levels.

    Args:
        label: (B, H, W) integers, 1 = foreground, 0 = background, anything else is neither.
        dtype: of the result, as the lengths of features have it.

    Returns:
        (B, 2, H, W), 0 or 1.
    """
    return torch.stack([label == 1, label == 0], dim=1).to(dtype)


def gates(support: Guided, halves: Tensor) -> Tensor:
    """What the support label leaves of each support pixel, over its length.

    Args:
        support: the support's features, not scaled.
        halves: (B, 2, H, W) from `halves_of`.

    Returns:
        (B, hs*ws, 2), foreground and background.
    """
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
        both = _gated(product, gates)
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


def _gated(product: Tensor, gates: Tensor) -> Tensor:
    """(..., Q), (..., C) -> (..., Q, C)."""
    two = gates.shape[-1] == 2 and product.dtype == gates.dtype == torch.float32
    if two and product.device.type == "cpu" and not torch.compiler.is_compiling():
        # the halves as the parts of a complex number: the same products in a quarter of the time
        complex_gates = torch.view_as_complex(gates.contiguous())
        return torch.view_as_real(product * complex_gates[..., None])
    return product[..., None] * gates[..., None, :]


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
    correlation = Correlation(
        guide(query, None).unit(), guided, gates(guided, halves_of(label, guided.norm.dtype))
    )
    both = correlation.dense()[0].unflatten(3, correlation.query.size)
    return both.permute(0, 5, 3, 4, 1, 2)
