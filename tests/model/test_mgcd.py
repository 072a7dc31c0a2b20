"""Centre-pivot convolutions and the decoder against permute-and-copy."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mgcl.model import mgcd
from mgcl.model.fbc import Correlation, guide
from mgcl.model.mgcd import MGCD, CenterPivotConv4d, CorrelationConv4d, encoder
from tests import oracle


def inward(x: torch.Tensor) -> torch.Tensor:
    """(B, C, hq, wq, hs, ws) -> the project's (B, hs, ws, hq, wq, C)."""
    return x.permute(0, 4, 5, 2, 3, 1).contiguous()


def whole(correlation):
    return correlation.dense()[0].unflatten(3, correlation.query.size)  # (B, hs, ws, hq, wq, C)


def outward(x: torch.Tensor) -> torch.Tensor:
    """Inverse of `inward`."""
    return x.permute(0, 5, 3, 4, 1, 2)


def pair(channels_in: int, channels_out: int, kernel: int, stride: int):
    torch.manual_seed(0)
    slow = oracle.CenterPivotConv4d(channels_in, channels_out, kernel, stride).double()
    fast = CenterPivotConv4d(channels_in, channels_out, kernel, stride).double()
    fast.load_state_dict(slow.state_dict())
    return fast, slow


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 3)),
    st.tuples(*[st.integers(1, 7)] * 4),
    st.sampled_from([(3, 1), (3, 2), (5, 4), (5, 2), (3, 4)]),
)
def test_centre_pivot_convolution_is_permute_and_copy(batch_channels, sizes, kernel_stride):
    fast, slow = pair(batch_channels[1], 4, *kernel_stride)
    x = torch.randn(*batch_channels, *sizes, dtype=torch.float64)
    assert torch.allclose(outward(fast(inward(x))), slow(x), rtol=1e-9, atol=1e-10)


def test_two_sizes_in_a_row_through_one_convolution_do_not_disturb_each_other():
    fast, slow = pair(2, 4, 5, 4)
    for sizes in ((8, 8, 8, 8), (5, 7, 9, 6), (8, 8, 8, 8), (3, 9, 1, 1)):
        x = torch.randn(2, 2, *sizes, dtype=torch.float64)
        assert torch.allclose(outward(fast(inward(x))), slow(x), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("sizes", [(6, 5, 8, 8), (4, 9, 16, 12), (3, 3, 5, 32)])
def test_an_encoder_equals_the_definition_forward_and_backward(sizes):
    torch.manual_seed(1)
    slow = oracle.blocks((2, 16, 32, 64), (5, 3, 3), (4, 2, 2)).double()
    fast = encoder([2, 16, 32, 64], [5, 3, 3], [4, 2, 2]).double()
    fast.load_state_dict(slow.state_dict())
    x = torch.rand(2, 2, *sizes, dtype=torch.float64)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    got, expected = outward(fast(inward(a))), slow(b)
    assert torch.allclose(got, expected, rtol=1e-8, atol=1e-9)
    weight = torch.randn_like(expected)
    (got * weight).sum().backward()
    (expected * weight).sum().backward()
    assert torch.allclose(a.grad, b.grad, rtol=1e-7, atol=1e-9)
    for p, q in zip(fast.parameters(), slow.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, rtol=1e-7, atol=1e-8)


def guided(shape, seed: int):
    """Random features of one level without masks."""
    g = torch.Generator().manual_seed(seed)
    return guide(torch.randn(shape, generator=g, dtype=torch.float64), None)


def random_correlation(query, support, seed: int, halves: int = 2) -> Correlation:
    """B = 2, 5 channels, on the given (h, w); gates in 0..1, some of them 0."""
    g = torch.Generator().manual_seed(seed)
    gates = torch.rand(2, support[0] * support[1], halves, generator=g, dtype=torch.float64)
    return Correlation(
        guided((2, 5, *query), seed).unit(),
        guided((2, 5, *support), seed + 1),
        (gates - 0.2).clamp_min(0),
    )


def single_precision(correlation: Correlation) -> Correlation:
    query, support = (
        side._replace(pixels=side.pixels.float(), norm=side.norm.float())
        for side in (correlation.query, correlation.support)
    )
    return Correlation(query, support, correlation.gates.float())


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**20),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 19), st.integers(1, 19)),
    st.sampled_from([(3, 2), (5, 4), (3, 1), (5, 2), (3, 4)]),
    st.sampled_from([1, 2]),
)
def test_the_first_convolution_is_that_of_the_multiplied_out_correlation(
    seed, query, support, kernel_stride, halves
):
    torch.manual_seed(0)
    kernel, stride = kernel_stride
    slow = oracle.CenterPivotConv4d(halves, 4, kernel, stride).double()
    fast = CorrelationConv4d(halves, 4, kernel, stride).double()
    fast.load_state_dict(slow.state_dict())
    correlation = random_correlation(query, support, seed, halves)
    expected = slow(outward(whole(correlation)))
    assert torch.allclose(outward(fast(correlation)), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("chunk", [2**26, 2 * 8 * 8 * 7])
def test_gradients_of_the_first_convolution_are_the_definition_s_in_chunks_too(chunk, monkeypatch):
    monkeypatch.setattr(mgcd, "CHUNK", chunk)
    torch.manual_seed(0)
    slow = oracle.CenterPivotConv4d(2, 4, 5, 4).double()
    fast = CorrelationConv4d(2, 4, 5, 4).double()
    fast.load_state_dict(slow.state_dict())
    given_leaves = random_correlation((5, 6), (8, 8), 3)
    results = []
    for conv, run in (
        (fast, lambda c: outward(fast(c))),
        (slow, lambda c: slow(outward(whole(c)))),
    ):
        leaves = [
            x.clone().requires_grad_()
            for x in (given_leaves.query.pixels, given_leaves.support.pixels, given_leaves.gates)
        ]
        correlation = Correlation(
            given_leaves.query._replace(pixels=leaves[0]),
            given_leaves.support._replace(pixels=leaves[1]),
            leaves[2],
        )
        out = run(correlation)
        (
            out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape).sin()
        ).sum().backward()
        results.append([out, *(x.grad for x in (*leaves, *conv.parameters()))])
    for got, expected in zip(*results, strict=True):
        assert torch.allclose(got, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("sides", [((8, 4, 2), (8, 4, 2)), ((12, 6, 3), (16, 8, 4))])
def test_the_decoder_equals_the_definition_on_square_and_other_maps(sides):
    torch.manual_seed(2)
    slow = oracle.MGCD().double()
    fast = MGCD().double()
    fast.load_state_dict(slow.state_dict())
    levels = [random_correlation(hw, hw, i) for i, hw in enumerate(zip(*sides, strict=True))]
    mask_map = torch.randint(0, 9, (2, 24, 24), dtype=torch.uint8)
    got = fast(levels, mask_map)
    expected = slow([outward(whole(c)) for c in levels], oracle.mask_stack(mask_map))
    assert got.shape == expected.shape == (2, 2, 2 * sides[0][0], 2 * sides[1][0])
    assert torch.allclose(got, expected, rtol=1e-7, atol=1e-9)


def test_a_single_correlation_is_convolved_as_one_of_a_batch_with_and_without_gradients():
    torch.manual_seed(0)
    x = torch.rand(2, 6, 5, 4, 3, 8)
    convolution = CenterPivotConv4d(8, 16, kernel=3, stride=2)
    batch = convolution(x)
    single = convolution(x[:1])
    with torch.inference_mode():
        plain = convolution(x[:1])
    assert single.requires_grad and torch.allclose(single, batch[:1], atol=1e-6)
    assert torch.allclose(plain, batch[:1], atol=1e-6)


def test_a_module_that_meets_one_and_several_support_positions_keeps_the_weights_of_both_apart():
    torch.manual_seed(0)
    convolution = CenterPivotConv4d(8, 16, kernel=3, stride=2)
    for side in (1, 2, 1):  # two positions and a stride of two leave one
        x = torch.rand(1, side, side, 4, 3, 8)
        with torch.no_grad():
            plain = convolution(x)
        assert torch.allclose(plain, convolution(x), atol=1e-6)


def test_the_decoder_without_gradients_equals_the_one_with_them_after_a_change_too():
    torch.manual_seed(2)
    decoder, mask_map = MGCD(), torch.randint(0, 9, (2, 24, 24), dtype=torch.uint8)
    sides = (8, 4, 2)
    levels = [single_precision(random_correlation((n, n), (n, n), n)) for n in sides]
    for _ in range(2):
        with torch.no_grad():
            plain = decoder(levels, mask_map)
        assert torch.allclose(plain, decoder(levels, mask_map), rtol=1e-4, atol=1e-6)
        with torch.no_grad():
            for parameter in decoder.parameters():
                parameter.mul_(1.5)
