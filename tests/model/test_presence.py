import math

import pytest
import torch

from mgcl.model import matching
from mgcl.model.fewshot import Encoded
from mgcl.model.presence import (
    ALIKE,
    LEAD,
    Known,
    Presence,
    agreement,
    pair_statistics,
    same_class,
)
from mgcl.model.rule import Rule


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def unit(x, dim):
    return x / x.norm(dim=dim, keepdim=True)


def learned(channels=20, classes=4) -> Presence:
    """One that knows some classes and has rules, drawn at random."""
    presence = Presence(channels)
    presence.known.mean = 0.1 * torch.randn(channels)
    regions = [torch.randn(3 + i, channels) for i in range(classes)]
    presence.known.learn(regions, unit(torch.randn(9, channels), 1))
    for rule in presence.rules.values():
        rule.weight, rule.bias = torch.randn_like(rule.weight), torch.randn(())
    return presence


def images(count, channels=20, side=8) -> Encoded:
    cells = unit(torch.randn(count, channels, side, side), 1)
    return Encoded((cells,), torch.zeros(count, 4 * side, 4 * side, dtype=torch.uint8))


def slow_statistics(query, support, share, known):
    """One query and one support, cell by cell: (C, n), (C, m), (m,) -> (8,)."""
    P, N = unit(support @ share, 0), unit(support @ (1 - share), 0)
    n = query.shape[1]
    order = (P @ query).argsort(descending=True)[: round(0.05 * n)]
    found = unit(query[:, order].mean(1), 0)
    margin = (P - N) @ query
    rest = unit(query[:, margin.argsort()[: round(0.3 * n)]].mean(1), 0)
    likest = torch.stack([(support[:, share > 0.5].T @ q).max() for q in query.T])
    best = lambda x, count: x.sort(descending=True).values[:count].mean()  # noqa: E731
    classes = known.classes[known.classes @ P <= ALIKE[1]]
    others = torch.stack([best(c @ query, round(0.02 * n)) for c in classes])
    anything = torch.cat([classes, known.ground]) @ query
    return torch.stack(
        [
            best(P @ query, round(0.05 * n)) - others.max(),
            best(likest, round(0.05 * n)),
            P @ found - (known.ground @ found).max(),
            found @ unit(query.mean(1), 0),
            rest @ N,
            margin.std(),
            best(P @ query - anything.amax(0), round(0.05 * n)),
            torch.tensor(1.0),
        ]
    )


def test_the_statistics_are_their_definition():
    presence = learned()
    query, support = (unit(torch.randn(3, 20, n), 1) for n in (100, 80))
    share = torch.rand(3, 80)
    share[0, :70] = 0  # few sure cells
    found, _ = pair_statistics(query, support, share, 1 - share, presence.known)
    cases = zip(query, support, share, strict=True)
    wanted = torch.stack([slow_statistics(*case, presence.known) for case in cases])
    torch.testing.assert_close(found, wanted)


def test_queries_together_get_what_each_gets_alone_and_one_support_serves_them_all():
    presence, queries, support = learned(), images(5), images(1)
    label = torch.randint(0, 2, (1, 1, 32, 32))
    both = presence(queries, [support], label.expand(5, -1, -1, -1))
    each = [presence(query, [support], label) for query in queries.split(1)]
    torch.testing.assert_close(both, torch.cat(each))
    assert both.std() > 0


def test_a_support_that_lies_twice_changes_no_statistic():
    presence, query, support = learned(), images(2), images(2)
    label = torch.randint(0, 2, (2, 1, 32, 32))
    once = presence.statistics(query, [support], label)[0]
    twice = presence.statistics(query, [support, support], label.expand(-1, 2, -1, -1))[0]
    torch.testing.assert_close(once, twice)


def test_a_support_without_the_class_is_background_and_counts_as_no_support():
    presence, query, supports = learned(), images(2), images(2).split(1)
    label = torch.zeros(2, 2, 32, 32, dtype=torch.uint8)
    label[:, 0, :16] = 1
    found = presence.statistics(query, supports, label)[0]
    assert found.isfinite().all()
    alone = presence.statistics(query, supports[:1], label[:, :1])[0]
    torch.testing.assert_close(found[:, 1], alone[:, 1])
    rule = presence.rule(1)
    torch.testing.assert_close(presence(query, supports, label), rule(found))


def test_a_known_class_that_may_be_the_supports_own_is_nothing_that_shows_instead():
    presence, support = learned(), images(1)
    label = torch.ones(1, 1, 32, 32, dtype=torch.uint8)
    before, _ = presence.statistics(support, [support], label)
    own = presence.known(support.levels[0].flatten(2)).mean(dim=2)
    presence.known.classes[-1] = (own / own.norm())[0]
    after, _ = presence.statistics(support, [support], label)
    assert len(presence.known.classes.unique(dim=0)) == 5
    torch.testing.assert_close(after, before)
    assert same_class(own, own, 1).tolist() == [[False]]  # something has to be left


def test_supports_agree_by_the_mean_cosine_of_each_two_that_show_the_class():
    a, b, c = torch.eye(8)[:3].split(1)
    cells = torch.stack([a, 0.6 * a + 0.8 * b, c], dim=2).repeat_interleave(4, 2)  # (1, 8, 3 * 4)
    shown = torch.tensor([1.0, 1, 0]).repeat_interleave(4)[None]
    torch.testing.assert_close(agreement(cells, shown, 3), torch.tensor([0.6]))
    torch.testing.assert_close(agreement(cells, torch.ones(1, 12), 3), torch.tensor([0.2]))
    torch.testing.assert_close(agreement(cells[..., :4], shown[:, :4], 1), torch.tensor([1.0]))


def test_between_one_and_five_supports_serves_what_lies_between():
    presence, statistics = learned(), torch.randn(6, 8)
    for rule in presence.rules.values():
        rule.mean, rule.scale = torch.randn(8), torch.rand(8) + 0.5
    one, two, three, five, nine = (presence.rule(K)(statistics) for K in (1, 2, 3, 5, 9))
    share = math.log(3) / math.log(5)
    torch.testing.assert_close(three, (1 - share) * one + share * five)
    assert ((two - one) * (two - three) <= 0).all() and torch.equal(five, nine)


def test_a_rule_with_fewer_statistics_says_what_it_said():
    old, statistics = Rule(6), torch.randn(5, 8)
    old.weight, old.scale = torch.randn(6), torch.rand(6) + 0.5
    new = Rule(8)
    new.load_state_dict(old.state_dict())
    torch.testing.assert_close(new(statistics), old(statistics[:, :6]))


def test_cells_that_are_nearer_to_anything_known_than_to_the_class_speak_against_it():
    presence, support = learned(), images(1)
    label = torch.ones(1, 1, 32, 32, dtype=torch.uint8)
    presence.known.mean, presence.known.shrink = torch.zeros(20), torch.zeros(128)
    known = torch.cat([presence.known.ground[:1], presence.known.classes[:1]]).T[None]
    seen = Encoded((known.repeat(1, 1, 32).unflatten(2, (8, 8)),), support.mask_map)
    shown, lead = presence.told(seen, [support], label)
    assert shown.shape == (1,) and lead.shape == (1, 1, 8, 8)
    assert (lead < LEAD[1]).all()
    same = presence.told(support, [support], label)[1]
    assert same.mean() > lead.mean()


def test_what_differs_within_a_class_is_shrunk_and_length_stays_one():
    known = Known(6)
    noise = torch.zeros(40, 6)
    noise[:, 0] = torch.randn(40)
    regions = [unit(torch.eye(6)[i] + noise[10 * i : 10 * i + 10], 1) for i in (1, 2, 3)]
    known.learn(regions, torch.eye(6)[4:])
    cells = unit(torch.tensor([1.0, 1, 0, 0, 0, 0]), 0)[None, :, None]
    seen = known.project(cells)[0, :, 0]
    assert seen[0].abs() < 0.5 * seen[1]
    torch.testing.assert_close(seen.norm(), torch.tensor(1.0))


@pytest.mark.parametrize("classes", [2, 4, 80])
def test_the_state_has_one_shape_however_many_classes_there_were(classes):
    known = Known(5)
    shapes = {name: value.shape for name, value in known.state_dict().items()}
    known.learn([torch.randn(2, 5) for _ in range(classes)], torch.randn(3, 5))
    assert {name: value.shape for name, value in known.state_dict().items()} == shapes
    copy = Known(5)
    copy.load_state_dict(known.state_dict())
    assert torch.equal(copy.classes, known.classes)
    assert len(known.classes.unique(dim=0)) == min(classes, 64)


def test_it_says_whether_it_was_fitted():
    assert learned().fitted
    assert not Presence(20).fitted


def test_nine_of_ten_shown_pairs_lie_above_zero_and_most_others_below():
    shown = torch.arange(600) % 2 == 0
    x = torch.randn(600, 6)
    x[:, 2] += 2.5 * shown
    rule = Rule(6)
    rule.fit(x, shown, torch.arange(600) % 5)
    kept = (rule(x)[shown] >= 0).float().mean()
    assert 0.87 < kept < 0.93
    assert (rule(x)[~shown] >= 0).float().mean() < 0.3


def test_the_nearest_number_of_supports_that_was_fitted_serves():
    assert [matching.nearest_fitted(K) for K in (1, 2, 3, 5, 50)] == [1, 1, 5, 5, 5]
