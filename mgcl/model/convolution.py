"""Convolutions whose weights are made of several parameters, and what follows them.

Without gradients the weights are made once and kept until a parameter changes. On a CPU oneDNN is
then called by name: PyTorch leaves it out where an input is small, lays the weights out for it in
every call, and runs what follows as passes of their own. Called by name, the weights are laid out
once, and a sum and a ReLU are part of the convolution. The numbers differ in their last bits.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

Pair = tuple[int, int]  # rows and columns
Sizes = tuple[int, ...]
Fold = Callable[[], tuple[Tensor, Tensor]]

# what may follow a convolution, and what oneDNN calls it
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], str, list[Any]]] = {
    "": (lambda x: x, "none", []),
    "relu": (torch.relu_, "relu", []),
    "relu6": (partial(F.relu6, inplace=True), "hardtanh", [0, 6]),
}

PRESENT = torch.backends.mkldnn.is_available() and all(
    hasattr(of, name)  # what PyTorch's compiler calls, too, but no public name
    for of, name in (
        (torch.ops.mkldnn, "_convolution_pointwise"),
        (torch._C._nn, "mkldnn_reorder_conv2d_weight"),
    )
)


def convolve(
    x: Tensor,
    conv: nn.Conv2d,
    parameters: Sequence[Tensor] | None = None,
    fold: Fold | None = None,
    padding: tuple[Pair, Pair] | None = None,
    *,
    plus: Tensor | None = None,
    activation: str = "",
) -> Tensor:
    """`activation(conv(x) + plus)`.

    Args:
        x: (B, C, H, W).
        conv: its stride, dilation, groups and padding.
        parameters: all that the weights are made of; those of the convolution.
        fold: makes the weights and the biases; as the convolution has them.
        padding: before and behind, rows and columns, in place of the convolution's own.
        plus: of the result's shape; what `fold`, `plus` and `activation` do is differentiable.
        activation: of `ACTIVATIONS`.
    """
    if parameters is None or fold is None:
        assert conv.bias is not None
        own_parameters = (conv.weight, conv.bias)
        parameters, fold = own_parameters, lambda: own_parameters
    own: Any = conv.padding
    before, behind = padding or (own, own)
    by_name = usable(x)
    one_more = behind == (before[0] + 1, before[1] + 1)
    grown = by_name and one_more and conv.groups == x.shape[1]
    if before != behind and not grown:
        x = F.pad(x, (before[1], behind[1], before[0], behind[0]))
        behind = (0, 0)
    how = (behind, conv.stride, conv.dilation, conv.groups)
    if by_name:
        threads = torch.get_num_threads()  # laid out for another number it is slow
        pack = partial(Packed, shape=x.shape, how=how, grown=grown)
        key = (x.shape, behind, grown, threads)
        return kept(conv, parameters, key, fold, pack)(x, plus, activation)
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        weight, bias = fold()
    else:
        weight, bias = kept(conv, parameters, None, fold)
    y = F.conv2d(x, weight, bias, conv.stride, behind, conv.dilation, conv.groups)
    if plus is not None:
        y = y.add_(plus)
    return ACTIVATIONS[activation][0](y)


def run(layers: nn.Sequential, x: Tensor) -> Tensor:
    """`layers(x)`, a ReLU behind a convolution being part of it."""
    done = False
    for layer, following in pairwise([*layers, nn.Identity()]):
        if isinstance(layer, nn.Conv2d):
            done = isinstance(following, nn.ReLU)
            x = convolve(x, layer, activation="relu" if done else "")
        elif not done:
            x = layer(x)
        else:
            done = False
    return x


def convolve_3d(x: Tensor, weight: Tensor, pad: Sizes, stride: Sizes) -> Tensor:
    """`F.conv3d` that does not leave oneDNN out where a single correlation is small.

    PyTorch tells small from large by the first four dims, and most of a correlation is in the
    fifth.
    """
    if len(x) == 1 and usable(x):
        return torch.mkldnn_convolution(x, weight, None, pad, stride, (1, 1, 1), 1)
    return F.conv3d(x, weight, None, stride, pad)


def usable(x: Tensor) -> bool:
    """Whether oneDNN can be called by name: on the CPU, in float32, without a gradient."""
    plain = PRESENT and x.dtype == torch.float32 and x.device.type == "cpu"
    alone = torch.is_grad_enabled() or torch.compiler.is_compiling()
    return plain and not alone and not torch.is_autocast_enabled("cpu")


class Packed:
    """The weights of one convolution, laid out by oneDNN for inputs of one shape."""

    def __init__(
        self, weight: Tensor, bias: Tensor, *, shape: torch.Size, how: tuple[Any, ...], grown: bool
    ) -> None:
        """Lay them out.

        Args:
            weight: (C', C / groups, k, k).
            bias: (C',).
            shape: (B, C, H, W).
            how: padding, stride, dilation and groups.
            grown: there is one row and one column less of padding in front than behind, so that
                the kernel meets those in front with zeros.
        """
        if grown:
            weight = F.pad(weight, (1, 0, 1, 0))
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self._weights = (reorder(weight.to_mkldnn(), *how, list(shape)), bias, *how)

    def __call__(self, x: Tensor, plus: Tensor | None, activation: str) -> Tensor:
        """Convolve, add a tensor of the result's shape, and end with one of `ACTIVATIONS`."""
        _, name, numbers = ACTIVATIONS[activation]
        by_name = torch.ops.mkldnn._convolution_pointwise
        if plus is None:
            return by_name(x, *self._weights, name, numbers, "")
        after = name if activation else None
        return by_name.binary(x, plus, *self._weights, "add", 1.0, after, numbers, "")


class _Kept(NamedTuple):
    """What was made of a convolution's parameters."""

    state: tuple[int, ...]
    made: dict[Any, Any]
    tensors: list[Tensor]
    """Held, so that no other ones take their addresses."""


_KEPT: WeakKeyDictionary[nn.Conv2d, _Kept] = WeakKeyDictionary()


def kept(
    conv: nn.Conv2d,
    parameters: Sequence[Tensor],
    key: Any,
    fold: Fold,
    make: Callable[[Tensor, Tensor], Any] = lambda *folded: folded,
) -> Any:
    """What `make` makes of weights and biases, until a parameter changes; by two keys, the last.

    A change in place through `weight.data` is one that PyTorch does not count, and is not seen.
    Nothing in `_KEPT` is changed but replaced: several threads may encode.
    """
    if any(t.is_inference() for t in parameters):  # changes of these are not counted at all
        return make(*fold())
    state = tuple(number for t in parameters for number in (t.data_ptr(), t._version))
    found = _KEPT.get(conv)
    made = found.made if found and found.state == state else {}
    if key not in made:
        _count_steps()
        made = dict([*made.items()][-1:]) | {key: make(*fold())}
        _KEPT[conv] = _Kept(state, made, [t.detach() for t in parameters])
    return made[key]


@cache
def _count_steps() -> None:
    """From now on: a fused optimizer does not count that it changes weights."""

    def count(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                torch.autograd.graph.increment_version(parameter)

    register_optimizer_step_post_hook(count)
