import torch

from mgcl.model.untrained_presence import UntrainedPresence
from tests.model.test_presence import images, learned


def test_an_image_like_the_support_is_likelier_to_show_its_class_and_more_supports_serve_too():
    torch.manual_seed(0)
    presence, (support, other) = UntrainedPresence(), images(2).split()
    label = torch.zeros(1, 2, 32, 32, dtype=torch.long)
    label[..., :16, :16] = 1
    for supports in [support], [support, support.clone()]:
        given = label[:, : len(supports)]
        same, unlike = (presence(query, supports, given) for query in (support, other))
        assert same > unlike and same.isfinite().all()


def test_queries_together_are_told_as_each_alone_and_nothing_is_fitted():
    torch.manual_seed(1)
    presence, support, queries = UntrainedPresence(), images(1), images(3)
    label = torch.zeros(1, 1, 32, 32, dtype=torch.long)
    label[..., 8:20, 8:20] = 1
    together = presence(queries, [support], label.expand(3, -1, -1, -1))
    alone = torch.cat([presence(q, [support], label) for q in queries.split()])
    torch.testing.assert_close(together, alone)
    assert presence.fitted


def test_a_rule_knows_over_which_log_odds_a_share_of_the_shown_pairs_lies():
    rule = learned().rule(1)
    statistics = torch.randn(400, 8)
    shown = statistics[:, 0] + torch.randn(400) > 0
    rule.fit(statistics, shown, torch.arange(400) % 5)
    assert abs(rule.least(0.9)) < 1e-6 and rule.least(0.5) > rule.least(0.8) > 0
    kept = (rule(statistics)[shown] > rule.least(0.6)).float().mean()
    assert 0.55 < kept < 0.65


def test_a_rule_of_before_asks_for_nothing_more():
    presence, old = learned(), learned().state_dict()
    presence.load_state_dict({k: v for k, v in old.items() if not k.endswith("shown")})
    assert presence.rule(5).least(0.5) == 0
