import pytest
import torch
import torch.nn.functional as F

from mgcl.model.adaptation import adapt, loss_slope, pooled
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


def loss(logs, cells, fg, bg, others):
    """Cross-entropy and Dice of each support, as they are defined; (B, K, C, m), (B, K, m)."""
    cells = F.normalize(cells * logs.exp()[:, None, :, None], dim=2)
    sums = torch.stack([(cells * side[:, :, None]).sum(dim=3) for side in (fg, bg)])
    P, N = F.normalize(sums.sum(dim=2, keepdim=True) - others * sums, dim=3)
    p = (SCALE * ((P - N)[..., None] * cells).sum(dim=2) + BIAS).sigmoid()
    entropy = -(fg * p.log() + bg * (1 - p).log()).mean(dim=2)
    sizes = (p * (fg + bg)).sum(dim=2) + fg.sum(dim=2)
    dice = 1 - (2 * (p * fg).sum(dim=2) + 1) / (sizes + 1)
    return (entropy + dice).mean(dim=1).sum()


def test_the_slope_that_is_written_out_is_that_of_the_loss():
    cells, fg, bg = (x.double().flatten(-2) for x in supports(episodes=3))
    bg[0, :, :5] = 0.5
    logs = (0.3 * torch.randn(3, 8).double()).requires_grad_(True)
    others = torch.tensor([1.0, 1.0, 0.0]).double()[:, None, None]
    (expected,) = torch.autograd.grad(loss(logs, cells, fg, bg, others), logs)
    flat = cells.flatten(0, 1)
    shares = (x.flatten(0, 1)[:, None] for x in (fg, bg))
    given = flat, flat.square(), *shares, SCALE.double(), BIAS.double()
    found = loss_slope(logs.detach().exp(), *given, others=others[..., None])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 4)])
def test_cells_are_pooled_as_by_torch(size):
    x = torch.randn(2, 3, 4, *size)
    expected = F.avg_pool2d(x.flatten(0, 1), min(2, *size)).flatten(2).unflatten(0, (2, 3))
    torch.testing.assert_close(pooled(x), expected)


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
