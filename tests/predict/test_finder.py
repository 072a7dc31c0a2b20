"""Rows of windows: begun anywhere, several classes at once, pixels without data left out."""

import math
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mgcl.masks.superpixels import SuperpixelMaskGenerator
from mgcl.model.matcher import Matcher
from mgcl.model.network import logit
from mgcl.model.untrained_presence import UntrainedPresence
from mgcl.predict.finder import Finder, InMemory
from mgcl.predict.predictor import Predictor
from mgcl.predict.support import cut_example, make_mask_maps
from mgcl.predict.voters import both
from mgcl.predict.votes import Votes, count_votes, decide
from tests.engine.test_calibration import Colours
from tests.model.test_network import tiny_networks
from tests.model.test_presence import learned
from tests.predict.test_predictor import SETUP, SIDE, label, picture

GENERATOR = SuperpixelMaskGenerator()


def finder(classes: int = 1, shots: int = 1, **how) -> Finder:
    made = Finder(tiny_networks()[0], GENERATOR, image_size=SIDE, setup=SETUP, **how)
    made.learn(
        {
            f"class {c}": [
                cut_example(picture(k), label(k + 10 * c), None, SIDE, GENERATOR)
                for k in range(shots)
            ]
            for c in range(classes)
        }
    )
    return made


@pytest.mark.parametrize("overlap", [0, 0.5, 0.8])
def test_rows_from_the_middle_are_those_from_the_top_to_the_bit(overlap):
    made, image = finder(2, overlap=overlap), InMemory(picture(3, 300, 150))
    whole = list(made.bands(image, SIDE))
    down, _ = made.grid(300, 150, SIDE)
    assert [b.row for b in whole] == list(range(len(down)))
    assert sum(len(b.valid) for b in whole) == 300
    for rows in range(1, 3), range(2, len(down)), range(len(down) - 1, len(down)):
        for band in made.bands(image, SIDE, rows=rows):
            same = whole[band.row]
            assert band.top == same.top and (band.image == same.image).all()
            assert all(map(torch.equal, band.margins, same.margins))


def test_threads_that_share_a_finder_get_what_each_would_alone_one_at_a_time():
    made, inside, together = finder(2), 0, 0
    encode = made.encode

    def watched(*given):
        nonlocal inside, together
        inside += 1
        together = max(together, inside)
        time.sleep(0.01)
        inside -= 1
        return encode(*given)

    made.encode = watched
    pictures = [InMemory(picture(seed, 90, 70)) for seed in range(6)]

    def segment(image):
        return torch.cat([torch.cat(band.margins) for band in made.bands(image, SIDE)], dim=1)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(segment, pictures))
    assert together == 1
    assert all(map(torch.equal, found, map(segment, pictures)))


def test_several_classes_are_each_as_if_alone_and_an_image_is_encoded_once():
    both, image = finder(2, shots=2), picture(5, 100, 90)
    seen: list[int] = []
    encode = both.model.encode
    both.model.encode = lambda images, maps: seen.append(len(images)) or encode(images, maps)
    margins = [band.margins for band in both.bands(InMemory(image), SIDE)]
    assert sum(seen) == len(both.grid(100, 90, SIDE)[0]) * len(both.grid(100, 90, SIDE)[1])
    for c in range(2):
        alone = Predictor(both.model, GENERATOR, image_size=SIDE, setup=SETUP)
        alone.set_support([picture(k) for k in range(2)], [label(k + 10 * c) for k in range(2)])
        probability = torch.cat([m[c].sigmoid().mean(dim=0) for m in margins])
        assert (alone.predict(image).probability == probability.numpy()).all()


@pytest.mark.parametrize("pools", [False, True])
def test_a_support_that_shows_no_class_has_no_vote_but_counts_where_all_give_one_answer(pools):
    network = Matcher(Colours()) if pools else tiny_networks()[0]
    shown = [cut_example(picture(k), label(k), None, SIDE, GENERATOR) for k in range(2)]
    none = shown[1]._replace(label=np.zeros_like(shown[1].label))
    found = []
    for examples in ([none, shown[0]], [shown[0]]):
        made = Finder(network, GENERATOR, image_size=SIDE, setup=SETUP)
        made.learn({"": examples})
        (band,) = made.bands(InMemory(picture(9)), SIDE)
        found.append(band.margins[0])
    assert found[0].shape == found[1].shape
    assert torch.equal(*found) != pools


def test_supports_that_share_an_image_are_encoded_once():
    made = Finder(tiny_networks()[0], None, image_size=SIDE, setup=SETUP)
    seen: list[int] = []
    encode = made.model.encode
    made.model.encode = lambda images, maps: seen.append(len(images)) or encode(images, maps)
    one = cut_example(picture(0), label(0), None, SIDE, None)
    made.learn({"a": [one], "b": [one._replace(label=1 - one.label)]})
    assert seen == [1] and made.names == ["a", "b"]


def test_windows_without_data_are_not_computed():
    class Half(InMemory):
        def valid(self, window):
            y, x, h, w = window
            return np.broadcast_to(np.arange(x, x + w) < 100, (h, w))

    made, seen = finder(), []
    encode = made.model.encode
    made.model.encode = lambda images, maps: seen.append(len(images)) or encode(images, maps)
    done: list[int] = []
    (band,) = made.bands(Half(picture(1, SIDE, 400)), SIDE, on_windows=done.append)
    assert torch.isfinite(band.margins[0]).all()
    assert sum(done) == len(made.grid(SIDE, 400, SIDE)[1]) > 2 * sum(seen)
    assert band.valid.sum() == 100 * SIDE


def test_a_pixel_goes_to_the_most_probable_class_with_enough_votes():
    levels = np.array([[[10, 60_000, 40_000, 9]], [[20, 50_000, 65_535, 9]]], np.uint16)
    counts = np.array([[[0, 1, 1, 1]], [[0, 1, 2, 1]]], np.uint8)
    classes, level = decide(Votes(counts, levels), [1, 1])
    assert classes.tolist() == [[0, 1, 2, 1]] and level.tolist() == [[20, 60_000, 65_535, 9]]
    classes, _ = decide(Votes(counts, levels), [1, 2])
    assert classes.tolist() == [[0, 1, 2, 1]]
    classes, level = decide(Votes(counts, levels), [256, 2])
    assert classes.tolist() == [[0, 0, 2, 0]] and level[0, 1] == 60_000


def test_a_class_with_a_threshold_of_its_own_is_judged_from_there():
    levels = np.array([[[46_000, 46_000, 46_000]], [[59_000, 65_000, 20_000]]], np.uint16)
    counts = np.ones_like(levels, np.uint8)
    counts[1, 0, 2] = 0
    classes, level = decide(Votes(counts, levels), [1, 1], [0.5, 0.5])
    assert classes.tolist() == [[2, 2, 1]]
    classes, level = decide(Votes(counts, levels), [1, 1], [0.5, 0.9])  # 0.90 is just above
    assert classes.tolist() == [[1, 2, 1]] and level.tolist() == [[46_000, 65_000, 46_000]]
    alike = np.random.default_rng(0).integers(0, 65536, (2, 50, 60)).astype(np.uint16)
    one, other = (
        decide(Votes(alike > 0, alike), [1, 1], t) for t in ([0.3, 0.3], [0.3, 0.3 + 1e-9])
    )
    assert (one[0] == other[0]).all() and (one[1] == other[1]).all()


def test_votes_are_counted_over_the_threshold():
    margins = torch.tensor([[[-1.0, 0.5]], [[2.0, 0.6]]])
    votes = count_votes([margins], [0.6])
    assert logit(0.6) == pytest.approx(0.405, abs=1e-3)
    assert votes.counts.tolist() == [[[1, 2]]] and votes.levels.dtype == np.uint16
    assert votes.levels[0, 0, 0] == round(float(margins[:, 0, 0].sigmoid().mean()) * 65535)


@pytest.mark.parametrize("trained", [False, True])
def test_a_pixel_is_the_class_where_it_looks_like_it_and_its_window_shows_it(trained):
    network = Matcher(Colours())
    network.presence = learned(len(network.presence.known.mean)) if trained else UntrainedPresence()
    made, image = (
        Finder(network, GENERATOR, image_size=SIDE, setup=SETUP, overlap=0.0),
        InMemory(picture(9, 2 * SIDE, 2 * SIDE)),
    )
    example = cut_example(picture(0), label(0), None, SIDE, GENERATOR)
    made.learn({"": [example]})
    least = network.presence.rule(1).least(0.5)
    plain, decided = (
        list(made.bands(image, SIDE, presence=True, keep_present=k)) for k in (None, 0.5)
    )
    support, mark = made.encode([example.image], [example.mask_map]), torch.tensor(example.label)
    for before, after in zip(plain, decided, strict=True):
        assert (before.presence == after.presence).all()
        seen = torch.from_numpy(after.presence[0] - least).repeat_interleave(SIDE)
        looks = before.margins[0]
        if trained:  # what else it may be has a say in each of its cells
            parts = [image.read((before.top, x, SIDE, SIDE)) for x in (0, SIDE)]
            query = made.encode(parts, make_mask_maps(GENERATOR, parts))
            lead = network.presence.told(query, [support], mark.expand(2, 1, -1, -1))[1]
            lead = F.interpolate(lead, (SIDE, SIDE), mode="bilinear")
            looks = looks + torch.cat([*lead], dim=2)
        torch.testing.assert_close(after.margins[0], both(looks, seen), atol=1e-3, rtol=1e-3)
    down, _ = made.grid(2 * SIDE, 2 * SIDE, SIDE)
    (last,) = made.bands(image, SIDE, rows=range(1, len(down)), keep_present=0.5)
    assert torch.equal(last.margins[0], decided[1].margins[0])


def test_odds_that_both_have_to_hold_are_those_of_the_product_twice():
    a, b = torch.randn(2, 50) * 3
    odds = torch.logit(a.double().sigmoid() * b.double().sigmoid()).float()
    torch.testing.assert_close(both(a, b), odds + math.log(2), atol=1e-4, rtol=1e-4)
    zero, never = torch.zeros(1), torch.full((1,), -1000.0)
    assert both(zero, zero) < 0 and both(-never, never).isfinite() and both(never, zero) < -30
