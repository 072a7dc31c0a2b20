"""This program's network and the definitional one, with the same weights, and a step of each."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from benchmarks.inputs import Inputs
from mgcl.engine.loss import segmentation_loss
from mgcl.engine.optim import build_optimizer
from mgcl.model.network import MGCL, build_model
from tests import oracle


class Pair(NamedTuple):
    """Both programs' networks."""

    ours: MGCL
    reference: oracle.OracleMGCL


def _lite_levels(backbone: nn.Module, image: Tensor) -> list[Tensor]:
    """EfficientNet-Lite0 through its package's own blocks, norms apart."""
    x = torch.nn.functional.relu6(backbone._bn0(backbone._conv_stem(image)))
    levels = []
    for i, block in enumerate(backbone._blocks):
        x = block(x)
        if i in backbone.blocks[::2]:
            levels.append(x)
    return levels


def build_pair(backbone: str, seed: int = 0) -> Pair:
    """Both networks on one backbone with random weights; the reference's in plain layout."""
    torch.manual_seed(seed)
    ours = build_model(backbone, "none").train()
    if backbone == "resnet50":
        reference = oracle.OracleMGCL(resnet50(), oracle.resnet_features)
    else:
        from mgcl.model.pretrained import build_backbone

        plain = build_backbone(backbone, "none").to(memory_format=torch.contiguous_format)
        reference = oracle.OracleMGCL(plain, _lite_levels)
        oracle.IMAGENET_MEAN, oracle.IMAGENET_STD = ours.backbone.mean, ours.backbone.std
    weights = {k: v.contiguous() for k, v in ours.state_dict().items()}
    reference.load_state_dict(weights, strict=backbone != "resnet50")  # the oracle keeps its `fc`
    return Pair(ours, reference.train())


def training_steps(pair: Pair, inputs: Inputs) -> tuple[Callable[[], object], Callable[[], object]]:
    """A 1-shot training step of either program on `inputs`, SGD as published."""
    return _our_step(pair.ours, inputs), _reference_step(pair.reference, inputs)


def _our_step(model: MGCL, inputs: Inputs) -> Callable[[], object]:
    optimiser = build_optimizer("sgd", model, lr=1e-6, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        loss = segmentation_loss(model(*inputs.ours())[:, 0], inputs.query_label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def _reference_step(model: oracle.OracleMGCL, inputs: Inputs) -> Callable[[], object]:
    optimiser = oracle.Optimiser(model, "sgd")
    query, query_masks, supports, labels, masks = inputs.reference()
    episode = (query, query_masks, supports[:, 0], labels[:, 0], masks[:, 0])
    return lambda: oracle.train_step(model, optimiser, episode, inputs.query_label, 1e-6)


def build_floor(pair: Pair) -> nn.Module:
    """The backbone as its library gives it, frozen norms apart, in channels-last layout."""
    plain = copy.deepcopy(pair.reference.backbone).to(memory_format=torch.channels_last).eval()

    class Floor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = plain

        def forward(self, images: Tensor) -> list[Tensor]:
            images = oracle.normalise(images).contiguous(memory_format=torch.channels_last)
            return list(pair.reference.features(self.backbone, images))

    return Floor()


def backbone_step(backbone: nn.Module, inputs: Inputs) -> Callable[[], object]:
    """Forward and backward of the backbone alone on query and support: the floor of a step."""
    images = torch.cat([inputs.query, inputs.supports[:, 0]])

    def step() -> None:
        backbone.zero_grad()
        levels = backbone(images)
        torch.autograd.backward(levels, [torch.ones_like(f) for f in levels])

    return step
