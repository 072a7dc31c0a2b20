import numpy as np
import pytest
import torch

from mgcl.datasets.episodes import Labels
from mgcl.engine.forward import EncodedEpisodes
from mgcl.engine.presence import (
    InMetric,
    Pool,
    draw_pairs,
    fit_presence,
    gather_pool,
    set_statistics,
)
from mgcl.model.matcher import Matcher
from mgcl.model.presence import Presence
from tests.engine.test_calibration import Colours, scene

C, SIDE = 24, 8


def unit(x, dim):
    return x / x.norm(dim=dim, keepdim=True)


def pool(classes, seed, images=60) -> Pool:
    """Images of noise and plain ground, of which each shows one or two classes in some cells."""
    random = np.random.default_rng(seed)
    things = np.random.default_rng(0).normal(size=(15, C))  # the same for all seeds
    cells, shares = np.zeros((images, C, SIDE**2)), np.zeros((images, len(classes), SIDE**2))
    for i in range(images):
        cells[i] = random.normal(size=(C, SIDE**2)) + things[-1 - i % 2][:, None]
        for place in random.choice(len(classes), 1 + i % 2, replace=False):
            where = random.permutation(SIDE**2)[:12]
            cells[i][:, where] += 2 * things[classes[place]][:, None]
            shares[i][:, where] = 0
            shares[i, place, where] = 1
    features = unit(torch.from_numpy(cells), 1).half()
    shown = torch.from_numpy(shares).half()
    return Pool(features, shown, 1 - shown.sum(dim=1))


def auc(scores, shown):
    return (scores[shown][:, None] > scores[~shown]).float().mean()


@pytest.mark.parametrize("shots", [1, 5])
def test_a_class_that_was_not_there_is_told_from_its_absence(shots):
    presence = Presence(C)
    fit_presence(presence, pool(range(10), seed=1, images=100))
    novel = pool([10, 11, 12], seed=2)
    drawn = draw_pairs(novel, 1, shots, 10, torch.Generator().manual_seed(0))
    shown = torch.cat([torch.arange(16) < 8 for _ in drawn])
    numbers = [set_statistics(InMetric(presence.known, novel), novel, pairs) for pairs in drawn]
    alone = torch.cat([presence.rule(shots)(x) for x in numbers])
    assert auc(alone, shown) > 0.9
    assert (alone[shown] > 0).float().mean() > 0.75


def test_fitting_is_a_function_of_images_and_seed():
    states = []
    for seed in (0, 0, 1):
        presence = Presence(C)
        fit_presence(presence, pool([0, 1, 2], seed=1), seed=seed)
        states.append(presence.state_dict())
    assert presence.fitted
    same = [
        all(torch.equal(a, b) for a, b in zip(states[0].values(), s.values(), strict=True))
        for s in states
    ]
    assert same == [True, True, False]


def test_pairs_are_distinct_images_that_show_and_do_not_show_the_class():
    images = pool([0, 1, 2], seed=3)
    for pairs in draw_pairs(images, 2, 5, 4, torch.Generator().manual_seed(1)):
        places = pairs.supports + pairs.queries
        assert len(set(places)) == len(places) == 5 + 16
        shows = images.shares[places, 2].any(dim=1)
        assert shows.tolist() == [True] * (5 + pairs.shown) + [False] * 8


def test_too_few_images_of_a_class_give_no_pairs_and_too_few_classes_no_presence():
    images = pool([0, 1, 2], seed=3, images=6)
    assert draw_pairs(images, 0, 6, 4, torch.Generator()) == []
    presence = Presence(C)
    assert not fit_presence(presence, pool([0, 1], seed=1))
    assert not presence.fitted


def test_images_are_gathered_with_the_training_classes_alone():
    network = Matcher(Colours())
    scenes = [scene(i, seed=i) for i in range(3)]
    image, label = (torch.stack(part) for part in zip(*scenes, strict=True))
    ids = label * torch.tensor([1, 7, 3], dtype=torch.uint8)[:, None, None]
    ids[0, :32, :32] = 255
    encoded, nothing = network.eval().encode(image, torch.zeros_like(ids)), torch.zeros(3)
    batches = [
        EncodedEpisodes(
            one, [], Labels(ids[i : i + 1], ids[i : i + 1, None][:, :0], nothing, nothing)
        )
        for i, one in enumerate(encoded.split())
    ]
    found = gather_pool(batches, [0, 2])
    assert found.cells.shape[0] == 3
    assert found.shares.shape == (3, 2, found.cells.shape[2])
    assert found.shares[1].sum() == 0 and bool((found.plain[1] == 1).all())  # 7 is background
    assert found.showing(1).tolist() == [2] and 2 not in found.lacking(1)
    total = found.shares.float().sum(dim=1) + found.plain.float()
    assert 0 < total[0].mean() < 1 and bool((total[1:] == 1).all())
