import torch

from mgcl.datasets.episodes import Episode
from mgcl.engine import calibration
from mgcl.engine.forward import Setup
from mgcl.engine.loss import segmentation_loss
from mgcl.engine.optim import build_optimizer
from mgcl.model.backbone import Backbone
from mgcl.model.matcher import EpisodeThreshold, Matcher, class_share
from tests.engine.test_engine import encoded

SETUP = Setup(torch.device("cpu"))


class Colours(Backbone):
    """Each level is the image itself, averaged: what an image shows is what its features say."""

    channels = (3, 3, 3)

    def levels(self, images):
        means = [torch.nn.functional.avg_pool2d(images, s) for s in (8, 16, 32)]
        return [torch.cat([m, 0.1 * torch.ones_like(m[:, :1])], 1)[:, :3] for m in means]


def scene(class_id: int, seed: int, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """A square of a class's colour on noise, and its label."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(90, 160, (3, size, size), generator=generator, dtype=torch.uint8)
    top, left = torch.randint(0, size // 2, (2,), generator=generator).tolist()
    label = torch.zeros(size, size, dtype=torch.uint8)
    label[top : top + size // 2, left : left + size // 2] = 1
    colour = torch.tensor([[250, 20, 20], [20, 250, 20], [20, 20, 250]], dtype=torch.uint8)
    image[:, label == 1] = colour[class_id % 3][:, None]
    return image, label


def batch(shots: int, first: int = 0, episodes: int = 3) -> Episode:
    """Episodes of one query and some supports."""
    rows = []
    for e in range(episodes):
        scenes = [scene(e, 1000 * (first + e) + i) for i in range(shots + 1)]
        images, labels = (torch.stack(part) for part in zip(*scenes, strict=True))
        maps = torch.zeros_like(labels)
        rows.append((images[0], labels[0], maps[0], images[1:], labels[1:], maps[1:]))
    parts = [torch.stack(part) for part in zip(*rows, strict=True)]
    return Episode(*parts, torch.arange(episodes), first + torch.arange(episodes))


def test_the_best_threshold_is_what_trying_them_all_finds():
    torch.manual_seed(0)
    scores = torch.randn(4, 16, 16)
    label = (scores + torch.randn(4, 16, 16) > 1).to(torch.uint8)
    label[:, :2] = 255
    best, reached = calibration.best_thresholds(scores, label)
    values, target = scores[:, ::2, ::2], label[:, ::2, ::2]
    for i in range(4):
        counts = target[i] != 255
        tried = {}
        for t in values[i][counts].tolist():
            marked = (values[i] > t - 1e-6) & counts
            hits = (marked & (target[i] == 1)).sum()
            tried[t] = float(hits / (marked | (target[i] == 1)).sum())
        assert abs(max(tried.values()) - float(reached[i])) < 1e-6
        marked = (values[i] > best[i]) & counts
        iou = (marked & (target[i] == 1)).sum() / (marked | (target[i] == 1)).sum()
        torch.testing.assert_close(iou, reached[i])


def test_one_threshold_of_all_is_what_trying_them_on_every_class_finds():
    torch.manual_seed(0)
    scores, class_ids = 0.2 * torch.randn(6, 16, 16), torch.tensor([3, 3, 3, 7, 7, 7])
    label = (scores + 0.1 * torch.randn(6, 16, 16) > 0.123).to(torch.uint8)
    label[:, 4] = 255
    found = calibration.best_of_all(*calibration.overlaps(scores, label), class_ids)
    values, target = scores[:, ::2, ::2], label[:, ::2, ::2]
    tried = {}
    for t in calibration.TRIED:
        ious = []
        for of in (class_ids == 3, class_ids == 7):
            marked, counts = values[of] > t, target[of] != 255
            hits = (marked & (target[of] == 1)).sum()
            ious.append(float(hits / ((marked & counts) | (target[of] == 1)).sum()))
        tried[t] = sum(ious) / 2
    assert found == max(tried, key=lambda t: tried[t])


def test_a_threshold_leans_by_a_share_of_the_way():
    torch.manual_seed(0)
    threshold, x = EpisodeThreshold(), torch.randn(40, 8)
    threshold.fit(x, 0.1 + 0.05 * x[:, 2], torch.ones(40))
    before = threshold(x)
    threshold.lean(0.3, 0.25)
    torch.testing.assert_close(threshold(x), 0.75 * before + 0.25 * 0.3)


def test_the_threshold_is_regressed_with_weights_and_starts_as_a_number():
    torch.manual_seed(0)
    threshold = EpisodeThreshold(0.25)
    x = torch.randn(400, 8)
    assert torch.equal(threshold(x), torch.full((400,), 0.25))
    best = 0.1 + 0.05 * x[:, 2]
    best[200:] = 9.0  # of no weight
    threshold.fit(x, best, (torch.arange(400) < 200).float(), ridge=1e-6)
    torch.testing.assert_close(threshold(x[:200]), best[:200], atol=1e-4, rtol=0)


def test_training_the_metric_lowers_its_loss_and_changes_nothing_else():
    network = Matcher(Colours(), trained=True).train()
    before = {name: p.clone() for name, p in network.state_dict().items()}
    optimizer = build_optimizer("adam", network, lr=0.03, momentum=0, weight_decay=0)
    losses = []
    for i in range(40):
        episode = batch(1, first=3 * i)
        logits = SETUP.forward(network, episode)
        loss = segmentation_loss(logits[:, 0], episode.query_label, "ce+dice")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.97 * sum(losses[:10])
    changed = {n for n, p in network.state_dict().items() if not torch.equal(p, before[n])}
    assert changed == {"metrics.1.tap", "metrics.1.channel", "scale_weight", "scale_bias"}


def test_training_sees_the_prototypes_of_the_last_metric():
    network = Matcher(Colours(), trained=True).train()
    episode = batch(2, episodes=2)
    logits = SETUP.forward(network, episode)
    assert logits.shape == (2, 1, 2, 64, 64)
    images = torch.cat([episode.query_image[:1], episode.support_images[0]])
    maps = torch.zeros(3, 64, 64, dtype=torch.uint8)
    query, *supports = network.encode(images, maps).levels[-1].flatten(2)
    foreground, background = class_share(episode.support_labels[0], (4, 4))
    cells = torch.cat(supports, 1)
    P, N = (
        torch.nn.functional.normalize((cells * side.flatten()).sum(1), dim=0)
        for side in (foreground, background)
    )
    margin = (10 * ((P - N) @ query) - 1).view(1, 1, 4, 4)
    wanted = torch.nn.functional.interpolate(margin, size=(64, 64), mode="bilinear")[0, 0]
    torch.testing.assert_close(logits[0, 0, 1] - logits[0, 0, 0], wanted)


def test_fitting_the_threshold_serves_its_number_of_supports_alone():
    network = Matcher(Colours())
    episodes = encoded(network, [batch(5, first=3 * i) for i in range(10)])
    calibration.fit_threshold(network, episodes, shots=5, setup=SETUP)
    assert float(network.threshold_of(1).weight.abs().sum()) == 0
    assert float(network.threshold_of(5).weight.abs().sum()) > 0
    assert network.threshold_of(4) is network.threshold_of(5)
    assert network.threshold_of(2) is network.threshold_of(1)
    episode = batch(5, first=100)
    logits = SETUP.forward(network, episode)
    assert logits.shape == (3, 1, 2, 64, 64)
    label = episode.query_label == 1
    marked = logits[:, 0, 1] > logits[:, 0, 0]
    assert (marked & label).sum() / (marked | label).sum() > 0.6
