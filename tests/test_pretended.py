"""The pretended device refuses what a GPU would, and computes what the CPU computes."""

import copy
import importlib
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.pretended import DEVICE, pretended


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.GroupNorm(2, 4),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(64, 2),
    )


@pytest.mark.parametrize(
    "mix",
    [
        lambda here, there: here + there,
        lambda here, there: torch.cat([here, there]),
        lambda here, there: F.linear(there, here),
        lambda here, there: there.add_(here),
        lambda here, there: torch.where(here > 0, there, there),
        lambda here, there: torch.stack([there.sum(), here.sum()]),
        lambda here, there: here[there.argmax(dim=1)],
        lambda here, there: there.index_select(0, torch.tensor([0])),
        lambda here, there: torch.arange(3, device=DEVICE).repeat_interleave(torch.ones(3).long()),
    ],
)  # fmt: skip
def test_tensors_of_two_devices_do_not_meet(mix):
    here = torch.rand(3, 3)
    with pretended() as device, pytest.raises(RuntimeError, match="on the same device"):
        mix(here, here.to(device))


def test_single_numbers_and_indices_may_be_the_hosts():
    here = torch.rand(3, 3)
    with pretended() as device:
        there = here.to(device)
        assert torch.equal((there * torch.tensor(2.0)).cpu(), 2 * here)
        assert torch.equal(there[torch.tensor([2, 0])].cpu(), here[[2, 0]])
        there[torch.tensor([1])] = torch.tensor(5.0)
        there[0].copy_(torch.ones(3))
        assert torch.equal(there.cpu(), torch.stack([torch.ones(3), 5 * torch.ones(3), here[2]]))


@pytest.mark.parametrize("read", [Tensor.numpy, np.asarray, lambda x: np.stack([x, x])])
def test_no_array_is_made_of_what_is_not_on_the_host(read):
    with pretended() as device, pytest.raises((RuntimeError, TypeError)):
        read(torch.ones(2, device=device))


def test_everything_made_of_a_tensor_of_the_device_is_on_the_device():
    with pretended() as device:
        x = torch.tensor([[3.0, 1.0, 2.0]], device=device)
        made = [x.new_zeros(2), torch.zeros_like(x), torch.arange(2, device=device), *x.max(dim=1)]
        made += [x.double(), x.T, x[0], x > 1, copy.deepcopy(x), *x.unbind(1), nn.Parameter(x)]
        made += [torch.rand(2, device=device), x.new_tensor([1]), nn.Linear(2, 2).to(device).weight]
        assert {tensor.device for tensor in made} == {device}
        assert {x.cpu().device.type, x.to("cpu").device.type} == {"cpu"}
        assert x.tolist() == [[3, 1, 2]] and float(x.sum()) == 6


def test_views_share_memory_and_shapes_change_in_place():
    with pretended() as device:
        x = torch.zeros(2, 3, device=device)
        x[:, 1].add_(1)
        x.T.unsqueeze_(0)[0, 2] = 7
        assert x.tolist() == [[0, 1, 7], [0, 1, 7]]
        y = x.clone().unsqueeze_(0).squeeze_(0).t_()
        assert y.shape == (3, 2) and torch.equal(y.cpu(), x.cpu().T)
        quantiles = torch.quantile(x, torch.tensor([0.5, 1], device=device), dim=1)
        assert quantiles.tolist() == [[1, 1], [7, 7]]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_values_gradients_and_steps_are_those_of_the_cpu(optimizer):
    image, found = torch.rand(2, 3, 6, 6), []
    with pretended() as pretend:
        for device in (torch.device("cpu"), pretend):
            model = network().to(device)
            steps = optimizer(model.parameters(), lr=0.1, fused=True)
            for _ in range(3):
                steps.zero_grad()
                loss = F.cross_entropy(model(image.to(device)), torch.tensor([0, 1], device=device))
                loss.backward()
                steps.step()
            assert loss.device == device and model[0].weight.grad.device == device
            found.append([x.detach().cpu() for p in model.parameters() for x in (p, p.grad)])
    assert all(map(torch.equal, *found))


def test_files_hold_values():
    file = io.BytesIO()
    with pretended() as device:
        model = network().to(device)
        torch.save(model.state_dict(), file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        assert {type(x) for x in saved.values()} == {Tensor}
        model.load_state_dict({name: 2 * x for name, x in saved.items()})
        assert all(torch.equal(x.cpu(), 2 * saved[name]) for name, x in model.state_dict().items())


def test_inference_mode_still_turns_gradients_off():
    weight = torch.ones(1, requires_grad=True)

    @torch.inference_mode()
    def infer() -> list[bool]:
        seen = [(2 * weight).requires_grad]
        with torch.inference_mode(False):
            return [*seen, (2 * weight).requires_grad, torch.is_grad_enabled()]

    with pretended():
        assert infer() == [False, True, True] and torch.is_grad_enabled()


def test_all_is_as_before_afterwards():
    def state() -> list[object]:
        checks = (importlib.import_module(f"torch.optim.{name}") for name in ("adam", "sgd"))
        return [
            torch.__future__.get_overwrite_module_params_on_conversion(),
            torch._C._only_lift_cpu_tensors(),
            torch._C._InferenceMode,
            torch.autocast,
            hasattr(torch, DEVICE.type),
            *(module._device_dtype_check_for_fused for module in checks),
            torch._C._len_torch_dispatch_stack(),
        ]

    before = state()
    with pytest.raises(KeyError), pretended():
        assert all(a != b for a, b in zip(before, state(), strict=True))
        raise KeyError
    assert state() == before
    with torch.inference_mode():
        assert torch.zeros(1).is_inference()
