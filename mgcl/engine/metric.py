"""What the matcher learns: how much each channel counts, and where an episode's map is split.

Few numbers, since everything with many of them learns the ten training classes by heart.
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgcl.datasets.episodes import Episode
from mgcl.engine.forward import Setup
from mgcl.engine.optim import poly_lr, set_lr
from mgcl.model.fewshot import join
from mgcl.model.matcher import Matcher, class_share, unit

RATES = {"metric": 1.0, "scale": 10.0, "bias": 3.0}
EVERY = 2  # pixels of map and label between those that the best threshold is found on


def train_metric(
    network: Matcher,
    loader: Iterable[Episode],
    *,
    setup: Setup,
    steps: int,
    lr: float,
    on_log: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train the matcher's last metric: each image of an episode finds the class in each other.

    Args:
        network: on the device; its backbone stays as it is.
        loader: `steps` batches of episodes of several supports.
        setup: device and precision.
        steps: of Adam, with a rate that falls to 0 by the poly schedule.
        lr: rate of the logarithms of the weights.
        on_log: called with (steps done, loss) now and then.
    """
    metric = network.metrics[-1]
    scale = nn.Parameter(torch.tensor(10.0, device=setup.device))
    bias = nn.Parameter(torch.tensor(-1.0, device=setup.device))
    parts = {"metric": list(metric.parameters()), "scale": [scale], "bias": [bias]}
    optimizer = torch.optim.Adam(
        [{"params": parts[name], "multiplier": rate} for name, rate in RATES.items()]
    )
    for step, batch in enumerate(loader):
        set_lr(optimizer, poly_lr(lr, step, steps))
        margins, target, counts = pair_margins(network, setup.move(batch))
        loss = pair_loss(scale * margins + bias, target, counts)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == steps - 1:
            on_log(step + 1, float(loss.detach()))


def pair_margins(network: Matcher, episode: Episode) -> tuple[Tensor, Tensor, Tensor]:
    """How much nearer each cell is to another image's foreground than to its background.

    Args:
        network: its last metric is the one to train.
        episode: a batch of B episodes on the device, with E = K + 1 images each.

    Returns:
        margins (B, E, E - 1, n) of each image by each other one as its support; the share of the
        class in the same cells; the share that counts at all.
    """
    images = torch.cat([episode.query_image[:, None], episode.support_images], dim=1)
    labels = torch.cat([episode.query_label[:, None], episode.support_labels], dim=1)
    B, E = labels.shape[:2]
    with torch.no_grad():
        cells, size = network.describe(images.flatten(0, 1))
        foreground, background = class_share(labels.flatten(0, 1), size)  # (B*E, n)
    features = network.metrics[-1](cells)  # (B*E, C, n)
    P, N = (unit(torch.einsum("bcn,bn->bc", features, w)) for w in (foreground, background))
    support, query = (P - N).unflatten(0, (B, E)), features.unflatten(0, (B, E))
    margins = torch.einsum("bic,bjcn->bjin", support, query)  # (B, query, support, n)
    others = ~torch.eye(E, dtype=torch.bool, device=margins.device)
    margins = margins[:, others].unflatten(1, (E, E - 1))
    share, counts = (
        side.unflatten(0, (B, E))[:, :, None].expand_as(margins)
        for side in (foreground, foreground + background)
    )
    return margins, share, counts


def pair_loss(logits: Tensor, share: Tensor, counts: Tensor) -> Tensor:
    """Binary cross-entropy of all cells that count, and the soft Dice loss of each pair."""
    entropy = F.binary_cross_entropy_with_logits(logits, share, reduction="none")
    entropy = (entropy * counts).sum() / counts.sum().clamp_min(1e-8)
    probability = logits.sigmoid() * counts
    overlap = (probability * share).sum(dim=-1)
    size = probability.sum(dim=-1) + share.sum(dim=-1)
    return entropy + (1 - (2 * overlap + 1) / (size + 1)).mean()


@torch.inference_mode()
def fit_threshold(network: Matcher, loader: Iterable[Episode], *, setup: Setup) -> None:
    """Regress the threshold of an episode from its map, on episodes of the training classes.

    Args:
        network: on the device.
        loader: batches of episodes, all of one number of supports, for which this serves.
        setup: device and precision.
    """
    found: list[tuple[Tensor, ...]] = []
    for batch in loader:
        episode = setup.move(batch)
        B, K = episode.support_labels.shape[:2]
        query = setup.encode(network, episode.query_image, episode.query_mask_map)
        images, maps = episode.support_images, episode.support_mask_maps
        supports = setup.encode(network, images.flatten(0, 1), maps.flatten(0, 1)).split(1)
        scores, statistics = network.score(
            query,
            [join(supports[k::K]) for k in range(K)],
            setup.target(episode.support_labels),
            episode.query_mask_map,
            (episode.query_label.shape[1], episode.query_label.shape[2]),
        )
        best, reached = best_thresholds(scores, episode.query_label)
        found.append((statistics, best, reached))
    statistics, best, reached = (torch.cat(part) for part in zip(*found, strict=True))
    network.threshold_of(K).fit(statistics, best, reached)


def best_thresholds(scores: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Where each map would best be split, and the IoU that this reaches: (B,), (B,).

    Args:
        scores: (B, H, W).
        label: (B, H, W) in {0, 1, 255}.
    """
    values = scores[:, ::EVERY, ::EVERY].flatten(1)
    target = label[:, ::EVERY, ::EVERY].flatten(1)
    counts = target != 255
    order = values.masked_fill(~counts, -torch.inf).argsort(dim=1, descending=True)
    values, hits = values.gather(1, order), (target == 1).gather(1, order).cumsum(dim=1)
    marked = counts.gather(1, order).cumsum(dim=1)
    union = marked + hits[:, -1:] - hits
    iou = hits / union.clamp_min(1)
    reached, place = iou.max(dim=1)
    after = (place + 1).clamp_max(values.shape[1] - 1)
    pair = values.gather(1, torch.stack([place, after], dim=1))  # (B, 2)
    return pair.mean(dim=1), reached
