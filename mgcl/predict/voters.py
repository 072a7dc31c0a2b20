"""The encoded supports of a class, and whether they say that a window shows it."""

from typing import NamedTuple

from torch import Tensor

from mgcl.model.fewshot import Encoded
from mgcl.model.presence import Presence, count_shots


class Voters(NamedTuple):
    """Supports of one class."""

    encoded: list[Encoded]
    """K of one image."""
    labels: Tensor
    """(1, K, S, S), as `Setup.target` gives them."""
    witnesses: "Voters | None" = None
    """These, and others that only have a say in presence (`mgcl.predict.pool`)."""

    def presence(self, tells: Presence, query: Encoded) -> Tensor:
        """Log-odds that windows show the class: (B,)."""
        return self.told(tells, query)[0]

    def told(self, tells: Presence, query: Encoded) -> tuple[Tensor, Tensor | None]:
        """As `Presence.told`."""
        return tells.told(query, self.encoded, self.labels.expand(len(query.mask_map), -1, -1, -1))

    def least(self, tells: Presence, kept: float) -> float:
        """Log-odds over which that share of the windows lies that show a class."""
        return tells.rule(count_shots(self.labels)).least(kept)

    def cap(self, tells: Presence, query: Encoded, presence: Tensor, kept: float) -> Tensor:
        """Log-odds that windows show the class, counted from those that decide: (B,).

        Args:
            tells: of the network.
            query: B windows.
            presence: (B,) of `presence`.
            kept: see `Finder.bands`.
        """
        over = presence - self.least(tells, kept)
        if self.witnesses is None:
            return over
        also = self.witnesses.presence(tells, query) - self.witnesses.least(tells, kept)
        return over.minimum((over + also) / 2)  # never likelier than by the supports alone


def both(pixels: Tensor, window: Tensor) -> Tensor:
    """Log-odds that a pixel is the class and its window shows it, given those of each.

    The odds are twice those of the product of both probabilities, which marks too little.
    """
    a, b = (-odds.clamp(-40, 40) for odds in (pixels, window))
    return -((a.exp() * (1 + b.exp()) + b.exp()) / 2).log()
