"""Whether a query shows the supports' class, told without any training images.

As `mgcl.model.presence`, but what an image may show instead is not known: the supports' own mean
cell stands for it. Six statistics and their weights, found by logistic regression on pairs of real
aerial tiles. Fitted on the training classes of a fold, they rank pairs of its novel classes with an
AUC of 0.78 / 0.73 by one support and of 0.89 / 0.81 by five (folds 0 / 2).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mgcl.model.fewshot import Encoded
from mgcl.model.matching import (
    SELF_BACKGROUND,
    SELF_FOREGROUND,
    dot,
    mean_of,
    once,
    side_by_side,
    support_prototypes,
    sure_cells,
    unit,
)
from mgcl.model.presence import Presence, likeness_to_sure, top
from mgcl.model.rule import Rule

# Of the statistics below, in their order: weights, bias, and what pairs that share a class reach
# (quantiles 5, 10, ... 95 %), by the number of supports.
RULES = {
    "1": (
        (7.0862, -1.6151, 4.8719, -2.473, 1.4988, 0.5061),
        0.0208,
        (-0.29, 0.0, 0.24, 0.43, 0.58, 0.72, 0.86, 0.99, 1.1, 1.23)
        + (1.38, 1.51, 1.67, 1.83, 2.04, 2.28, 2.61, 3.01, 3.7),
    ),
    "5": (
        (11.1957, -2.1172, 10.3327, -2.6964, 5.5771, 0.986),
        -0.1049,
        (-0.5, 0.0, 0.34, 0.55, 0.79, 0.97, 1.16, 1.37, 1.55, 1.8)
        + (2.05, 2.26, 2.5, 2.74, 3.08, 3.43, 3.92, 4.53, 5.55),
    ),
}


class UntrainedPresence(Presence):
    """Presence for a matcher that was never trained; nothing of it is fitted."""

    def __init__(self) -> None:
        """With the weights of `RULES`."""
        super().__init__(0)
        for shots, (weight, bias, shown) in RULES.items():
            self.rules[shots] = rule = Rule(len(weight))
            rule.weight, rule.bias = torch.tensor(weight), torch.tensor(bias)
            rule.shown = torch.tensor(shown)

    @property
    def fitted(self) -> bool:
        """It always has an opinion."""
        return True

    def statistics(
        self, query: Encoded, supports: Sequence[Encoded], support_labels: Tensor
    ) -> tuple[Tensor, None]:
        """(B, S), arguments as those of `Presence.statistics`."""
        labels = once(supports, support_labels)
        cells, support, foreground, background = side_by_side(query, supports, labels, 0)
        middle = support.float().mean(dim=2, keepdim=True)
        cells, support = unit(cells.float() - middle), unit(support.float() - middle)
        prototypes = support_prototypes(support, foreground, background)
        P, N = (p.expand(cells.shape[:2]) for p in prototypes)
        likeness, margin = dot(P, cells), dot(P - N, cells)  # (B, n)
        found = unit(mean_of(cells, likeness, SELF_FOREGROUND, largest=True))
        rest = unit(mean_of(cells, margin, SELF_BACKGROUND, largest=False))
        scene = unit(cells.mean(dim=2))
        sure = sure_cells(foreground, background)[0]
        alike = likeness_to_sure(cells, support, sure)  # (B, sure cells, n)
        refound = alike.amax(dim=2)
        counts = refound > -1
        statistics = torch.stack(
            [
                (refound * counts).sum(dim=1) / counts.sum(dim=1),
                (rest * P).sum(dim=1),
                top(alike.amax(dim=1), SELF_FOREGROUND),
                (found * scene).sum(dim=1),
                (P * N).sum(dim=1),
                (scene * unit(support.mean(dim=2))).sum(dim=1),
            ],
            dim=1,
        )
        return statistics, None
