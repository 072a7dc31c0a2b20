"""Whether a query shows the supports' class at all: log-odds of an image.

A map of scores says where the class would be, not whether it is there: whatever looks least unlike
it scores high. So the query's cells have to choose between the supports and other things that are
known: the training classes and plain background. What is known of these also says which differences
between features mean nothing (within-class covariance normalisation, Hatch et al., Interspeech
2006: directions in which images of one class differ are shrunk). Eight statistics of a query and
its supports go into a logistic regression, fitted on training images that do and do not share a
class (`mgcl.engine.presence`). Each image is judged by itself: how unusual its statistics are among
other images of one place does not rank these better, it only tells of how many shows the class.

Words: as in `mgcl.model.matching`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mgcl.model.fewshot import Encoded
from mgcl.model.matching import (
    FITTED_SHOTS,
    SELF_BACKGROUND,
    SELF_FOREGROUND,
    dot,
    mean_of,
    nearest_fitted,
    once,
    side_by_side,
    support_prototypes,
    sure_cells,
    unit,
)
from mgcl.model.rule import Rule

AXES = 128  # directions that are shrunk
SPREAD = 0.005  # of all within-class variance: an axis with as much is shrunk by a square root of 2
CLASSES, GROUND = 64, 32  # known things that the query's cells may be instead
ALIKE = {1: 0.45, 5: 0.6}  # cosine to supports, by their number, of a class that may be theirs
FEW = 0.02  # of an image's cells say whether a known class is there
STATISTICS = 8
LEAD = (10.0, 2.0)  # log-odds of a cell by its lead: slope, and what it has to make up for


class Known(nn.Module):
    """What the training classes say: the metric, and what else an image may show.

    Its state has one shape, however many classes there were: places that are left over repeat.
    """

    mean: Tensor
    axes: Tensor
    shrink: Tensor
    classes: Tensor
    ground: Tensor

    def __init__(self, channels: int) -> None:
        """`channels` of the features."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("axes", torch.zeros(channels, AXES))
        self.register_buffer("shrink", torch.zeros(AXES))
        self.register_buffer("classes", torch.zeros(CLASSES, channels))
        self.register_buffer("ground", torch.zeros(GROUND, channels))

    def centre(self, cells: Tensor) -> Tensor:
        """Cells of unit length, as a matcher has them, less the mean cell: (B, C, n)."""
        return unit(cells - self.mean[:, None])

    def project(self, cells: Tensor) -> Tensor:
        """Centred cells in the metric: (B, C, n) -> (B, C, n)."""
        return unit(cells - self.axes @ (self.shrink[:, None] * (self.axes.T @ cells)))

    def forward(self, cells: Tensor) -> Tensor:
        """Cells of unit length, as a matcher has them, in the metric: (B, C, n) -> (B, C, n)."""
        return self.project(self.centre(cells))

    def learn(self, regions: Sequence[Tensor], ground: Tensor) -> None:
        """Set metric, classes and ground; the mean is set before.

        Args:
            regions: of each class, (two or more, C) means of its centred cells, one an image.
            ground: (any, C) centred means of what is no class; at most `GROUND` count.
        """
        within = [
            (of_class - of_class.mean(dim=0)) / math.sqrt(len(of_class) - 1) for of_class in regions
        ]
        _, sizes, axes = torch.linalg.svd(torch.cat(within), full_matrices=False)
        share = (sizes.square() / sizes.square().sum().clamp_min(1e-12))[:AXES]
        self.axes, self.shrink = torch.zeros_like(self.axes), torch.zeros_like(self.shrink)
        self.axes[:, : len(share)] = axes[: len(share)].T
        self.shrink[: len(share)] = 1 - (SPREAD / (SPREAD + share)).sqrt()
        seen_most = sorted(regions, key=len, reverse=True)[:CLASSES]
        means = [self.project(of_class.T[None]).mean(dim=2) for of_class in seen_most]
        self.classes = _repeated(unit(torch.cat(means)), CLASSES)
        self.ground = _repeated(self.project(ground.T[None])[0].T, GROUND)


def _repeated(rows: Tensor, count: int) -> Tensor:
    """The rows over and over: (any, C) -> (count, C)."""
    return rows[torch.arange(count, device=rows.device) % len(rows)]


class Presence(nn.Module):
    """Log-odds that queries show the class of their supports; 0 keeps nine of ten that do."""

    def __init__(self, channels: int) -> None:
        """`channels` of the features; it says nothing before it is fitted."""
        super().__init__()
        self.known = Known(channels)
        self.rules = nn.ModuleDict({str(K): Rule(STATISTICS) for K in FITTED_SHOTS})

    @property
    def fitted(self) -> bool:
        """Whether it has an opinion."""
        return bool(self.known.shrink.any())

    def forward(
        self, query: Encoded, supports: Sequence[Encoded], support_labels: Tensor
    ) -> Tensor:
        """Of each query by itself: -> (B,); arguments as those of `statistics`."""
        return self.told(query, supports, support_labels)[0]

    def told(
        self, query: Encoded, supports: Sequence[Encoded], support_labels: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Of each query, and what speaks for each of its cells; arguments as of `statistics`.

        Returns:
            (B,), and (B, 1, h, w) log-odds, to be added to those of a map that knows of nothing
            else, or None: it knows of nothing else either.
        """
        found, lead = self.statistics(query, supports, support_labels)
        if lead is not None:
            grid = (query.levels[0].shape[2], query.levels[0].shape[3])
            lead = (LEAD[0] * lead + LEAD[1]).unflatten(1, (1, *grid))
        return self.rule(count_shots(once(supports, support_labels)))(found), lead

    def rule(self, shots: int) -> Rule:
        """What makes log-odds of the statistics; between fitted numbers of supports, between."""
        fewest, most = FITTED_SHOTS
        share = math.log(shots / fewest) / math.log(most / fewest)
        one, five = self.rules[str(fewest)], self.rules[str(most)]
        assert isinstance(one, Rule) and isinstance(five, Rule)
        if not 0 < share < 1:
            return one if share <= 0 else five
        with one.weight.device:
            between = Rule(len(one.weight))
        pairs = zip(one.linear(), five.linear(), strict=True)
        between.weight, between.bias, between.shown = (torch.lerp(x, y, share) for x, y in pairs)
        return between

    def statistics(
        self, query: Encoded, supports: Sequence[Encoded], support_labels: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """What the log-odds are told from.

        Args:
            query: B images, encoded by a matcher.
            supports: K times B images, or one that serves every query; what a label without
                foreground shows is background.
            support_labels: (B, K, H, W) integers, 1 = class, 0 = background, else neither.

        Returns:
            (B, S), and the cells' lead, as of `pair_statistics`, or None.
        """
        seen = [self._in_metric(support) for support in supports]
        labels = once(supports, support_labels)
        sides = side_by_side(self._in_metric(query), seen, labels, 0)
        return pair_statistics(*sides, self.known, labels.shape[1])

    def _in_metric(self, images: Encoded) -> Encoded:
        features = images.levels[0].float()
        cells = self.known(features.flatten(2))
        return Encoded((cells.unflatten(2, features.shape[2:]),), images.mask_map)


def count_shots(support_labels: Tensor) -> int:
    """Supports (B, K, H, W) that show the class; the others show what is not the class."""
    return int((support_labels == 1).flatten(2).any(dim=2).sum(dim=1).max())


def pair_statistics(
    query: Tensor,
    support: Tensor,
    foreground: Tensor,
    background: Tensor,
    known: Known,
    shots: int = 1,
) -> tuple[Tensor, Tensor]:
    """Eight numbers of each query and its supports, in the metric.

    Args:
        query: (B, C, n) of unit length.
        support: (B or 1, C, m), the cells of all supports side by side.
        foreground: (B or 1, m) share of the class in each.
        background: (B or 1, m) share of anything else that counts.
        known: other things that the query may show.
        shots: how many supports lie side by side.

    Returns:
        (B, 8), and (B, n): how much nearer each cell is to the class than to anything known.
    """
    prototypes = support_prototypes(support, foreground, background)
    P, N = (p.expand(query.shape[:2]) for p in prototypes)
    likeness, margin = dot(P, query), dot(P - N, query)  # (B, n)
    found = unit(mean_of(query, likeness, SELF_FOREGROUND, largest=True))
    rest = unit(mean_of(query, margin, SELF_BACKGROUND, largest=False))
    nearest = likeness_to_sure(query, support, sure_cells(foreground, background)[0]).amax(dim=1)
    instead = torch.einsum("kc,bcn->bkn", known.classes, query)
    instead = instead.masked_fill(same_class(P, known.classes, shots)[..., None], -1)
    ground = torch.einsum("kc,bcn->bkn", known.ground, query).amax(dim=1)
    lead = likeness - instead.amax(dim=1).maximum(ground)
    statistics = torch.stack(
        [
            top(likeness, SELF_FOREGROUND) - top(instead, FEW).amax(dim=1),
            top(nearest, SELF_FOREGROUND),
            (found * P).sum(dim=1) - (found @ known.ground.T).amax(dim=1),
            (found * unit(query.mean(dim=2))).sum(dim=1),  # low: what is found stands out
            (rest * N).sum(dim=1),  # whether the surroundings are alike
            margin.std(dim=1),
            top(lead, SELF_FOREGROUND),
            agreement(support, foreground, shots).expand(len(query)),
        ],
        dim=1,
    )
    return statistics, lead


def same_class(prototype: Tensor, classes: Tensor, shots: int) -> Tensor:
    """Known classes (k, C) that may be the supports' own (B, C), but never all: (B, k) bool.

    Whoever trained on a class looks for it, too: it is not what an image shows instead.
    """
    alike = prototype @ classes.T
    least = alike.amin(dim=1, keepdim=True)
    return alike > least.clamp_min(ALIKE[nearest_fitted(shots)])


def agreement(support: Tensor, foreground: Tensor, shots: int) -> Tensor:
    """How alike the supports show the class: mean cosine of each two, 1 of a single one: (B,).

    Supports without the class are left out.
    """
    each = support.unflatten(2, (shots, -1)) * foreground.unflatten(1, (shots, -1))[:, None]
    means = unit(each.sum(dim=3))  # (B, C, K)
    count = (means.square().sum(dim=1) > 0.5).sum(dim=1)  # (B,)
    pairs = count * (count - 1)
    both = means.sum(dim=2).square().sum(dim=1) - count
    return torch.where(pairs > 0, both / pairs.clamp_min(1), 1)


def likeness_to_sure(query: Tensor, support: Tensor, weight: Tensor) -> Tensor:
    """Of each cell to the sure ones, those with a weight: -> (B, most sure cells, n).

    Supports and weights, (B or 1, m), may be the same for all; -1 in places that are left over.
    """
    count = int((weight > 0).sum(dim=1).amax())  # few of the cells, as a rule
    weight, place = weight.topk(count, dim=1)
    chosen = support.gather(2, place[:, None].expand(-1, support.shape[1], -1))  # (B, C, count)
    likeness = torch.bmm(chosen.transpose(1, 2).expand(len(query), -1, -1), query)
    return likeness.masked_fill(weight[..., None] == 0, -1)


def top(scores: Tensor, share: float) -> Tensor:
    """Mean of the largest: (..., n) -> (...)."""
    return scores.topk(max(1, round(share * scores.shape[-1])), dim=-1).values.mean(dim=-1)
