"""Whole training steps against a plain restatement of the recipes."""

import pytest
import torch

from mgcl.datasets.episodes import Episode
from mgcl.engine.forward import Setup
from mgcl.engine.loss import segmentation_loss
from mgcl.engine.meter import EpochMeter
from mgcl.engine.optim import build_optimizer, parameter_groups, poly_lr, set_lr
from mgcl.engine.training import train_one_epoch
from mgcl.model.backbone import Backbone
from mgcl.model.network import MGCL, SegmentationHead
from tests import oracle


class TinyBackbone(Backbone):
    """Three levels at strides 8, 16 and 32, with a BatchNorm."""

    channels = (4, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 8, 8)
        self.bn = torch.nn.BatchNorm2d(4)

    def levels(self, images):
        x8 = self.bn(self.conv(images))
        x16 = torch.nn.functional.avg_pool2d(x8, 2)
        return [x8, x16, torch.nn.functional.avg_pool2d(x16, 2)]


def networks(dtype: torch.dtype) -> tuple[MGCL, oracle.OracleMGCL]:
    torch.manual_seed(0)
    fast = MGCL(TinyBackbone(), SegmentationHead()).to(dtype)
    slow = oracle.OracleMGCL(TinyBackbone(), lambda net, image: net.levels(image)).to(dtype)
    slow.load_state_dict(fast.state_dict())
    return fast, slow


def batch(number: int, dtype: torch.dtype, size: int = 2, side: int = 64) -> Episode:
    """Float images, normalised already; labels without 255."""
    g = torch.Generator().manual_seed(number)
    images = torch.randn(size, 2, 3, side, side, generator=g, dtype=dtype)
    maps = torch.randint(0, 30, (size, 2, 8, 8), generator=g, dtype=torch.uint8)
    maps = maps.repeat_interleave(side // 8, -1).repeat_interleave(side // 8, -2)
    labels = (maps % 3 == 1).to(torch.uint8)
    ids = torch.arange(size)
    return Episode(
        images[:, 0], labels[:, 0], maps[:, 0], images[:, 1:], labels[:, 1:], maps[:, 1:], ids, ids
    )


def fast_steps(model: MGCL, kind: str, batches: list[Episode], rates: list[float]) -> list[float]:
    optimizer = build_optimizer(kind, model, lr=1, momentum=0.9, weight_decay=5e-4)
    losses = []
    for episode, rate in zip(batches, rates, strict=True):
        set_lr(optimizer, rate)
        result = train_one_epoch(
            model,
            optimizer,
            [episode],
            EpochMeter((0, 1), torch.device("cpu"), log_every=1),
            setup=Setup(torch.device("cpu")),
            loss="ce",
        )
        losses.append(result.loss)
    return losses


def slow_steps(
    model: oracle.OracleMGCL, kind: str, batches: list[Episode], rates: list[float]
) -> list[float]:
    optimiser = oracle.Optimiser(model, kind)
    losses = []
    for e, rate in zip(batches, rates, strict=True):
        query_masks = oracle.mask_stack(e.query_mask_map)
        support_masks = oracle.mask_stack(e.support_mask_maps[:, 0])
        support, label = e.support_images[:, 0], e.support_labels[:, 0]
        episode = (e.query_image, query_masks, support, label, support_masks)
        losses.append(oracle.train_step(model, optimiser, episode, e.query_label, rate))
    return losses


@pytest.mark.parametrize("kind, base", [("sgd", 1e-2), ("adam", 1e-3)])
def test_training_steps_equal_the_recipe_restated(kind, base):
    fast, slow = networks(torch.float64)
    batches = [batch(i, torch.float64) for i in range(4)]
    rates = [oracle.poly_rate(base, epoch, 4) for epoch in range(4)]
    got, expected = fast_steps(fast, kind, batches, rates), slow_steps(slow, kind, batches, rates)
    assert got == pytest.approx(expected, rel=1e-8)
    for (name, p), q in zip(fast.named_parameters(), slow.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, rtol=1e-5, atol=1e-9), name
        assert torch.allclose(p, q, rtol=1e-6, atol=1e-9), name
    start = networks(torch.float64)[0].state_dict()
    assert not torch.equal(start["backbone.conv.weight"], fast.backbone.conv.weight)


def test_twenty_float32_steps_give_the_definition_s_losses():
    fast, slow = networks(torch.float32)
    batches = [batch(i % 5, torch.float32) for i in range(20)]
    rates = [2e-3] * 20
    got = fast_steps(fast, "sgd", batches, rates)
    assert got == pytest.approx(slow_steps(slow, "sgd", batches, rates), rel=1e-5)
    assert got[-1] < got[0]


@pytest.mark.parametrize("base, epochs", [(1e-2, 50), (1e-3, 100)])
def test_the_schedule_is_the_published_one(base, epochs):
    rates = [poly_lr(base, epoch, epochs) for epoch in range(epochs)]
    assert rates == [oracle.poly_rate(base, epoch, epochs) for epoch in range(epochs)]
    assert rates[0] == base and rates[-1] > 0


def test_each_parameter_has_its_multiple_of_the_base_rate():
    model, _ = networks(torch.float32)
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {
        names[id(p)]: group["lr"] for group in parameter_groups(model, 1.0) for p in group["params"]
    }
    assert rates == {name: oracle.multiplier(name) for name in names.values()}
    assert rates["backbone.bn.bias"] == 1 / 500 and rates["backbone.bn.weight"] == 1 / 1000


def test_the_loss_is_the_mean_cross_entropy_of_all_pixels():
    logits = torch.randn(3, 2, 9, 8, dtype=torch.float64)
    label = torch.randint(0, 2, (3, 9, 8), dtype=torch.uint8)
    expected = oracle.loss(logits, label).item()
    assert segmentation_loss(logits, label).item() == pytest.approx(expected, rel=1e-12)
