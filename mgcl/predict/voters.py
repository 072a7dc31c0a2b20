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
        labels = self.labels.expand(len(query.mask_map), -1, -1, -1)
        return tells(query, self.encoded, labels).float()

    def least(self, tells: Presence, kept: float) -> float:
        """Log-odds over which that share of the windows lies that show a class."""
        return tells.rule(count_shots(self.labels)).least(kept)

    def cap(self, tells: Presence, query: Encoded, presence: Tensor, kept: float) -> Tensor:
        """Log-odds that no pixel of a window exceeds: (B,).

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
