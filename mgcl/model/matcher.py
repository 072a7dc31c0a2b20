"""The matcher: frozen features compared without a trained decoder, all supports together.

What a support's class looks like is kept in two ways: as two prototypes (means of its foreground
and of its background cells), and as all its cells, each of which the query's cells may resemble
(attention, which keeps several modes of a class). The query's own surest cells then correct the
prototypes (self-support, Fan et al., ECCV 2022), and the map is averaged over the query's masks.
Nothing of it is trained but, if wanted, how much each channel and each tap of the features counts;
the supports fit that to their class (`mgcl.model.adaptation`).

Words: B queries, K supports each, C channels, n = h*w cells of the grid of stride 16.
"""

import weakref
from collections import deque
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgcl.model.adaptation import adapt
from mgcl.model.backbone import Backbone
from mgcl.model.fewshot import Encoded, FewShotNetwork
from mgcl.model.matching import (
    FITTED_SHOTS,
    TEMPERATURE,
    class_share,
    dot,
    match,
    nearest_fitted,
    once,
    over_masks,
    side_by_side,
    support_prototypes,
    unit,
)
from mgcl.model.presence import Presence

# Taps of the backbone (`Backbone.taps`) by the weight that each starts with: the untrained metric
# takes what names things (stride 16, and 32 with its last but one), the trained one has to find
# what else helps among all strides.
UNTRAINED: Mapping[int, float] = {2: 1.0, 4: 0.6, 3: 0.6}
TRAINED: Mapping[int, float] = {2: 1.0, 1: 0.22, 4: 0.9, 0: 0.08}


def on_grid(tap: Tensor, size: tuple[int, int]) -> Tensor:
    """A tap with every feature of unit length, on the grid: (B, C, h, w) -> (B, C, n).

    A finer one is averaged by area before, a coarser one enlarged afterwards.
    """
    if tap.shape[2] > size[0] or tap.shape[3] > size[1]:
        tap = F.adaptive_avg_pool2d(tap, size)
    tap = unit(tap.float())
    if tap.shape[2:] != size:
        tap = F.interpolate(tap, size=size, mode="bilinear", align_corners=False)
    return tap.flatten(2)


class Metric(nn.Module):
    """How much each tap and each channel counts: positive numbers, kept as logarithms."""

    tap_of: Tensor

    def __init__(self, weights: Mapping[int, float], channels: Sequence[int]) -> None:
        """`weights`: of the taps by their place among the backbone's, which have `channels`."""
        super().__init__()
        self.places = tuple(weights)
        self.tap = nn.Parameter(torch.tensor([*weights.values()]).log())
        sizes = torch.tensor([channels[i] for i in weights])
        self.channel = nn.Parameter(torch.zeros(int(sizes.sum())))
        tap_of = torch.arange(len(sizes)).repeat_interleave(sizes)
        self.register_buffer("tap_of", tap_of, persistent=False)

    def forward(self, taps: Mapping[int, Tensor]) -> Tensor:
        """All taps (B, C_t, n) of unit length -> joined, of unit length: (B, C, n)."""
        scale = (self.channel + self.tap.index_select(0, self.tap_of)).exp()
        return unit(torch.cat([taps[i] for i in self.places], dim=1) * scale[:, None])


TURNS = 4  # of a quarter: from above nothing is up
START = 0.08  # best for untrained EfficientNet-Lite0 on iSAID training classes: 0.07 to 0.11
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.9, 0.98)
STEP = 4  # pixels of the map between those that its statistics are taken from


class EpisodeThreshold(nn.Module):
    """Where the map of one episode is split: a number, or regressed from what the map looks like.

    Ridge regression from the map's quantiles and deviation and the support's share of the class to
    the threshold that would have been best, fitted on episodes of the training classes.
    """

    def __init__(self, start: float = START) -> None:
        """`start`: the threshold of every episode until it is fitted."""
        super().__init__()
        count = len(QUANTILES) + 2
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("scale", torch.ones(count))
        self.register_buffer("weight", torch.zeros(count))
        self.register_buffer("bias", torch.tensor(float(start)))

    def forward(self, statistics: Tensor) -> Tensor:
        """(B, S) from `statistics` -> (B,)."""
        return (statistics - self.mean) / self.scale @ self.weight + self.bias

    @staticmethod
    def statistics(scores: Tensor, share: Tensor) -> Tensor:
        """What the threshold is regressed from.

        Args:
            scores: (B, H, W) the map.
            share: (B,) mean share of the class in the supports' cells.

        Returns:
            (B, S).
        """
        values = scores[:, ::STEP, ::STEP].flatten(1)
        quantiles = torch.tensor(QUANTILES).to(values, non_blocking=True)
        quantiles = torch.quantile(values, quantiles, dim=1).T
        return torch.cat([quantiles, values.std(dim=1, keepdim=True), share[:, None]], dim=1)

    def fit(self, statistics: Tensor, best: Tensor, weight: Tensor, *, ridge: float = 60.0) -> None:
        """Regress the best thresholds.

        Args:
            statistics: (N, S) of N episodes.
            best: (N,) each one's best threshold.
            weight: (N,) how much each counts: the IoU that its best threshold reaches.
            ridge: the penalty of squared weights.
        """
        weight = weight / weight.mean().clamp_min(1e-8)
        self.mean, self.scale = statistics.mean(dim=0), statistics.std(dim=0).clamp_min(1e-6)
        z = (statistics - self.mean) / self.scale
        z = torch.cat([z, torch.ones_like(z[:, :1])], dim=1).double()
        penalty = torch.diag(torch.cat([z.new_full((z.shape[1] - 1,), ridge), z.new_zeros(1)]))
        weighted = z * weight[:, None]
        solved = torch.linalg.solve(weighted.T @ z + penalty, weighted.T @ best.double())
        self.weight, self.bias = solved[:-1].to(self.mean), solved[-1].to(self.mean)

    def lean(self, common: float, share: float) -> None:
        """Draw every episode's threshold to one number, by a share of the way."""
        self.weight *= 1 - share
        self.bias += share * (common - self.bias)


class Matcher(FewShotNetwork):
    """Frozen features matched by one or two metrics, whose scores several supports average."""

    pools = True

    def __init__(self, backbone: Backbone, *, trained: bool = False, turns: int = TURNS) -> None:
        """Nothing fitted yet.

        Args:
            backbone: it is frozen.
            trained: with a second metric, which `main_1` trains.
            turns: quarter turns of each image, whose features are averaged.
        """
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.turns = turns
        self._starts = [UNTRAINED, TRAINED] if trained else [UNTRAINED]
        metrics = [Metric(weights, backbone.tap_channels) for weights in self._starts]
        self.metrics = nn.ModuleList(metrics)
        self.metrics[0].requires_grad_(False)
        # of the training alone, which sees prototypes
        self.scale_weight = nn.Parameter(torch.tensor(10.0).log())
        self.scale_bias = nn.Parameter(torch.tensor(-1.0))
        self.thresholds = nn.ModuleDict({str(K): EpisodeThreshold() for K in FITTED_SHOTS})
        # factors of supports by their features and labels, the latest
        self._known: deque[tuple[list[weakref.ref[Tensor]], Tensor, Tensor]] = deque(maxlen=64)
        self.presence = Presence(sum(backbone.tap_channels[place] for place in UNTRAINED))

    def train(self, mode: bool = True) -> "Matcher":
        """As nn.Module's, but the backbone stays in eval mode."""
        super().train(mode)
        self.backbone.eval()
        self._known.clear()  # the metric may change
        return self

    def encode(self, images: Tensor, mask_maps: Tensor) -> Encoded:
        """Each metric's features, of unit length, on the grid of stride 16: (B, C, h, w).

        In training those of the image as it is: four times as fast, and the metric serves both.
        """
        taps = self.backbone.taps(images)
        return Encoded(
            self.describe(taps if self.training else self.averaged(images, taps)), mask_maps
        )

    def encoders(self) -> Sequence[nn.Module]:
        """The backbone and the metrics; the thresholds have no part in encoding."""
        return [self.backbone, self.metrics]

    def averaged(self, images: Tensor, taps: Sequence[Tensor]) -> list[Tensor]:
        """Sums of the taps of the images and of their turns, turned back; only direction counts."""
        found = list(taps)
        for turn in range(1, self.turns):
            turned = self.backbone.taps(images.rot90(turn, (2, 3)))
            found = [x + y.rot90(-turn, (2, 3)) for x, y in zip(found, turned, strict=True)]
        return found

    def describe(self, taps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The levels of `encode` from the backbone's five taps."""
        size = (taps[2].shape[2], taps[2].shape[3])
        places = sorted({place for weights in self._starts for place in weights})
        cells = {place: on_grid(taps[place], size) for place in places}
        return tuple(metric(cells).unflatten(2, size) for metric in self.metrics)

    def tells(self) -> Presence | None:
        """Its presence, if that was fitted."""
        return self.presence if self.presence.fitted else None

    def threshold_of(self, shots: int) -> EpisodeThreshold:
        """The threshold that serves a number of supports: that of the nearest fitted number."""
        found = self.thresholds[str(nearest_fitted(shots))]
        assert isinstance(found, EpisodeThreshold)
        return found

    def compare(
        self,
        query: Encoded,
        supports: Sequence[Encoded],
        support_labels: Tensor,
        query_mask_map: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        """One answer of all supports: -> (B, 1, 2, *size) logits, 0 at the episode's threshold.

        A support whose label has no foreground is an example of what is not the class. In training
        the last metric's prototypes answer alone: through all else it is four times as slow and
        learns nothing better.
        """
        if self.training:
            return self._by_prototypes(query, supports, support_labels, size)
        scores, statistics = self.score(query, supports, support_labels, query_mask_map, size)
        threshold = self.threshold_of(support_labels.shape[1])(statistics)
        margin = (scores - threshold[:, None, None]) / TEMPERATURE
        return torch.stack([-margin / 2, margin / 2], dim=1)[:, None]

    def _by_prototypes(
        self,
        query: Encoded,
        supports: Sequence[Encoded],
        support_labels: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        cells, features, foreground, background = side_by_side(query, supports, support_labels, -1)
        P, N = support_prototypes(features, foreground, background)
        scores = dot(P - N, cells) * self.scale_weight.exp() + self.scale_bias
        grid = scores.unflatten(1, query.levels[-1].shape[2:])
        margin = F.interpolate(grid[:, None], size=size, mode="bilinear", align_corners=False)
        return torch.stack([-margin / 2, margin / 2], dim=2)

    def _match(
        self, query: Encoded, supports: Sequence[Encoded], support_labels: Tensor, place: int
    ) -> Tensor:
        """By one metric, adapted to the supports where it is the last: (B, n)."""
        labels = once(supports, support_labels)
        cells, features, *shares = side_by_side(query, supports, labels, place)
        if place != len(self.metrics) - 1:
            return match(cells, features, *shares)
        one = all(len(s.mask_map) == 1 for s in supports)  # that serve all queries
        one = one and (len(labels) == 1 or bool((labels == labels[:1]).all()))
        levels = [support.levels[place] for support in supports]
        factors = self._adapted(levels, labels[:1]) if one else None
        if factors is None:
            K, B, grid = len(levels), 1 if one else len(cells), levels[0].shape[2:]
            factors = adapt(
                features[:B].unflatten(2, (K, *grid)).transpose(1, 2),
                *(share[:B].unflatten(1, (K, *grid)) for share in shares),
                scale=self.scale_weight.exp(),
                bias=self.scale_bias,
            )[..., None]
            if one:
                of = [weakref.ref(level) for level in levels]
                self._known.append((of, labels[:1].clone(), factors))
        return match(unit(cells * factors), unit(features * factors), *shares)

    def _adapted(self, levels: Sequence[Tensor], labels: Tensor) -> Tensor | None:
        """What an earlier batch of queries found of the very same supports."""
        for of, given, factors in self._known:
            same = len(of) == len(levels) and all(o() is x for o, x in zip(of, levels, strict=True))
            if same and torch.equal(given, labels):
                return factors
        return None

    def score(
        self,
        query: Encoded,
        supports: Sequence[Encoded],
        support_labels: Tensor,
        query_mask_map: Tensor,
        size: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """The map (B, *size), whose values are comparable, and its (B, S) statistics.

        One support is compared by the last metric alone: on classes that it was not trained on the
        sum is no better, and takes twice as long.
        """
        places = range(len(self.metrics)) if len(supports) > 1 else [len(self.metrics) - 1]
        scores = torch.stack(
            [self._match(query, supports, support_labels, place) for place in places]
        ).mean(dim=0)
        grid = (query.levels[0].shape[2], query.levels[0].shape[3])
        whole = (query_mask_map.shape[1], query_mask_map.shape[2])
        drawn = over_masks(scores.unflatten(1, grid), query_mask_map, whole)
        labels = once(supports, support_labels)
        share = torch.stack([class_share(label, grid)[0] for label in labels.unbind(1)])
        share = share.mean(dim=(0, 2)).expand(len(drawn))
        statistics = EpisodeThreshold.statistics(drawn, share)
        if size != whole:  # a window of another number of pixels than the network sees
            drawn = F.interpolate(drawn[:, None], size=size, mode="bilinear")[:, 0]
        return drawn, statistics
