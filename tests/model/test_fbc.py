"""The correlation against its definition: two full cosine products."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mgcl.model.fbc import foreground_background_correlation
from tests import oracle


def inputs(seed, shape, support_size, label_size):
    g = torch.Generator().manual_seed(seed)
    query = torch.randn(shape, generator=g, dtype=torch.float64)
    support = torch.randn(*shape[:2], *support_size, generator=g, dtype=torch.float64)
    label = torch.randint(0, 2, (shape[0], *label_size), generator=g, dtype=torch.uint8)
    return query, support, label


sizes = st.tuples(st.integers(1, 6), st.integers(1, 6))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 3), st.integers(1, 5), sizes, sizes, sizes)
def test_one_gated_product_is_the_two_correlations(seed, batch, channels, hw, support_hw, label_hw):
    query, support, label = inputs(seed, (batch, channels, *hw), support_hw, label_hw)
    got = foreground_background_correlation(query, support, label)
    expected = oracle.correlation(query, support, label)
    assert got.shape == expected.shape
    assert torch.allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_tiny_and_zero_features_follow_the_epsilon():
    query, support, label = inputs(0, (2, 4, 3, 3), (3, 3), (12, 12))
    support[:, :, 0] *= 1e-6
    query[:, :, 1] *= 1e-6
    support[:, :, 1, 1] = 0
    got = foreground_background_correlation(query, support, label)
    assert torch.allclose(got, oracle.correlation(query, support, label), rtol=1e-8, atol=1e-12)
    assert (got[..., 1, 1] == 0).all()


def test_a_label_pixel_of_255_is_neither_foreground_nor_background():
    query, support, label = inputs(1, (1, 4, 3, 3), (4, 4), (4, 4))
    label[:, 2, 3] = 255
    got = foreground_background_correlation(query, support, label)
    assert torch.allclose(got, oracle.correlation(query, support, label), rtol=1e-9, atol=1e-12)
    assert (got[..., 2, 3] == 0).all()


def test_gradients_of_the_correlation_are_the_definition_s():
    query, support, label = inputs(2, (2, 5, 4, 3), (3, 4), (9, 9))
    weight = torch.randn(2, 2, 4, 3, 3, 4, dtype=torch.float64)
    grads = []
    for correlate in (foreground_background_correlation, oracle.correlation):
        q, s = query.clone().requires_grad_(), support.clone().requires_grad_()
        (correlate(q, s, label) * weight).sum().backward()
        grads.append((q.grad, s.grad))
    for got, expected in zip(*grads, strict=True):
        assert torch.allclose(got, expected, rtol=1e-8, atol=1e-11)
