import pytest
import torch
import torch.nn.functional as F

from mgcl.model import matcher, matching
from mgcl.model.backbone import Backbone
from mgcl.model.pretrained import build_backbone


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def unit(x, dim):
    return x / x.norm(dim=dim, keepdim=True)


def slow_match(query, support, label_share):
    """MATCHER.md's formulas for one query, cell by cell: (C, n), (C, m), (m,) -> (n,)."""
    P = unit((support * label_share).sum(1), 0)
    N = unit((support * (1 - label_share)).sum(1), 0)
    inside, outside = support[:, label_share > 0.5], support[:, label_share < 0.1]
    attention = torch.stack(
        [
            0.1 * (((inside.T @ q) / 0.1).exp().mean().log())
            - 0.1 * (((outside.T @ q) / 0.1).exp().mean().log())
            for q in query.T
        ]
    )
    scores = (P @ query - N @ query + attention) / 2
    order = scores.argsort(descending=True)
    n = query.shape[1]
    P = unit(P + unit(query[:, order[: round(0.05 * n)]].mean(1), 0), 0)
    N = unit(N + unit(query[:, order[n - round(0.3 * n) :]].mean(1), 0), 0)
    return (P @ query - N @ query + attention) / 2


def test_match_is_the_definition():
    query, support = (unit(torch.randn(2, 20, n, dtype=torch.double), 1) for n in (64, 128))
    share = torch.rand(2, 128, dtype=torch.double)
    share[:, :40] = 0
    found = matching.match(query, support, share, 1 - share)
    wanted = torch.stack([slow_match(*case) for case in zip(query, support, share, strict=True)])
    torch.testing.assert_close(found, wanted)


def test_a_support_that_lies_twice_changes_nothing():
    query, support = (unit(torch.randn(2, 20, 64, dtype=torch.double), 1) for _ in range(2))
    share = torch.rand(2, 64, dtype=torch.double)
    once = matching.match(query, support, share, 1 - share)
    share = torch.cat([share, share], 1)
    twice = matching.match(query, torch.cat([support, support], 2), share, 1 - share)
    torch.testing.assert_close(once, twice)


def test_what_does_not_count_in_the_label_counts_on_neither_side():
    query, support = (unit(torch.randn(1, 8, 16), 1) for _ in range(2))
    label = torch.randint(0, 2, (1, 4, 4))
    shares = matching.class_share(F.pad(label, (0, 0, 0, 4), value=255), (8, 4))
    found = matching.match(query, torch.cat([support, torch.randn(1, 8, 16)], 2), *shares)
    torch.testing.assert_close(
        found, matching.match(query, support, *matching.class_share(label, (4, 4)))
    )


def test_an_image_without_the_class_is_a_negative_support():
    """What looks like the class and is marked as not being it lowers the scores there."""
    thing, other, ground = unit(torch.randn(3, 8), 1)
    query = torch.stack([thing, other, ground, ground], 1)[None]
    support = torch.stack([thing, other * 0.5 + thing, ground, ground], 1)[None]
    support = unit(support, 1)
    share = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    without = matching.match(query, support, share, 1 - share)
    negative = torch.stack([other, other, ground, ground], 1)[None]
    share = F.pad(share, (0, 4))
    with_negative = matching.match(query, torch.cat([support, negative], 2), share, 1 - share)
    assert with_negative[0, 1] < without[0, 1] - 0.1
    assert with_negative[0, 0] > with_negative[0, 1]


@pytest.mark.parametrize("label", [0, 1], ids=["no foreground", "no background"])
def test_a_label_of_one_side_gives_numbers(label):
    query, support = (unit(torch.randn(1, 8, 16), 1) for _ in range(2))
    shares = matching.class_share(torch.full((1, 4, 4), label), (4, 4))
    assert matching.match(query, support, *shares).isfinite().all()


def test_the_map_is_drawn_towards_the_masks_means_and_left_alone_outside():
    scores = torch.randn(2, 4, 4)
    maps = torch.zeros(2, 16, 16, dtype=torch.uint8)
    maps[:, :8], maps[:, 8:, :4] = 1, 200
    found = matching.over_masks(scores, maps, (16, 16))
    fine = F.interpolate(scores[:, None], size=(16, 16), mode="bilinear", align_corners=False)[:, 0]
    for image in range(2):
        for number in (1, 200):
            here = maps[image] == number
            wanted = 0.8 * fine[image][here].mean() + 0.2 * fine[image][here]
            torch.testing.assert_close(found[image][here], wanted)
        here = maps[image] == 0
        torch.testing.assert_close(found[image][here], fine[image][here])


def test_the_metric_starts_as_the_taps_weights_and_learns_a_number_a_channel_and_a_tap():
    taps = {i: unit(torch.randn(1, c, 16), 1) for i, c in enumerate((3, 4, 5, 6, 7))}
    metric = matcher.Metric({2: 1.0, 4: 0.5}, (3, 4, 5, 6, 7))
    wanted = unit(torch.cat([taps[2], 0.5 * taps[4]], 1), 1)
    torch.testing.assert_close(metric(taps), wanted)
    assert sum(p.numel() for p in metric.parameters()) == 2 + 5 + 7


@pytest.mark.parametrize("name", ["resnet50", "vgg16", "efficientnet_lite0"])
def test_every_backbone_has_five_taps_of_which_its_levels_are_three(name):
    backbone = build_backbone(name, "none").eval()
    images = torch.randint(0, 255, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        taps, levels = backbone.taps(images), backbone(images)
    assert [tap.shape[1] for tap in taps] == list(backbone.tap_channels)
    assert all(torch.equal(a, b) for a, b in zip(taps[::2], levels, strict=True))
    assert [tuple(level.shape[2:]) for level in levels] == [(8, 8), (4, 4), (2, 2)]
    assert taps[3].shape != taps[4].shape or not torch.equal(taps[3], taps[4])


def test_a_backbone_of_three_levels_alone_has_taps_too():
    class Levels(Backbone):
        channels = (2, 3, 4)

        def levels(self, images):
            return [
                torch.ones(1, c, 64 // s, 64 // s)
                for c, s in zip((2, 3, 4), (8, 16, 32), strict=True)
            ]

    backbone = Levels()
    assert [tap.shape[1] for tap in backbone.taps(torch.zeros(1, 3, 64, 64))] == [2, 3, 3, 4, 4]
    assert backbone.tap_channels == (2, 3, 3, 4, 4)


def test_a_turned_image_has_the_turned_features_and_in_training_those_of_its_own_pose():
    network = matcher.Matcher(build_backbone("efficientnet_lite0", "none"), trained=True).eval()
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    maps = torch.zeros(2, 64, 64, dtype=torch.uint8)
    with torch.inference_mode():
        upright, turned = (
            network.encode(x, maps).levels for x in (images, images.rot90(1, (2, 3)))
        )
        own = network.train().encode(images, maps).levels
        plain = matcher.Matcher(network.backbone, trained=True, turns=1).eval().encode(images, maps)
    for before, after in zip(upright, turned, strict=True):
        torch.testing.assert_close(before.rot90(1, (2, 3)), after, rtol=1e-4, atol=1e-5)
    for before, trained, once in zip(upright, own, plain.levels, strict=True):
        assert torch.equal(trained, once) and not torch.allclose(before, once, atol=1e-3)


def test_a_few_negative_cells_count_beside_hundreds_of_background_cells():
    foreground = torch.zeros(1, 3, 64)
    foreground[0, 0, :8] = 1
    background = torch.zeros(1, 3, 64)
    background[0, 0, 8:] = 1  # 56 cells of a support that shows the class
    background[0, 1, :2] = 1  # two that a user marked as something else
    background[0, 2] = 1  # a whole image without the class
    found = matching.weigh_negatives(foreground, background)
    torch.testing.assert_close(found[0, [0, 2]], background[0, [0, 2]], rtol=0, atol=0)
    assert found[0, 1, :2].tolist() == [14, 14] and not found[0, 1, 2:].any()


def test_supports_that_serve_all_queries_are_compared_once():
    query, support = unit(torch.randn(3, 20, 64), 1), unit(torch.randn(1, 20, 128), 1)
    share = torch.rand(1, 128).round()
    share[:, :9], background = 0, 1 - share
    background[:, 5:9] = 0  # on neither side
    once = matching.match(query, support, share, background)
    each = [x.expand(3, *x.shape[1:]).clone() for x in (support, share, background)]
    torch.testing.assert_close(once, matching.match(query, *each), rtol=1e-5, atol=1e-6)
