"""Where windows lie, how they are blended, and which one is cut out of a support."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgcl.images import windows

axes = st.tuples(st.integers(1, 300), st.integers(1, 80), st.floats(0, 0.95))


@given(axes)
def test_windows_cover_the_axis_and_end_flush_with_its_border(axis):
    length, window, overlap = axis
    begins = windows.starts(length, window, overlap)
    assert begins[0] == 0
    if length > window:
        assert begins[-1] == length - window
        steps = np.diff(begins)
        assert (steps > 0).all() and steps.max() <= max(1, window * (1 - overlap)) + 1
        assert steps.max() - steps.min() <= 1, "evenly spaced"


@given(axes)
def test_weights_sum_to_one_everywhere_and_are_exactly_one_where_a_window_is_alone(axis):
    length, window, overlap = axis
    begins = windows.starts(length, window, overlap)
    total, over = np.zeros(max(length, window)), np.zeros(max(length, window), int)
    weights = windows.weights(begins, window)
    for begin, weight in zip(begins, weights, strict=True):
        total[begin : begin + window] += weight
        over[begin : begin + window] += 1
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert (total[over == 1] == 1).all()
    assert weights.dtype == np.float32 and (weights > 0).all()


def test_a_window_fades_in_without_a_jump():
    first, second = windows.weights([0, 64], 128)
    assert first[0] == 1 and second[0] < 0.001 and second[-1] == 1
    assert abs(np.diff(second)).max() < 0.03


def test_a_picture_smaller_than_the_window_is_mirrored():
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3)
    cut = windows.cut(picture, 0, 0, 5)
    assert cut[0].tolist() == [0, 1, 2, 2, 1] and cut[:, 0].tolist() == [0, 3, 3, 0, 0]
    assert windows.cut(np.zeros((7, 1, 3), np.uint8), 2, 0, 4).shape == (4, 4, 3)


@pytest.mark.parametrize("y, x", [(0, 0), (700, 1300), (960, 1960), (333, 1)])
def test_a_small_object_in_a_large_picture_lies_in_the_middle_of_its_window(y, x):
    label = np.zeros((1000, 2000), bool)
    label[y : y + 40, x : x + 40] = True
    top, left = windows.around_objects(label, 256)
    assert label[top : top + 256, left : left + 256].sum() == label.sum()
    assert top == np.clip(y + 20 - 128, 0, 744) and left == np.clip(x + 20 - 128, 0, 1744)


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 60), st.integers(0, 2**20))
def test_objects_that_fit_into_a_window_are_not_cut_off(window, y, x, seed):
    label = np.zeros((100, 100), bool)
    label[y : y + window, x : x + window] = (
        np.random.default_rng(seed).random((window, window)) < 0.1
    )
    label[y + window - 1, x] = True
    top, left = windows.around_objects(label, window)
    assert label[top : top + window, left : left + window].sum() == label.sum()


def test_of_scattered_objects_the_densest_window_is_taken():
    label = np.zeros((600, 600), bool)
    label[10:30, 10:30] = True
    label[400:420, 400:420] = label[450:470, 450:470] = True
    top, left = windows.around_objects(label, 128)
    assert label[top : top + 128, left : left + 128].sum() == 800


def test_an_object_larger_than_the_window_leaves_background_in_it():
    label = np.zeros((600, 600), bool)
    label[100:500, 100:500] = True
    top, left = windows.around_objects(label, 128)
    assert 0.4 < label[top : top + 128, left : left + 128].mean() < 0.9


@given(st.integers(0, 2**20), st.integers(1, 150), st.integers(1, 150), st.integers(1, 60))
def test_the_window_around_objects_lies_within_the_picture_and_holds_some(seed, height, width, w):
    label = np.random.default_rng(seed).random((height, width)) < 0.02
    label.flat[seed % label.size] = True
    top, left = windows.around_objects(label, w)
    assert 0 <= top <= max(0, height - w) and 0 <= left <= max(0, width - w)
    assert label[top : top + w, left : left + w].any()
