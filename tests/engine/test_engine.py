"""An epoch of training and an evaluation, against plain loops with the definition's meter."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from mgcl import distributed
from mgcl.datasets.episodes import Episode, Labels
from mgcl.engine.evaluation import THRESHOLDS, Evaluation, evaluate
from mgcl.engine.forward import EncodedEpisodes, Setup
from mgcl.engine.loss import segmentation_loss
from mgcl.engine.meter import EpochMeter, LossNotFiniteError
from mgcl.engine.training import train_one_epoch
from mgcl.model.fewshot import Encoded, FewShotNetwork
from tests import oracle
from tests.ranks import run_groups

CPU = Setup(torch.device("cpu"))
CLASSES = (3, 5, 8)
IDS = range(100, 111)


class Remembered(FewShotNetwork):
    """Gives the logits that the query's first pixel is the number of; learns a shift of them."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits  # (N, K, 2, H, W)
        self.shift = nn.Parameter(torch.zeros(()))
        self.seen: list[torch.Tensor] = []

    def encode(self, images, mask_maps):
        return Encoded((images.float(),), mask_maps)

    def compare(self, query, supports, support_labels, query_mask_map, size):
        self.seen.append(support_labels)
        return self.logits[query.levels[0][:, 0, 0, 0].long()] + self.shift


def encoded(model: FewShotNetwork, batches: list[Episode]) -> list[EncodedEpisodes]:
    """Batches of episodes as an evaluation takes them."""
    found = []
    for e in batches:
        query = model.encode(e.query_image, e.query_mask_map)
        images = e.support_images.expand(-1, e.support_labels.shape[1], -1, -1, -1).unbind(1)
        pairs = zip(images, e.support_mask_maps.unbind(1), strict=True)
        labels = Labels(e.query_label, e.support_labels, e.class_id, e.episode_id)
        found.append(EncodedEpisodes(query, [model.encode(*pair) for pair in pairs], labels))
    return found


def score(model: FewShotNetwork, batches: list[Episode], **how) -> Evaluation:
    setup = how.pop("setup", CPU)
    return evaluate(model, encoded(model, batches), IDS, CLASSES, setup=setup, **how)


def make_episodes(count: int = 11, shots: int = 1, side: int = 9):
    """Batches of 4, 4 and 3 episodes with ignored pixels, and the model's logits for each."""
    g = torch.Generator().manual_seed(count + shots)
    image = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 3, side, side)
    label = torch.randint(0, 3, (count, shots + 1, side, side), generator=g, dtype=torch.uint8)
    label[label == 2] = 255
    class_id = torch.tensor(CLASSES)[torch.arange(count) % 3]
    whole = Episode(
        image, label[:, 0], label[:, 0], image[:, None], label[:, 1:], label[:, 1:], class_id,
        torch.arange(count) + 100,
    )  # fmt: skip
    batches = [Episode(*(t[i : i + 4] for t in whole)) for i in range(0, count, 4)]
    return batches, whole, torch.randn(count, shots, 2, side, side, generator=g)


@pytest.mark.parametrize("shots", [1, 3, 5])
def test_scores_at_every_threshold_are_those_of_a_plain_loop(shots):
    batches, whole, logits = make_episodes(shots=shots)
    found = score(Remembered(logits), batches)
    assert found.thresholds == THRESHOLDS and len(THRESHOLDS) == 19 and 0.5 in THRESHOLDS
    probability = logits.softmax(2)[:, :, 1]  # (N, K, H, W)
    for threshold in THRESHOLDS:
        prediction = oracle.vote((probability > threshold).to(torch.uint8))
        expected = oracle.scores(list(prediction), list(whole.query_label), whole.class_id.tolist())
        scores = found.scores(threshold)
        assert scores.miou == pytest.approx(expected[0], abs=1e-9)
        assert scores.fb_iou == pytest.approx(expected[1], abs=1e-9)
        assert scores.class_iou == pytest.approx(expected[2], abs=1e-9)
        for i, iou in enumerate(found.episode_iou(threshold).tolist()):
            alone = oracle.scores([prediction[i]], [whole.query_label[i]], [0])
            assert iou == pytest.approx(alone[0], abs=1e-9)
    assert found.episode_ids.tolist() == list(range(100, 111))
    assert found.episode_class.tolist() == whole.class_id.tolist()


def test_the_scores_of_an_evaluation_do_not_depend_on_its_batches():
    batches, whole, logits = make_episodes()
    model = Remembered(logits)
    apart = [Episode(*(t[i : i + 1] for t in whole)) for i in range(11)]
    many, one = (score(model, b) for b in (batches, apart))
    assert torch.equal(many.counts, one.counts)


def test_the_share_of_votes_can_be_changed():
    batches, whole, logits = make_episodes(shots=3)
    found = score(Remembered(logits), batches, vote_share=1.0)
    votes = (logits.softmax(2)[:, :, 1] > 0.5).sum(1)
    unanimous = (votes > 0) & (votes == votes.amax((1, 2), keepdim=True))
    expected = oracle.scores(
        list(unanimous.to(torch.uint8)), list(whole.query_label), whole.class_id.tolist()
    )
    assert found.scores(0.5).miou == pytest.approx(expected[0], abs=1e-9)


@pytest.mark.parametrize("shots", [1, 5])
def test_votes_and_the_mean_of_log_odds_are_counted_in_one_pass(shots):
    batches, whole, logits = make_episodes(shots=shots)
    found = score(Remembered(logits), batches, means=True)
    assert torch.equal(found.counts, score(Remembered(logits), batches).counts)
    assert found.of_means.of_means is None
    odds = (logits[:, :, 1] - logits[:, :, 0]).mean(1)
    for threshold in THRESHOLDS:
        prediction = (odds.sigmoid() > threshold).to(torch.uint8)
        expected = oracle.scores(list(prediction), list(whole.query_label), whole.class_id.tolist())
        scores = found.of_means.scores(threshold)
        assert (scores.miou, scores.fb_iou) == pytest.approx(expected[:2], abs=1e-9)
    assert torch.equal(found.counts, found.of_means.counts) == (shots == 1)


def evaluation_with(hits: list[int]) -> Evaluation:
    """One episode; at threshold i `hits[i]` of 100 pixels are right."""
    counts = torch.tensor([[[hit, 100, 0, 1] for hit in hits]])
    thresholds = THRESHOLDS[: len(hits)] if len(hits) != 19 else THRESHOLDS
    return Evaluation((0,), thresholds, torch.tensor([0]), torch.tensor([0]), counts, 1.0)


def test_the_calibrated_threshold_is_the_best_and_of_equal_ones_the_nearest_to_a_half():
    hits = [0] * 19
    hits[3] = 40
    assert evaluation_with(hits).best_threshold() == 0.2
    assert evaluation_with([7] * 19).best_threshold() == 0.5
    hits[14] = 40  # 0.75 is nearer to 0.5 than 0.2
    assert evaluation_with(hits).best_threshold() == 0.75
    assert evaluation_with(hits).curve()[0.75] == pytest.approx(40)


def train(model, batches, *, loss="ce", threshold=None, log_every=2, setup=CPU, lr=0.0, seen=None):
    return train_one_epoch(
        model,
        torch.optim.SGD(model.parameters(), lr=lr),
        batches,
        EpochMeter(CLASSES, setup.device, threshold=threshold, log_every=log_every),
        setup=setup,
        loss=loss,
        on_log=lambda *look: seen is None or seen.append(look),
    )


def test_an_epochs_loss_and_scores_are_those_of_a_plain_loop():
    batches, whole, logits = make_episodes()
    looks: list[tuple] = []
    result = train(Remembered(logits), batches, threshold=0.3, seen=looks)
    losses = [
        oracle.loss(logits[i : i + 4, 0], whole.query_label[i : i + 4]).item() for i in (0, 4, 8)
    ]
    assert result.steps == 3 and result.loss == pytest.approx(sum(losses) / 3, rel=1e-6)
    assert [look[0] for look in looks] == [2, 3]
    assert looks[0][1] == pytest.approx(sum(losses[:2]) / 2, rel=1e-6)
    assert looks[1][1] == pytest.approx(losses[2], rel=1e-6)
    for threshold, scores in (0.5, result.scores), (0.3, result.scores_calibrated):
        prediction = (logits.softmax(2)[:, 0, 1] > threshold).to(torch.uint8)
        expected = oracle.scores(list(prediction), list(whole.query_label), whole.class_id.tolist())
        assert tuple(scores)[:2] == pytest.approx(expected[:2], abs=1e-9)
    assert train(Remembered(logits), batches).scores_calibrated is None


@pytest.mark.parametrize("log_every", [1, 2, 50])
def test_a_loss_that_is_no_number_stops_and_names_its_episodes(log_every):
    batches, _, logits = make_episodes()
    logits[5] = math.nan  # in the second batch
    looks: list[tuple] = []
    with pytest.raises(LossNotFiniteError, match=r"nan.*\[104, 105, 106, 107\].*train.lr"):
        train(Remembered(logits), batches, log_every=log_every, seen=looks)
    assert all(math.isfinite(loss) for _, loss, _ in looks)


def test_ignored_pixels_count_as_background_in_loss_and_support_as_published():
    batches, whole, logits = make_episodes()
    model = Remembered(logits)
    published = Setup(torch.device("cpu"), ignore_background=True)
    result = train(model, batches[:1], setup=published)
    label, supports = whole.query_label[:4], whole.support_labels[:4]
    assert (label == 255).any() and (supports == 255).any()
    background = torch.where(label == 255, 0, label)
    expected = oracle.loss(logits[:4, 0], background).item()
    assert result.loss == pytest.approx(expected, rel=1e-6)
    assert torch.equal(model.seen[0], torch.where(supports == 255, 0, supports))


def test_ignored_pixels_are_left_out_of_loss_and_support_if_asked_for():
    batches, whole, logits = make_episodes()
    model = Remembered(logits)
    result = train(model, batches[:1], setup=Setup(torch.device("cpu"), ignore_background=False))
    label, valid = whole.query_label[:4], whole.query_label[:4] != 255
    log_p = logits[:4, 0].log_softmax(1)
    each = -torch.where(label == 1, log_p[:, 1], log_p[:, 0])
    assert result.loss == pytest.approx(each[valid].mean().item(), rel=1e-6)
    assert torch.equal(model.seen[0], whole.support_labels[:4])


@pytest.mark.parametrize("ignore_background", [True, False])
def test_ignored_pixels_are_left_out_of_the_metric_either_way(ignore_background):
    batches, whole, logits = make_episodes()
    setup = Setup(torch.device("cpu"), ignore_background=ignore_background)
    found = score(Remembered(logits), batches, setup=setup)
    pixels = found.counts[:, 0, 1] + found.counts[:, 0, 2]  # foreground's union, the rest
    assert torch.equal(pixels, (whole.query_label != 255).sum((1, 2)))


def test_dice_is_added_to_the_cross_entropy_and_leaves_ignored_pixels_out():
    _, whole, logits = make_episodes()
    target = whole.query_label
    p = logits[:, 0].softmax(1)[:, 1].double()
    dice = []
    for image, label in zip(p, target, strict=True):
        image, truth = image[label != 255], (label[label != 255] == 1).double()
        overlap = (image * truth).sum()
        dice.append((1 - (2 * overlap + 1) / (image.sum() + truth.sum() + 1)).item())
    added = segmentation_loss(logits[:, 0], target, "ce+dice") - segmentation_loss(
        logits[:, 0], target
    )
    assert added.item() == pytest.approx(sum(dice) / len(dice), rel=1e-5)


def test_bf16_keeps_the_logits_in_float32():
    from mgcl.model.network import build_model

    torch.manual_seed(0)
    model = build_model("efficientnet_lite0", "none").eval()
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    maps = torch.ones(1, 32, 32, dtype=torch.uint8)
    episode = Episode(image, maps, maps, image[None], maps[None], maps[None], 0, 0)
    with torch.no_grad():
        exact = CPU.forward(model, episode)
        rounded = Setup(torch.device("cpu"), "bf16").forward(model, episode)
    assert rounded.dtype == exact.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.1 * exact.abs().max()


def evaluate_share(folder: str) -> None:
    """The evaluation of this process's share of the episodes."""
    _, whole, logits = make_episodes(shots=3)
    own = distributed.share(range(11))
    batches = [Episode(*(t[own[i : i + 4]] for t in whole)) for i in range(0, len(own), 4)]
    with distributed.session(torch.device("cpu")):
        found = score(Remembered(logits), batches)
    path = Path(folder) / f"{distributed.world_size()}_{distributed.rank()}.pt"
    torch.save((len(own), found.counts, found.episode_ids, found.episode_class), path)


def test_several_processes_give_exactly_the_evaluation_of_one(tmp_path):
    run_groups("tests.engine.test_engine", ("evaluate_share", [2, 3, 12], (tmp_path,)))
    batches, _, logits = make_episodes(shots=3)
    alone = score(Remembered(logits), batches)
    shares = {2: (6, 5), 3: (4, 4, 3), 12: (1,) * 11 + (0,)}
    for count, episodes in shares.items():
        for rank, size in enumerate(episodes):
            path = tmp_path / f"{count}_{rank}.pt"
            share, counts, ids, classes = torch.load(path, weights_only=True)
            assert share == size
            assert torch.equal(counts, alone.counts)
            assert torch.equal(ids, alone.episode_ids)
            assert torch.equal(classes, alone.episode_class)


def test_an_episode_that_is_left_out_or_scored_twice_is_an_error():
    batches, _, logits = make_episodes()
    for wrong in (batches[:2], [*batches, batches[0]]):
        with pytest.raises(AssertionError, match="left out or scored twice"):
            score(Remembered(logits), wrong)
