"""Convolutions by oneDNN on a CPU, without a gradient.

PyTorch leaves oneDNN out where an input is small, lays a convolution's weights out for it in every
call, and runs what follows as passes of their own. Called by name, the weights are laid out once,
and a sum and a ReLU are part of the convolution. The numbers differ in their last bits.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]  # rows and columns
Sizes = tuple[int, ...]

RELU: dict[str, tuple[str, list[Any]]] = {
    "": ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0, 6]),
}

PRESENT = torch.backends.mkldnn.is_available() and all(
    hasattr(of, name)  # what PyTorch's compiler calls, too, but no public name
    for of, name in (
        (torch.ops.mkldnn, "_convolution_pointwise"),
        (torch._C._nn, "mkldnn_reorder_conv2d_weight"),
    )
)


def usable(x: Tensor) -> bool:
    """Whether oneDNN can be called by name: on the CPU, in float32, without a gradient."""
    plain = PRESENT and x.dtype == torch.float32 and x.device.type == "cpu"
    return plain and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, pad: Sizes, stride: Sizes | None = None
) -> Tensor:
    """`F.conv2d` or `F.conv3d` that does not leave oneDNN out where a single image is small.

    PyTorch tells small from large by the first four dims, and most of a correlation is in the
    fifth.
    """
    ones = (1,) * len(pad)
    stride = stride or ones
    if len(x) == 1 and usable(x):
        return torch.mkldnn_convolution(x, weight, bias, pad, stride, ones, 1)
    plain = F.conv2d if len(pad) == 2 else F.conv3d
    return plain(x, weight, bias, stride, pad)


class Packed:
    """The weights of one convolution, laid out for inputs of one shape."""

    def __init__(
        self, weight: Tensor, bias: Tensor, shape: torch.Size, before: Pair, behind: Pair,
        **how: Any,
    ) -> None:  # fmt: skip
        """Lay them out.

        Args:
            weight: (C', C / groups, k, k).
            bias: (C',).
            shape: (B, C, H, W).
            before: rows and columns of padding above and on the left.
            behind: those below and on the right.
            how: stride, dilation and groups of the convolution.
        """
        self._around: list[int] = []
        one_more = behind == (before[0] + 1, before[1] + 1)
        if one_more and how["groups"] == shape[1]:
            # one more behind is one more before, met by a row and a column of zeros in front
            weight, before = F.pad(weight, (1, 0, 1, 0)), behind
        elif before != behind:
            self._around, before = [before[1], behind[1], before[0], behind[0]], (0, 0)
            shape = F.pad(torch.empty(shape, device="meta"), self._around).shape
        self._how: Any = (before, how["stride"], how["dilation"], how["groups"])
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self._weight, self._bias = reorder(weight.to_mkldnn(), *self._how, list(shape)), bias

    def __call__(self, x: Tensor, plus: Tensor | None, activation: str) -> Tensor:
        """Convolve, add a tensor of the result's shape, and end with an activation of `RELU`."""
        if self._around:
            x = F.pad(x, self._around)
        given, (name, numbers) = (self._weight, self._bias, *self._how), RELU[activation]
        by_name = torch.ops.mkldnn._convolution_pointwise
        if plus is None:
            return by_name(x, *given, name, numbers, "")
        after = name if activation else None
        return by_name.binary(x, plus, *given, "add", 1.0, after, numbers, "")
