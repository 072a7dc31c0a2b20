"""Parameter groups of every backbone, the schedule, and weight decay as L2."""

import pytest
import torch
from torch import nn

from mgcl.engine.optim import RATES, build_optimizer, parameter_groups, poly_lr, set_lr
from mgcl.model.network import MGCL, build_model
from tests import oracle

SIZES = {  # tensors of weights and of biases of the published networks
    "vgg16": (13, 13),  # convolutions
    "resnet50": (53 + 53, 53),  # convolutions without bias, norms with
    "resnet101": (104 + 104, 104),
}


def network(backbone: str) -> MGCL:
    """With all its parameters and no memory for their values."""
    with torch.device("meta"):
        return build_model(backbone, "none")


def sort_by_module(model: MGCL) -> dict[str, set[int]]:
    """The four groups from the modules' own attributes, not from the parameters' names."""
    groups: dict[str, set[int]] = {name: set() for name in RATES}
    for part, top in ("backbone", model.backbone), ("head", model.segmentation_head):
        for module in top.modules():
            own = dict(module.named_parameters(recurse=False))
            if own:
                assert own.keys() <= {"weight", "bias"}, module
                groups[f"{part} weights"].add(id(module.weight))
                if module.bias is not None:
                    groups[f"{part} biases"].add(id(module.bias))
    return groups


@pytest.mark.parametrize("backbone", [*SIZES, "efficientnet_lite0"])
def test_each_group_holds_exactly_its_parameters_at_its_rate(backbone):
    model = network(backbone)
    groups = {group["name"]: group for group in parameter_groups(model, 0.5)}
    held = {name: [id(p) for p in group["params"]] for name, group in groups.items()}
    assert {name: set(ids) for name, ids in held.items()} == sort_by_module(model)
    assert sum(map(len, held.values())) == len(list(model.parameters()))  # none twice
    rates = {name: group["lr"] for name, group in groups.items()}
    assert rates == {
        "head weights": 0.5,
        "head biases": 1.0,
        "backbone weights": 0.0005,
        "backbone biases": 0.001,
    }


@pytest.mark.parametrize("backbone", SIZES)
def test_the_groups_have_the_published_networks_sizes(backbone):
    groups = {g["name"]: g["params"] for g in parameter_groups(network(backbone), 1.0)}
    found = len(groups["backbone weights"]), len(groups["backbone biases"])
    assert found == SIZES[backbone]
    head = sum(p.numel() for name in ("head weights", "head biases") for p in groups[name])
    assert head == 700_818


def test_a_frozen_backbone_is_in_no_group():
    model = network("efficientnet_lite0")
    model.backbone.requires_grad_(False)
    groups = parameter_groups(model, 1.0)
    assert [group["name"] for group in groups] == ["head weights", "head biases"]


@pytest.mark.parametrize("base, epochs", [(1e-2, 50), (1e-3, 100)])
def test_every_groups_rate_follows_the_poly_schedule(base, epochs):
    model = nn.Module()
    model.backbone, model.head = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    optimizer = build_optimizer("sgd", model, lr=base, momentum=0.9, weight_decay=5e-4)
    for epoch in range(epochs):
        set_lr(optimizer, poly_lr(base, epoch, epochs))
        rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
        now = base * (1 - epoch / epochs) ** 0.9
        assert rates == pytest.approx(
            {
                "head weights": now,
                "head biases": 2 * now,
                "backbone weights": now / 1000,
                "backbone biases": now / 500,
            },
            rel=1e-12,
        )
        assert now == oracle.poly_rate(base, epoch, epochs)


def test_another_power_bends_the_schedule():
    assert poly_lr(1.0, 5, 10, power=2.0) == 0.25
    assert poly_lr(1.0, 5, 10, power=0.0) == 1.0


def step_without_gradient(name: str) -> float:
    """Where a head weight of 1 goes in a step at rate 0.1 whose loss has no gradient."""
    model = nn.Module()
    model.backbone, model.head = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.head.weight)
    optimizer = build_optimizer(name, model, lr=0.1, momentum=0.9, weight_decay=5e-4)
    model.head.weight.grad = torch.zeros(1, 1)
    optimizer.step()
    return model.head.weight.item()


def test_weight_decay_is_l2_in_the_gradient_with_both_optimisers():
    assert step_without_gradient("sgd") == pytest.approx(1 - 0.1 * 5e-4, abs=1e-7)
    # Adam scales the decayed gradient to 1, so the step is the whole rate; AdamW's would be 5e-5.
    assert step_without_gradient("adam") == pytest.approx(1 - 0.1, abs=1e-5)


@pytest.mark.parametrize("name, kind", [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)])
def test_the_optimiser_has_the_configured_constants(name, kind):
    model = nn.Sequential(nn.Linear(2, 2))
    optimizer = build_optimizer(name, model, lr=0.3, momentum=0.8, weight_decay=0.07)
    assert type(optimizer) is kind
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.07}
    if name == "sgd":
        assert {group["momentum"] for group in optimizer.param_groups} == {0.8}
