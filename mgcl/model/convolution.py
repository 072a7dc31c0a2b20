"""Convolutions whose weights are made of several parameters, and what follows them.

Without gradients the weights are made once and kept until a parameter changes. On a CPU oneDNN is
then called by name: PyTorch leaves it out where an input is small, lays the weights out for it in
every call, and runs what follows as passes of their own. Called by name, the weights are laid out
once, and a sum and a ReLU are part of the convolution. The numbers differ in their last bits.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

Pair = tuple[int, int]  # rows and columns

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
        (torch.ops.mkldnn, "_convolution_pointwise_"),
        (torch._C._nn, "mkldnn_reorder_conv2d_weight"),
        (torch._C._nn, "mkldnn_reorder_conv3d_weight"),
        (torch._C, "_get_mkldnn_enabled"),
    )
)


class Weights(NamedTuple):
    """Weights (C', C / groups, k, k) and biases (C',) of a convolution, or no biases."""

    parameters: Sequence[Tensor]
    """All that they are made of; what is made otherwise of the same ones would be taken for it."""
    make: Callable[[], tuple[Tensor, Tensor | None]]


def convolve(
    x: Tensor,
    conv: nn.Conv2d,
    weights: Weights | None = None,
    padding: tuple[Pair, Pair] | None = None,
    *,
    plus: Tensor | None = None,
    spent: bool = False,
    activation: str = "",
) -> Tensor:
    """`activation(conv(x) + plus)`, differentiable.

    Args:
        x: (B, C, H, W), or (B, C, H, W, N): N images that are convolved alike.
        conv: its stride, dilation, groups and padding in numbers.
        weights: in place of the convolution's own.
        padding: before and behind, rows and columns, in place of the convolution's own.
        plus: of the result's shape.
        spent: nobody needs `plus` any more: the result may take its memory.
        activation: of `ACTIVATIONS`.
    """
    if weights is None:
        own = conv.weight, conv.bias
        weights = Weights([p for p in own if p is not None], lambda: own)
    usual: Any = conv.padding
    before, behind = padding or (usual, usual)
    by_name = usable(x)
    # one more behind is one more before, met by a row and a column of zeros in front
    grown = by_name and before != behind and conv.groups == x.shape[1]
    grown = grown and behind == (before[0] + 1, before[1] + 1)
    if before != behind and not grown:
        x, behind = F.pad(x, (before[1], behind[1], before[0], behind[0])), (0, 0)
    images = x.dim() - 4  # dims of them behind rows and columns
    alone, none = (1,) * images, (0,) * images
    how = (*behind, *none), (*conv.stride, *alone), (*conv.dilation, *alone), conv.groups
    if by_name:
        key = (x.shape, how, grown, torch.get_num_threads())  # laid out for others it is slow
        pack = partial(Packed, shape=x.shape, how=how, grown=grown)
        return kept(conv, weights, key, pack)(x, plus, spent, activation)
    if _written_out():
        weight, bias = weights.make()
    else:
        weight, bias = kept(conv, weights)
    pad, stride, dilation, groups = how
    if images:
        y = F.conv3d(x, weight[..., None], bias, stride, pad, dilation, groups)
    else:
        y = F.conv2d(x, weight, bias, stride, pad, dilation, groups)
    if plus is not None:
        y = y.add_(plus)
    return ACTIVATIONS[activation][0](y)


def run(layers: nn.Sequential, x: Tensor) -> Tensor:
    """`layers(x)`; without gradients a convolution takes up the ReLU behind it, and hooks rest."""
    if _written_out():
        return layers(x)
    rest = list(layers)
    while rest:
        layer = rest.pop(0)
        if isinstance(layer, nn.Conv2d):
            fused = bool(rest) and isinstance(rest[0], nn.ReLU)
            x = convolve(x, layer, activation="relu" if fused else "")
            rest = rest[fused:]
        else:
            x = layer(x)
    return x


def _written_out() -> bool:
    """Whether all is PyTorch's own operations: for gradients, or for its compiler."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling()


def usable(x: Tensor) -> bool:
    """Whether oneDNN can be called by name: on the CPU, in float32, without a gradient."""
    if _written_out():
        return False
    plain = PRESENT and x.dtype == torch.float32 and x.device.type == "cpu"
    return plain and torch._C._get_mkldnn_enabled() and not torch.is_autocast_enabled("cpu")


class Packed:
    """The weights of one convolution, laid out by oneDNN for inputs of one shape."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        shape: torch.Size,
        how: tuple[Any, ...],
        grown: bool,
    ) -> None:
        """Lay them out.

        Args:
            weight: (C', C / groups, k, k).
            bias: (C',).
            shape: of the inputs, as `convolve` takes them.
            how: padding, stride, dilation and groups.
            grown: by a row and a column of zeros in front.
        """
        if grown:
            weight = F.pad(weight, (1, 0, 1, 0))
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        if len(shape) == 5:
            weight, reorder = weight[..., None], torch._C._nn.mkldnn_reorder_conv3d_weight
        self._weights = (reorder(weight.to_mkldnn(), *how, list(shape)), bias, *how)

    def __call__(self, x: Tensor, plus: Tensor | None, spent: bool, activation: str) -> Tensor:
        """As `convolve`."""
        act, name, numbers = ACTIVATIONS[activation]
        if plus is None:
            by_name = torch.ops.mkldnn._convolution_pointwise
            return by_name(x, *self._weights, name, numbers, "")
        after = "relu" if activation == "relu" else None  # all that it knows behind a sum
        how = (*self._weights, "add", 1.0, after, [], "")
        if spent:
            y = torch.ops.mkldnn._convolution_pointwise_.binary(plus, x, *how)
        else:
            y = torch.ops.mkldnn._convolution_pointwise.binary(x, plus, *how)
        return y if after else act(y)


class _Kept(NamedTuple):
    """What was made of a convolution's parameters."""

    state: tuple[int, ...]
    made: dict[Any, Any]
    tensors: list[Tensor]
    """Held, so that no other ones take their addresses."""


_KEPT: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()


def kept(
    conv: nn.Conv2d,
    weights: Weights,
    key: Any = None,
    make: Callable[[Tensor, Tensor | None], Any] = lambda *both: both,
) -> Any:
    """What `make` makes of weights and biases, until a parameter changes; by two keys, the last.

    Changes that PyTorch does not count are not seen: in place through `weight.data` or NumPy, or of
    a collective (`torch.distributed.all_reduce(weight)`). After them, `forget`.
    Nothing in `_KEPT` is changed but replaced: several threads may encode.
    """
    parameters = weights.parameters
    if any(t.is_inference() for t in parameters):  # changes of these are not counted at all
        return make(*weights.make())
    state = tuple(number for t in parameters for number in (t.data_ptr(), t._version))
    found = _KEPT.get(conv)
    made = found.made if found and found.state == state else {}
    if key not in made:
        _count_steps()
        made = dict([*made.items()][-1:]) | {key: make(*weights.make())}
        _KEPT[conv] = _Kept(state, made, [t.detach() for t in parameters])
    return made[key]


def forget(network: nn.Module) -> None:
    """Make all that is kept of a network's convolutions anew."""
    for module in network.modules():
        _KEPT.pop(module, None)


@cache
def _count_steps() -> None:
    """From now on: a fused optimizer does not count that it changes weights."""

    def count(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    torch.autograd.graph.increment_version(parameter)

    register_optimizer_step_post_hook(count)
