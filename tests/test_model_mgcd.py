"""Centre-pivot convolutions and the decoder against permute-and-copy."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mgcl.model.mgcd import MGCD, CenterPivotConv4d, encoder
from tests import oracle


def inward(x: torch.Tensor) -> torch.Tensor:
    """(B, C, hq, wq, hs, ws) -> the project's (B, hs, ws, hq, wq, C)."""
    return x.permute(0, 4, 5, 2, 3, 1).contiguous()


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


@pytest.mark.parametrize("sides", [((8, 4, 2), (8, 4, 2)), ((12, 6, 3), (16, 8, 4))])
def test_the_decoder_equals_the_definition_on_square_and_other_maps(sides):
    torch.manual_seed(2)
    slow = oracle.MGCD().double()
    fast = MGCD().double()
    fast.load_state_dict(slow.state_dict())
    correlations = [
        torch.rand(1, 2, h, w, h, w, dtype=torch.float64) for h, w in zip(*sides, strict=True)
    ]
    mask_map = torch.randint(0, 9, (1, 24, 24), dtype=torch.uint8)
    got = fast([inward(c) for c in correlations], mask_map)
    expected = slow(correlations, oracle.mask_stack(mask_map))
    assert got.shape == expected.shape == (1, 2, 2 * sides[0][0], 2 * sides[1][0])
    assert torch.allclose(got, expected, rtol=1e-7, atol=1e-9)
