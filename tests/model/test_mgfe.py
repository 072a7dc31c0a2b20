"""Mask means and mask-guided features against their definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mgcl.datasets.episodes import Episode
from mgcl.engine.forward import Setup
from mgcl.model import mgfe
from mgcl.model.mgfe import mask_mean
from mgcl.model.network import MGCL, SegmentationHead
from mgcl.visualize.guidance import look
from tests import oracle


def random_map(seed: int, shape: tuple[int, ...], masks: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, masks + 1, shape, generator=g, dtype=torch.uint8)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**20),
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from([0, 1, 3, 128]),
)
def test_mask_mean_is_the_loop_over_masks(seed, feature_shape, map_size, masks):
    g = torch.Generator().manual_seed(seed)
    feature = torch.randn(feature_shape, generator=g, dtype=torch.float64)
    mask_map = random_map(seed, (feature_shape[0], *map_size), masks)
    expected = oracle.mask_mean(feature, oracle.mask_stack(mask_map))
    assert torch.allclose(mask_mean(feature, mask_map), expected, rtol=1e-10, atol=1e-12)


def test_pixels_outside_all_masks_get_zeros_and_do_not_leak_into_the_means():
    feature = torch.ones(1, 2, 4, 4)
    feature[..., 2:] = 100.0
    mask_map = torch.zeros(1, 4, 4, dtype=torch.uint8)
    mask_map[..., :2] = 128
    mean = mask_mean(feature, mask_map)
    assert torch.allclose(mean[..., :2], torch.ones(1, 2, 4, 2))
    assert (mean[..., 2:] == 0).all()


def test_the_map_is_sampled_by_the_floor_rule():
    mask_map = torch.tensor([[[1, 2, 1, 1, 2, 1]]], dtype=torch.uint8).expand(1, 6, 6)
    feature = torch.arange(4.0).expand(1, 1, 4, 4)
    # Columns floor(i * 6 / 4) = 0, 1, 3, 4 -> masks 1, 2, 1, 2.
    assert mask_mean(feature, mask_map)[0, 0, 0].tolist() == pytest.approx([1.0, 2.0, 1.0, 2.0])


def test_gradient_of_the_mask_mean_is_the_definition_s():
    mask_map = random_map(3, (2, 12, 10), 5)
    g = torch.Generator().manual_seed(1)
    weight = torch.randn(2, 3, 6, 5, generator=g, dtype=torch.float64)
    grads = []
    for mean in (
        lambda f: mask_mean(f, mask_map),
        lambda f: oracle.mask_mean(f, oracle.mask_stack(mask_map)),
    ):
        feature = torch.randn(2, 3, 6, 5, generator=g.manual_seed(2), dtype=torch.float64)
        feature.requires_grad_()
        (mean(feature) * weight).sum().backward()
        grads.append(feature.grad)
    assert torch.allclose(grads[0], grads[1], rtol=1e-10, atol=1e-12)


def test_the_feature_of_a_mask_is_written_in_one_place(monkeypatch):
    """Another one there changes the correlation, the decoder and the pictures."""
    g = torch.Generator().manual_seed(0)
    feature = torch.randn(1, 3, 8, 8, generator=g)
    mask_map = random_map(0, (1, 8, 8), 4)
    label = (mask_map == 1).to(torch.uint8)
    backbone = torch.nn.Identity()
    backbone.forward = lambda images: [images, images[..., ::2, ::2], images[..., ::4, ::4]]

    def all_of_it() -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = MGCL(backbone, SegmentationHead(decoder_masks=False)).eval()
        episode = Episode(feature, label, mask_map, feature[:, None], *[label[:, None]] * 2, 0, 0)
        episode = episode._replace(support_mask_maps=mask_map[:, None])
        setup = Setup(torch.device("cpu"))
        with torch.no_grad():
            logits = setup.forward(model, episode)
        level = look(model, episode, setup)[0]
        pictures = [level.query.after, level.correlation.after]
        return [logits, mask_mean(feature, mask_map), *map(torch.from_numpy, pictures)]

    before = all_of_it()
    monkeypatch.setattr(mgfe, "prototypes", lambda *how: 2 * mgfe.means(*how))
    for a, b in zip(before, all_of_it(), strict=True):
        assert not torch.allclose(a, b)
