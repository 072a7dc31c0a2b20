"""The meter against the definition of mIoU and FB-IoU."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mgcl.metrics import IoUMeter, count_pixels, foreground_iou, precision_recall
from tests import oracle


def episodes(seed: int, count: int, classes: tuple[int, ...]):
    g = torch.Generator().manual_seed(seed)
    prediction = torch.randint(0, 2, (count, 5, 7), generator=g, dtype=torch.uint8)
    label = torch.randint(0, 3, (count, 5, 7), generator=g, dtype=torch.uint8)
    label[label == 2] = 255
    label[::3] *= label[::3] == 255  # every third image shows no foreground
    class_id = torch.tensor(classes)[torch.randint(0, len(classes), (count,), generator=g)]
    return prediction, label, class_id


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 12), st.sampled_from([(5, 6, 7), (0, 3), (14,)]))
def test_scores_are_the_definition_s(seed, count, classes):
    prediction, label, class_id = episodes(seed, count, classes)
    seen = tuple(sorted(set(class_id.tolist())))
    meter = IoUMeter(seen)
    meter.update(prediction, label, class_id)
    miou, fb_iou, class_iou = oracle.scores(list(prediction), list(label), class_id.tolist())
    got = meter.compute()
    assert got.miou == pytest.approx(miou, abs=1e-9)
    assert got.fb_iou == pytest.approx(fb_iou, abs=1e-9)
    assert got.class_iou == pytest.approx(class_iou, abs=1e-9)


def test_the_order_and_size_of_batches_do_not_matter():
    prediction, label, class_id = episodes(1, 12, (5, 6, 7))
    together, apart = IoUMeter((5, 6, 7)), IoUMeter((5, 6, 7))
    together.update(prediction, label, class_id)
    for part in torch.arange(12).flip(0).split(5):
        apart.update(prediction[part], label[part], class_id[part])
    assert together.compute() == apart.compute()


def test_a_class_that_never_occurs_counts_as_zero_in_the_mean():
    prediction, label, class_id = episodes(2, 6, (5,))
    meter = IoUMeter((5, 6))
    meter.update(prediction, label, class_id)
    scores = meter.compute()
    assert scores.class_iou[6] == 0
    assert scores.miou == pytest.approx(scores.class_iou[5] / 2)


def test_a_perfect_prediction_scores_100_and_its_inverse_0():
    _, label, class_id = episodes(3, 7, (5, 6))
    label[:, 0, 0] = 1
    truth = (label == 1).to(torch.uint8)
    for prediction, expected in ((truth, 100.0), (1 - truth, 0.0)):
        meter = IoUMeter(sorted(set(class_id.tolist())))
        meter.update(prediction, label, class_id)
        assert meter.compute()[:2] == (expected, expected)


def test_pixels_of_255_are_left_out_whatever_is_predicted_there():
    prediction, label, class_id = episodes(4, 6, (5,))
    flipped = torch.where(label == 255, 1 - prediction, prediction)
    assert torch.equal(count_pixels(prediction, label), count_pixels(flipped, label))


def test_counts_stay_exact_beyond_float32():
    meter = IoUMeter((0,))
    label = torch.zeros(1, 4096, 4097, dtype=torch.uint8)  # 16,781,312 pixels, over 2**24
    prediction = label.clone()
    prediction[0, 0, 0] = 1
    for _ in range(2):
        meter.update(prediction, label, torch.tensor([0]))
    assert meter.counts[0].tolist() == [0, 2, 2 * 4096 * 4097 - 2, 2 * 4096 * 4097]


def test_the_iou_of_single_images_is_the_definition_s():
    prediction, label, _ = episodes(5, 6, (5,))
    for i, iou in enumerate(foreground_iou(prediction, label).tolist()):
        expected = oracle.scores([prediction[i]], [label[i]], [0])[0]
        assert 100 * iou == pytest.approx(expected)


def test_precision_and_recall_are_shares_of_what_is_marked_and_of_what_is_there():
    label = torch.tensor([[[1, 1, 1, 0, 0, 0, 255]]])
    prediction = torch.tensor([[[[1, 0, 0, 1, 0, 0, 1]]], [[[0] * 7]]])  # two thresholds
    counts = count_pixels(prediction, label)[:, 0]
    found = precision_recall(counts, (label == 1).sum())
    assert found[0].tolist() == pytest.approx([50, 100 / 3])
    assert found[1].isnan().tolist() == [True, False] and found[1, 1] == 0
    nothing = precision_recall(count_pixels(prediction[1, 0], label * 0), torch.tensor([0]))
    assert nothing.isnan().all()
