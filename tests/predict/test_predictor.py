"""Segmentation by example: equal to the network on one window, seamless and bounded over many."""

import gc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mgcl.engine.forward import Setup
from mgcl.masks.superpixels import SuperpixelMaskGenerator
from mgcl.model.fewshot import Encoded, FewShotNetwork
from mgcl.model.matcher import Matcher
from mgcl.model.network import aggregate_shots, votes_needed
from mgcl.model.presence import STATISTICS
from mgcl.predict.predictor import Predictor
from tests.engine.test_calibration import Colours
from tests.model.test_network import tiny_networks

SETUP = Setup(torch.device("cpu"))
SIDE = 64


def picture(seed: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    return coarse.astype(np.uint8).repeat(8, 0).repeat(8, 1)[:height, :width]


def label(seed: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return (picture(seed + 100, height, width)[..., 0] < 80).astype(np.uint8)


def predictor(shots: int = 1, model=None, **how) -> Predictor:
    """A tiny network with supports of the window's size set."""
    how = {"image_size": SIDE, "setup": SETUP} | how
    made = Predictor(model or tiny_networks()[0], SuperpixelMaskGenerator(), **how)
    made.set_support([picture(k) for k in range(shots)], [label(k) for k in range(shots)])
    return made


def in_batch(arrays) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays))[None]


@pytest.mark.parametrize("shots", [1, 5])
def test_on_one_window_the_mask_is_that_of_the_network(shots):
    model, generator = tiny_networks()[0], SuperpixelMaskGenerator()
    query, supports = picture(9), [picture(k) for k in range(shots)]
    with torch.no_grad():
        logits = model(
            torch.from_numpy(query).permute(2, 0, 1)[None],
            torch.from_numpy(generator(query))[None],
            in_batch(supports).permute(0, 1, 4, 2, 3),
            in_batch([label(k) for k in range(shots)]),
            in_batch([generator(support) for support in supports]),
        )
    probability = logits.softmax(2)[0, :, 1]  # (K, H, W)
    for threshold in 0.5, probability.median().item():
        found = predictor(shots, threshold=threshold).predict(query)
        assert found.mask.dtype == found.votes.dtype == np.uint8
        assert (found.mask == aggregate_shots(logits, threshold=threshold)[0].numpy()).all()
        assert (found.votes <= shots).all()
        np.testing.assert_allclose(found.probability, probability.mean(0).numpy(), atol=1e-6)
    assert 0 < found.mask.mean() < 1


class Pointwise(FewShotNetwork):
    """Stands for a network: the log-odds of a pixel are its red value / 64 - 2."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def encode(self, images, mask_maps):
        self.seen.append(tuple(images.shape))
        return Encoded((images.float(),), mask_maps)

    def compare(self, query, supports, support_labels, query_mask_map, size):
        red = torch.stack([query.levels[0][:, 0] / 64 - 2] * len(supports), dim=1)
        return torch.stack([torch.zeros_like(red), red], dim=2)


@settings(max_examples=30)
@given(st.integers(1, 120), st.integers(1, 120), st.floats(0, 0.8), st.integers(1, 5))
def test_every_pixel_gets_its_own_result_whatever_the_size_overlap_and_batch(h, w, overlap, batch):
    image = np.random.default_rng(h).integers(0, 256, (h, w, 3), dtype=np.uint8)
    made = predictor(2, Pointwise(), image_size=32, overlap=overlap, batch_size=batch)
    made.finder.mask_generator = None
    found = made.predict(image)
    expected = 1 / (1 + np.exp(2 - image[..., 0] / 64))
    assert found.mask.shape == found.votes.shape == (h, w)
    np.testing.assert_allclose(found.probability, expected, atol=1e-5)
    clear = abs(expected - 0.5) > 1e-4
    assert (found.mask == (expected > 0.5))[clear].all()


def test_the_number_of_windows_is_told_and_counted():
    made, done = predictor(1, Pointwise(), batch_size=3), []
    made.predict(picture(1, 200, 300), on_windows=done.append)
    assert sum(done) == made.count_windows(200, 300) == 6 * 9
    assert made.count_windows(10, SIDE) == 1


def test_memory_does_not_grow_with_the_number_of_windows():
    def held(height: int) -> int:
        """Bytes in tensors when the last windows are done."""
        made, done, found = predictor(1, Pointwise(), batch_size=2), [], []
        total = made.count_windows(height, 2 * SIDE)

        def look(count: int) -> None:
            done.append(count)
            if sum(done) == total:
                found.extend(x.nbytes for x in gc.get_objects() if type(x) is torch.Tensor)

        gc.collect()
        made.predict(picture(0, height, 2 * SIDE), on_windows=look)
        return sum(found)

    assert held(10 * SIDE) < 1.05 * held(2 * SIDE)


class OnDisk:
    """An image that can only be sliced, each row once."""

    ndim, dtype = 3, np.dtype(np.uint8)

    def __init__(self, height: int, width: int) -> None:
        self.shape = (height, width, 3)
        self.read = np.zeros(height, int)

    def __getitem__(self, where) -> np.ndarray:
        rows, columns = where
        assert rows.stop - rows.start <= SIDE
        self.read[rows] += 1
        return np.full((rows.stop - rows.start, columns.stop - columns.start, 3), 255, np.uint8)


def test_an_image_is_read_a_row_of_windows_at_a_time_and_once():
    image = OnDisk(150, 200)
    assert predictor(1, Pointwise()).predict(image).mask.all()
    assert (image.read == 1).all()


def test_windows_in_batches_equal_windows_one_by_one():
    image = picture(3, 150, 220)
    together, alone = (predictor(2, batch_size=n).predict(image) for n in (4, 1))
    np.testing.assert_allclose(together.probability, alone.probability, atol=1e-5)
    assert (together.mask == alone.mask).mean() > 0.999


def test_borders_of_windows_do_not_show():
    image = np.full((3 * SIDE, 3 * SIDE, 3), 128, np.uint8)
    image[::8] = 90
    blended = predictor(1).predict(image).probability
    tiled = predictor(1, overlap=0).predict(image).probability
    assert np.isfinite(blended).all()
    inside = abs(np.diff(tiled, axis=1))[:, : SIDE - 1].max()
    across = abs(np.diff(tiled, axis=1))[:, SIDE - 1].max()
    assert across > 2 * inside, "tiles show"
    assert abs(np.diff(blended, axis=1)).max() < 1.2 * inside


def test_supports_vote_by_the_largest_vote_of_the_whole_image():
    class Thresholds(Pointwise):
        """A support votes where the query is lighter than the support."""

        def compare(self, query, supports, *how):
            logits = super().compare(query, supports, *how)
            for k, support in enumerate(supports):
                logits[:, k, 1] -= support.levels[0][0, 0, 0, 0] / 64 - 2
            return logits

    made = predictor(1, Thresholds(), overlap=0)
    shades = [np.full((SIDE, SIDE, 3), shade, np.uint8) for shade in (50, 100, 150)]
    made.set_support(shades, [label(0)] * 3)
    image = np.full((SIDE, 5 * SIDE, 3), 75, np.uint8)  # light enough for one support of three
    assert made.predict(image).mask.all()
    image[:9, :9] = 200  # for all three, in the first window alone
    found = made.predict(image)
    assert found.votes.max() == 3 and (found.votes[:, SIDE:] == 1).all()
    assert (found.mask == (found.votes >= votes_needed(3, 0.4))).all() and found.mask.sum() == 81


def test_an_image_is_seen_at_the_scale_of_the_window():
    model = Pointwise()
    made = predictor(1, model, window=2 * SIDE, overlap=0)
    model.seen.clear()
    model.compare = lambda *how: torch.zeros(len(how[3]), 1, 2, *how[4])
    assert made.predict(picture(0, 4 * SIDE, 2 * SIDE)).mask.shape == (4 * SIDE, 2 * SIDE)
    assert model.seen == [(1, 3, SIDE, SIDE)] * 2


def test_a_small_object_in_a_large_support_is_shown_at_the_scale_of_the_queries():
    made = predictor(1)
    image, marked = picture(0, 700, 900), np.zeros((700, 900), np.uint8)
    marked[400:420, 600:630] = 1
    made.set_support([image], [marked])
    (example,) = made.examples
    assert example.image.shape == (SIDE, SIDE, 3) and example.label.sum() == 600
    assert (example.image[22:42, 17:47] == image[400:420, 600:630]).all()
    assert example.mask_map.shape == (SIDE, SIDE) and example.mask_map.any()


def test_a_boolean_label_and_ignored_pixels_are_understood():
    made = predictor(1)
    made.set_support([picture(0)], [label(0) == 1])
    assert (made.examples[0].label == label(0)).all()
    ignoring = label(0)
    ignoring[:8] = 255
    made.set_support([picture(0)], [ignoring])
    assert (made.examples[0].label == ignoring).all()


def test_given_mask_maps_are_used_instead_of_made_ones():
    image, supports, labels = picture(5, 100, 100), [picture(0)], [label(0)]
    generator = SuperpixelMaskGenerator()
    made, given_ = predictor(1, overlap=0), predictor(1, overlap=0)
    given_.set_support(supports, labels, [generator(supports[0])])
    given_.mask_generator = None
    one = picture(6)
    assert (made.predict(one).mask == given_.predict(one, generator(one)).mask).all()
    assert not np.array_equal(
        given_.predict(image, generator(image)).probability, given_.predict(image).probability
    )


def test_a_batched_generator_gets_no_more_than_it_takes():
    class Batched(SuperpixelMaskGenerator):
        batch_size, sizes = 2, []

        def many(self, images):
            self.sizes.append(len(images))
            return [self(image) for image in images]

    made = predictor(1, Pointwise(), batch_size=5)
    made.finder.mask_generator = Batched()
    made.predict(picture(0, SIDE, 3 * SIDE))
    assert Batched.sizes == [2, 2, 1]


BAD = {
    "no pixel": (picture(0), np.zeros((SIDE, SIDE), np.uint8)),
    "may hold 1": (picture(0), label(0) * 7),
    r"\(32, 64\)": (picture(0), label(0)[:32]),
    "uint8 RGB": (picture(0)[..., 0], label(0)),
    "float64": (picture(0) / 255, label(0)),
    "too small": (picture(0), np.eye(SIDE, dtype=np.uint8) * (np.arange(SIDE) == 4)),
}


@pytest.mark.parametrize("words", BAD)
def test_a_support_that_cannot_serve_is_refused_by_its_number_and_changes_nothing(words):
    made = predictor(1)
    before = made.predict(picture(7)).probability
    image, marked = BAD[words]
    with pytest.raises(ValueError, match=rf"support 2: .*{words}"):
        made.set_support([picture(1), image], [label(1), marked])
    assert (made.predict(picture(7)).probability == before).all()


@pytest.mark.parametrize(
    "how",
    [{"image_size": 50}, {"window": 0}, {"overlap": 1.0}, {"threshold": 1.0}, {"batch_size": 0}],
)
def test_impossible_numbers_are_refused(how):
    with pytest.raises(ValueError, match=str(next(iter(how.values())))):
        predictor(1, Pointwise(), **how)


def test_a_query_needs_a_support_and_three_channels():
    made = Predictor(Pointwise(), None, image_size=SIDE, setup=SETUP)
    with pytest.raises(ValueError, match="set_support first"):
        made.predict(picture(0))
    made.set_support([picture(0)], [label(0)])
    with pytest.raises(ValueError, match="uint8 RGB"):
        made.predict(picture(0)[..., 0])
    with pytest.raises(ValueError, match="mask map"):
        made.predict(picture(0), np.zeros((3, 3), np.uint8))
    with pytest.raises(ValueError, match="as many of each"):
        made.set_support([], [])


def test_a_prediction_says_of_each_window_whether_it_shows_the_class_where_the_network_tells():
    assert predictor().predict(picture(9)).presence is None  # MGCL does not
    network = Matcher(Colours())
    assert predictor(2, network).predict(picture(9)).presence is None  # nothing was fitted to
    presence = network.presence
    channels = len(presence.known.mean)
    torch.manual_seed(0)
    presence.known.learn([torch.randn(4, channels) for _ in range(3)], torch.randn(3, channels))
    presence.rule(1).weight = torch.ones(STATISTICS)
    made = predictor(2, network, overlap=0.0, batch_size=2)
    whole = picture(9, 2 * SIDE, 3 * SIDE)
    found = made.predict(whole).presence
    assert found.shape == (2, 3) and found.dtype == np.float32
    for row, column in np.ndindex(2, 3):
        part = whole[row * SIDE :][:SIDE, column * SIDE :][:, :SIDE]
        (alone,) = made.predict(part).presence.ravel()
        np.testing.assert_allclose(found[row, column], alone, atol=1e-4)
    assert found.std() > 0
