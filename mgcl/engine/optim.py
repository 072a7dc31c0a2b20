"""The published optimisers, their parameter groups and their schedule."""

import torch
from torch import nn

# Multipliers of the base rate: head weights, head biases, backbone weights, backbone biases.
RATES = {
    "head weights": 1.0,
    "head biases": 2.0,
    "backbone weights": 1 / 1000,
    "backbone biases": 1 / 500,
}


def parameter_groups(model: nn.Module, lr: float) -> list[dict]:
    """Sort the trainable parameters by multiplier; a group without parameters is left out.

    Args:
        model: with a `backbone`; all else is the head. A bias is what is named so, of norms too.
        lr: base rate.

    Returns:
        torch optimiser groups with `name` and `multiplier` beside `params` and `lr`.
    """
    members: dict[str, list[nn.Parameter]] = {name: [] for name in RATES}
    for name, parameter in model.named_parameters():
        part = "backbone" if name.startswith("backbone.") else "head"
        kind = "biases" if name.endswith(".bias") else "weights"
        if parameter.requires_grad:
            members[f"{part} {kind}"].append(parameter)
    return [
        {"name": name, "multiplier": RATES[name], "lr": lr * RATES[name], "params": parameters}
        for name, parameters in members.items()
        if parameters
    ]


def build_optimizer(
    name: str, model: nn.Module, *, lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """SGD with momentum, or Adam; weight decay is L2 in the gradient with both.

    Args:
        name: "sgd" or "adam".
        model: see `parameter_groups`.
        lr: base rate.
        momentum: of SGD.
        weight_decay: on every parameter.
    """
    groups = parameter_groups(model, lr)
    if name == "sgd":
        return torch.optim.SGD(
            groups, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True
        )
    return torch.optim.Adam(groups, lr=lr, weight_decay=weight_decay, fused=True)


def poly_lr(lr: float, epoch: int, epochs: int, power: float = 0.9) -> float:
    """Base rate of an epoch, counted from 0: lr * (1 - epoch / epochs) ** power."""
    return lr * (1 - epoch / epochs) ** power


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its multiple of the base rate `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["multiplier"]
