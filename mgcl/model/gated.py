"""The first convolution over the support dims, straight from the cosines.

Both channels of the correlation are one map of cosines p, scaled at each support pixel s by a gate:
corr_c[s, q] = g_c[s] p[s, q]. So a convolution over s may take the gates into its weights,

    sum_c sum_s w_c[s - S] g_c[s] p[s, q] = sum_s v[S, s] p[s, q],
    v[S, s] = sum_c w_c[s - S] g_c[s],

and the two-channel correlation is never made. For a row of positions S the product with p is an
ordinary one: only a few rows of s, which lie together in memory, reach it.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 2  # positions S of a row that are computed together; more multiply by more zeros


def gated_support_conv(
    cosines: Tensor, gates: Tensor, weight: Tensor, stride: int
) -> tuple[Tensor, Tensor]:
    """Convolve gated cosines over the support dims, padding k // 2.

    Args:
        cosines: (B, hs, ws, Q).
        gates: (B, hs, ws, C).
        weight: (O, C, k, k).
        stride: of the support dims.

    Returns:
        (B, ceil(hs/stride), ceil(ws/stride), Q, O), and `cosines[:, ::stride, ::stride]`.
    """
    outputs = weight.shape[0]
    columns = -(-cosines.shape[2] // stride)
    tile = min(TILE, columns)
    with torch.autocast(gates.device.type, enabled=False):
        weights = tile_weights(gates, weight.to(gates.dtype), stride, tile).to(cosines.dtype)
    result, kept = _TiledProduct.apply(cosines, weights, stride, weight.shape[-1] // 2)
    result = result.unflatten(4, (tile, outputs)).transpose(3, 4)  # (B, rows, tiles, tile, Q, O)
    return result.flatten(2, 3)[:, :, :columns], kept


def tile_weights(gates: Tensor, weight: Tensor, stride: int, tile: int) -> Tensor:
    """Compute v of every tile.

    (B, hs, ws, C), (O, C, k, k) -> (B, rows, tiles, tile*O, k, width).

    The width of a tile is the number of support columns that reach it.
    """
    B, hs, ws, C = gates.shape
    k = weight.shape[-1]
    pad, step, width = k // 2, stride * tile, stride * (tile - 1) + k
    rows, tiles = -(-hs // stride), -(-ws // step)
    below, right = stride * (rows - 1) + k - pad - hs, step * (tiles - 1) + width - pad - ws
    around = F.pad(gates, (0, 0, pad, max(right, 0), pad, max(below, 0)))
    around = around.unfold(1, k, stride).unfold(2, width, step)  # (B, rows, tiles, C, k, width)
    tap = torch.arange(width, device=gates.device) - stride * torch.arange(
        tile, device=gates.device
    ).unsqueeze(1)  # (tile, width) kernel column by which a support column reaches a position
    spread = weight[..., tap.clamp(0, k - 1)] * ((tap >= 0) & (tap < k))  # (O, C, k, tile, width)
    spread = spread.permute(3, 0, 1, 2, 4)  # (tile, O, C, k, width)
    total = sum(around[:, :, :, None, None, c] * spread[:, :, c] for c in range(C))
    assert isinstance(total, Tensor)
    return total.flatten(3, 4)


class _TiledProduct(torch.autograd.Function):
    """Sum of v p over the support pixels that reach a tile.

    By hand, because autograd would make a whole gradient of the cosines for every tile.
    """

    @staticmethod
    def forward(
        ctx: Any, cosines: Tensor, weights: Tensor, stride: int, pad: int
    ) -> tuple[Tensor, Tensor]:
        """(B, hs, ws, Q), (B, rows, tiles, O, k, width) -> (B, rows, tiles, Q, O), kept."""
        ctx.save_for_backward(cosines, weights)
        ctx.stride, ctx.pad = stride, pad
        B, rows, tiles, outputs = weights.shape[:4]
        result = cosines.new_empty(B, rows, tiles, cosines.shape[-1], outputs)
        for place, source, taps in _tiles(cosines, weights, stride, pad):
            part = cosines[source].flatten(1, 2)  # (B, n, Q)
            result[place] = part.transpose(1, 2) @ weights[taps].flatten(2).transpose(1, 2)
        return result, cosines[:, ::stride, ::stride].contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Gradients of cosines and weights."""
        cosines, weights = ctx.saved_tensors
        of_result, of_kept = grads
        of_cosines, of_weights = torch.zeros_like(cosines), torch.zeros_like(weights)
        of_cosines[:, :: ctx.stride, :: ctx.stride] = of_kept
        for place, source, taps in _tiles(cosines, weights, ctx.stride, ctx.pad):
            grad = of_result[place]  # (B, Q, O)
            size = cosines[source].shape[1:3]
            part, used = cosines[source].flatten(1, 2), weights[taps].flatten(2)  # (B, O, n)
            of_cosines[source] += (used.mT @ grad.mT).unflatten(1, size)
            of_weights[taps] = (grad.mT @ part.mT).unflatten(2, size)
        return of_cosines, of_weights, None, None


def _tiles(
    cosines: Tensor, weights: Tensor, stride: int, pad: int
) -> Iterator[tuple[tuple, tuple, tuple]]:
    """For every tile its place in the result, its support pixels, and their weights."""
    hs, ws = cosines.shape[1:3]
    _, rows, tiles, _, k, width = weights.shape
    step = width - k + stride
    everything = slice(None)
    for i in range(rows):
        top = i * stride - pad
        for t in range(tiles):
            left = t * step - pad
            high, wide = _inside(top, k, hs), _inside(left, width, ws)
            taps = (
                slice(high.start - top, high.stop - top),
                slice(wide.start - left, wide.stop - left),
            )
            yield (
                (everything, i, t),
                (everything, high, wide),
                (everything, i, t, everything, *taps),
            )


def _inside(start: int, length: int, size: int) -> slice:
    return slice(max(start, 0), min(start + length, size))
