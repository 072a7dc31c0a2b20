"""A step of training asks the device for nothing: the host goes on while that computes."""

import traceback
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu import Case, batch_of, training_step
from benchmarks.inputs import episodes
from mgcl.build import build_network
from mgcl.config import Config, with_values
from mgcl.engine.forward import Setup
from mgcl.model import mgcd
from mgcl.model.fewshot import FewShotNetwork
from tests.pretended import CPU, DEVICE, INDEXED, Pretended, aten, pretended

# What they give, or how much of it, depends on values.
READING = {aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select}
READING |= {aten.repeat_interleave, aten._unique2, aten.unique_dim, aten.unique_consecutive}


class Waits(TorchDispatchMode):
    """What the host waits for, as `torch.cuda.set_sync_debug_mode` tells it, in `found`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        """The operation and the package's line, one a wait."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        result = func(*args, **(kwargs or {}))
        if waits(func, args, kwargs or {}, result):
            lines = [
                frame.line for frame in traceback.extract_stack() if "/mgcl/" in frame.filename
            ]
            self.found.append(f"{func.overloadpacket} at {lines[-1] if lines else '?'}")
        return result


def waits(func: Any, args: tuple, kwargs: dict[str, Any], result: Any) -> bool:
    """Whether the host waits for an operation; `result` is what that gave."""
    if func.overloadpacket is aten._to_copy:
        return args[0].device != result.device and not kwargs.get("non_blocking")
    if func.overloadpacket is aten.copy_:
        return args[0].device != args[1].device and True not in args[2:]
    if not args or not isinstance(args[0], Pretended):
        return False
    if func.overloadpacket in INDEXED:
        indices = [x for x in args[1] if x is not None]
        return any(x.device == CPU or x.dtype in (torch.bool, torch.uint8) for x in indices)
    return func.overloadpacket in READING


def network(head: str) -> FewShotNetwork:
    model = {"head": head, "backbone": "efficientnet_lite0", "weights": "none"}
    return build_network(with_values(Config(), model=model)).to(DEVICE)


@pytest.mark.parametrize(
    "look",
    [
        lambda x: float(x.sum()),
        lambda x: bool((x > 1).any()),
        lambda x: torch.equal(x, x),
        lambda x: x[x > 0],
        lambda x: x[torch.tensor([0])],
        lambda x: x.nonzero(),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.new_tensor([1.0]),
        lambda x: x.copy_(torch.zeros(2)),
        lambda x: torch.arange(2, device=DEVICE).repeat_interleave(x.long()),
    ],
)
def test_a_look_at_values_and_a_copy_that_is_not_left_alone_is_a_wait(look):
    with pretended() as device:
        x = torch.ones(2, device=device)
        with Waits() as waits:
            look(x)
    assert len(waits.found) == 1


def test_what_only_computes_is_no_wait():
    with pretended() as device:
        x = torch.ones(2, device=device, requires_grad=True)
        with Waits() as waits:
            y = F.softmax(x * 2, dim=0).index_select(0, torch.arange(2, device=device))
            (y + torch.full((), 3, device=device)).sum().backward()
            torch.ones(2).to(device, non_blocking=True)
            torch.where(x > 1, x, 0).topk(1).values.to(device)
            bool(torch.ones(1) > 0)  # a value that the host has
    assert waits.found == []


@pytest.mark.parametrize(
    ("head", "products"),
    [("mgcl", mgcd.CHUNK), ("mgcl", 1000), ("matcher", mgcd.CHUNK), ("mgcl+matcher", mgcd.CHUNK)],
)
def test_the_host_does_not_wait_in_a_training_step(head, products, monkeypatch):
    monkeypatch.setattr(mgcd, "CHUNK", products)  # held at a time: more are made again backward
    with pretended() as device:
        step = training_step(Case(device), network(head), batch_of(episodes(2, 1, 64)), "float32")
        step()
        with Waits() as waits:
            step()
    assert waits.found == []


@pytest.mark.parametrize("head", ["mgcl", "matcher", "mgcl+matcher"])
def test_the_host_does_not_wait_for_the_logits_of_a_batch_by_one_support(head):
    with pretended() as device, torch.inference_mode():
        setup, model = Setup(device), network(head).eval()
        batch = setup.move(batch_of(episodes(2, 1, 64)))
        with Waits() as waits:
            setup.forward(model, batch)
    assert waits.found == []
