import pytest
import torch
import torch.nn.functional as F

from mgcl.model.adaptation import adapt
from mgcl.model.matcher import Matcher
from mgcl.model.pretrained import build_backbone

SCALE, BIAS = torch.tensor(10.0), torch.tensor(-1.0)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def supports(episodes=2, shots=3, channels=8, side=4):
    cells = F.normalize(torch.randn(episodes, shots, channels, side, side), dim=2)
    foreground = (torch.rand(episodes, shots, side, side) > 0.6).float()
    return cells, foreground, 1 - foreground


def test_what_the_supports_share_counts_more_and_what_tells_nothing_less():
    _, foreground, _ = supports(side=8)
    foreground = F.interpolate(foreground[:, :, ::2, ::2], scale_factor=2)  # of whole pooled cells
    shared = torch.where(foreground > 0, 1.0, -1.0)
    noise = 2 * torch.randn(*shared.shape)
    cells = F.normalize(torch.stack([shared, noise], dim=2), dim=2)
    factors = adapt(cells, foreground, 1 - foreground, scale=SCALE, bias=BIAS)
    assert (factors[:, 0] > 1.2).all() and (factors[:, 1] < 0.8).all()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_episodes_do_not_touch_each_other_and_gradients_need_not_be_on(mode):
    with mode():
        given = supports()
        both = adapt(*given, scale=SCALE, bias=BIAS)
        second = adapt(*(x[1:] for x in given), scale=SCALE, bias=BIAS)
    torch.testing.assert_close(both[1:], second)
    assert not both.requires_grad and (both != 1).any()


def test_the_only_support_that_shows_the_class_finds_itself_beside_episodes_of_several():
    cells, foreground, _ = supports(episodes=3)
    foreground[0, 1:] = 0  # two show what is not the class
    foreground[1] = 0
    given = cells, foreground, 1 - foreground
    factors = adapt(*given, scale=SCALE, bias=BIAS)
    alone = adapt(*(x[:1] for x in given), scale=SCALE, bias=BIAS)
    assert (alone != 1).any() and (factors[1] == 1).all() and (factors[2] != 1).any()
    torch.testing.assert_close(factors[:1], alone)


def test_one_support_counts_what_tells_its_class_from_the_rest():
    _, foreground, _ = supports(shots=1, side=8)
    foreground = F.interpolate(foreground[:, :, ::2, ::2], scale_factor=2)
    tells = torch.where(foreground > 0, 1.0, -1.0)
    noise = 2 * torch.randn(*tells.shape)
    cells = F.normalize(torch.stack([tells, noise], dim=2), dim=2)
    factors = adapt(cells, foreground, 1 - foreground, scale=SCALE, bias=BIAS)
    assert (factors[:, 0] > 1).all() and (factors[:, 1] < 1).all()


def test_what_does_not_count_has_no_part():
    cells, foreground, background = supports(side=4)
    foreground[:, :, 2:] = background[:, :, 2:] = 0
    once = adapt(cells, foreground, background, scale=SCALE, bias=BIAS)
    cells[:, :, :, 2:] = F.normalize(torch.randn_like(cells[:, :, :, 2:]), dim=2)
    torch.testing.assert_close(adapt(cells, foreground, background, scale=SCALE, bias=BIAS), once)


def test_supports_that_serve_many_queries_give_what_each_query_gets_alone():
    network = Matcher(build_backbone("efficientnet_lite0", "none"), trained=True, turns=1).eval()
    images = torch.randint(0, 255, (5, 3, 64, 64), dtype=torch.uint8)
    maps = torch.zeros(5, 64, 64, dtype=torch.uint8)
    labels = torch.randint(0, 2, (1, 3, 64, 64))
    with torch.inference_mode():
        encoded = network.encode(images, maps).split()
        query, given = network.encode(images[3:], maps[3:]), encoded[:3]
        together = network.compare(query, given, labels.expand(2, -1, -1, -1), maps[3:], (64, 64))
        repeated = [one.expand(2) for one in given]
        apart = network.compare(query, repeated, labels.expand(2, -1, -1, -1), maps[3:], (64, 64))
        labels = 1 - labels
        again = network.compare(query, given, labels.expand(2, -1, -1, -1), maps[3:], (64, 64))
        repeated = [one.clone() for one in given]
        fresh = network.compare(query, repeated, labels.expand(2, -1, -1, -1), maps[3:], (64, 64))
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)
    assert torch.equal(again, fresh)  # other labels of the same images are adapted to anew
    assert not torch.equal(again, together)
