"""A device that is not there: its tensors say that they are on `lazy:0`, and the CPU computes them.

What only a GPU would show is seen without one: tensors of two devices in one operation, arrays of
what is not on the host. Its operations come through Python, so that a test may look at them.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("lazy", 0)  # PyTorch has the name, and nothing that computes there
CPU = torch.device("cpu")

aten = torch.ops.aten
COPIES = {aten._to_copy, aten.copy_}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class Pretended(Tensor):
    """A tensor of the device; `host` holds its values."""

    host: Tensor

    @staticmethod
    def __new__(cls, host: Tensor) -> "Pretended":
        strides, offset = host.stride(), host.storage_offset()
        made = Tensor._make_wrapper_subclass(
            cls, host.size(), strides, offset, dtype=host.dtype, device=DEVICE
        )
        made.host = host
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None) -> Any:
        return compute(func, args, kwargs or {})

    def tolist(self) -> Any:  # PyTorch refuses it to all subclasses
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol: int) -> Any:  # a file keeps values and not this class
        return self.host.detach().__reduce_ex__(protocol)


class Everywhere(TorchDispatchMode):
    """Has also what no tensor of the device is given to: what makes new ones, and moves there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """What an operation gives, computed by the CPU, on the device that would compute it."""
    tensors: list[Tensor] = []

    def host(x: Tensor) -> Tensor:
        tensors.append(x)
        return x.host if isinstance(x, Pretended) else x

    hosts, named = each(args, host), {name: each(x, host) for name, x in kwargs.items()}
    given = {id(x.host): x for x in tensors if isinstance(x, Pretended)}
    if len({isinstance(x, Pretended) for x in of_one_device(func, args, tensors)}) > 1:
        raise RuntimeError(f"Expected all tensors to be on the same device: {func}")
    there = bool(given)
    if named.get("device") is not None:
        there = torch.device(named["device"]).type == DEVICE.type
        named["device"] = CPU

    def placed(x: Tensor) -> Tensor:
        return given[id(x)] if id(x) in given else Pretended(x) if there else x

    found = each(func(*hosts, **named), placed)
    if torch.Tag.inplace_view in func.tags and there:  # it takes the new shape of its host
        args[0].data = Pretended(args[0].host)
    return found


def each(x: Any, do: Callable[[Tensor], Tensor]) -> Any:
    """The same with every tensor changed; PyTorch's own pytrees take ten times as long."""
    if isinstance(x, Tensor):
        return do(x)
    return type(x)([each(y, do) for y in x]) if type(x) in (list, tuple) else x


def of_one_device(func: Any, args: tuple, tensors: list[Tensor]) -> list[Tensor]:
    """Those of an operation's tensors that a GPU wants on the same device."""
    if func.overloadpacket in COPIES:
        return []
    if func.overloadpacket in INDEXED:  # indices may be on the host, and one value that is put
        indices = [x for x in args[1] if isinstance(x, Pretended)]
        return [args[0], *indices, *(x for x in args[2:3] if x.dim())]
    return [x for x in tensors if x.dim() or torch.Tag.pointwise not in func.tags]


def in_thread() -> None:
    """Within `pretended`: the device for this thread, too, as long as it lives."""
    Everywhere().__enter__()


@contextmanager
def pretended() -> Iterator[torch.device]:
    """The device, for this thread; afterwards all is as it was."""
    autocast, future = torch.autocast, torch.__future__
    overwrites = future.get_overwrite_module_params_on_conversion()
    lifts = torch._C._only_lift_cpu_tensors()

    def cast(kind: str, *how: Any, **named: Any) -> AbstractContextManager:
        return nullcontext() if kind == DEVICE.type else autocast(kind, *how, **named)

    with (
        # knows no such device; what it would cast stays float32
        mock.patch.object(torch, "autocast", cast),
        # fused optimisers have a list of devices
        mock.patch("torch.optim.adam._device_dtype_check_for_fused"),
        mock.patch("torch.optim.sgd._device_dtype_check_for_fused"),
        # passes that are made again ask it for its random numbers
        mock.patch.object(torch, DEVICE.type, SimpleNamespace(_initialized=False), create=True),
        # under it operations come whole, not as those that they consist of
        mock.patch.object(torch._C, "_InferenceMode", lambda on: torch.set_grad_enabled(not on)),
        Everywhere(),
    ):
        try:
            # torch.tensor(..., device=) makes them on the host, and moves them
            torch._C._set_only_lift_cpu_tensors(True)
            # module.to() makes new parameters: assigned to `.data`, a tensor leaves its host behind
            future.set_overwrite_module_params_on_conversion(True)
            yield DEVICE
        finally:
            torch._C._set_only_lift_cpu_tensors(lifts)
            future.set_overwrite_module_params_on_conversion(overwrites)
