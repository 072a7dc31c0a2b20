import pytest
import torch

from mgcl.engine.absence import decide, measure_absence, rank_auc
from mgcl.engine.evaluation import Evaluation
from mgcl.metrics import count_pixels

SIDE = 20


def evaluation(marked, label, classes, presence=None) -> Evaluation:
    """Of maps (N, H, W) at one threshold."""
    counts = count_pixels(marked, label)
    return Evaluation(
        class_ids=(0, 1),
        thresholds=(0.5,),
        episode_ids=torch.arange(len(marked)),
        episode_class=torch.tensor(classes),
        counts=counts[:, None],
        episodes_per_second=1.0,
        foreground=(label == 1).sum(dim=(1, 2)),
        presence=None if presence is None else torch.tensor(presence, dtype=torch.float64),
    )


@pytest.fixture
def both():
    torch.manual_seed(0)
    label = torch.zeros(4, SIDE, SIDE, dtype=torch.uint8)
    label[:, :5] = 1
    label[:, -1] = 255
    marked = label.roll(2, dims=1) == 1
    empty = torch.zeros_like(label)
    alarms = torch.zeros_like(marked)
    alarms[0, :10], alarms[1, 0, :4], alarms[2, 0, :5] = True, True, True  # 50, 1 and 1.25 %
    shown = evaluation(marked, label, [0, 0, 1, 1], [2.0, -1.0, 1.0, 0.0])
    absent = evaluation(alarms, empty, [0, 0, 1, 1], [-1.0, 0.5, -2.0, -3.0])
    return shown, absent


def test_false_alarms_and_marked_pixels_are_those_of_the_images_without_the_class(both):
    found = measure_absence(*both, 0.5)
    assert found.images == 4
    assert found.plain.alarms == 50
    assert found.plain.marked == pytest.approx((50 + 1 + 1.25) / 4)
    assert found.decided.alarms == 0
    assert found.decided.marked == pytest.approx(1 / 4)
    assert (found.kept, found.kept_absent) == (75, 25)


def test_what_is_marked_without_the_class_counts_in_the_union(both):
    found = measure_absence(*both, 0.5)
    hits, union = 3 * SIDE, 7 * SIDE  # of one shown image
    first = 2 * hits / (2 * union + 10 * SIDE + 4)
    second = 2 * hits / (2 * union + 5)
    assert found.plain.miou == pytest.approx(50 * (first + second))
    first = hits / (union + 5 * SIDE + 4)  # one is taken to be absent: only its label counts
    second = 2 * hits / (2 * union)
    assert found.decided.miou == pytest.approx(50 * (first + second))


def test_a_decision_counts_as_a_map_without_a_mark(both):
    shown, _ = both
    label = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
    label[:, :5], label[:, -1] = 1, 255
    assert torch.equal(decide(shown, 0.5)[1], count_pixels(torch.zeros_like(label), label)[0])
    assert torch.equal(decide(shown, 0.5)[0], shown.counts[0, 0])


def test_a_network_that_does_not_tell_has_no_decision(both):
    found = measure_absence(
        *(part.__class__(**{**vars(part), "presence": None}) for part in both), 0.5
    )
    assert found.decided is None and found.auc is None and found.kept is None
    assert found.plain == measure_absence(*both, 0.5).plain


def test_the_auc_is_the_share_of_pairs_in_right_order():
    higher, lower = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([0.0, 2.0])
    pairs = [(a > b) + 0.5 * (a == b) for a in higher for b in lower]
    assert rank_auc(higher, lower) == pytest.approx(float(sum(pairs)) / 6)
