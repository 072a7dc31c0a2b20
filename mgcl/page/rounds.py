"""What a class is searched by, and what that finds in a picture: maps of levels."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mgcl.images import windows
from mgcl.images.base import Raster
from mgcl.model.fewshot import Encoded
from mgcl.model.network import votes_needed
from mgcl.page.encoder import Encoder, Supports, batched
from mgcl.page.kept import digest, votes_to_level
from mgcl.page.pictures import Picture
from mgcl.predict.defaults import KEEP_PRESENT
from mgcl.predict.showing import Cutter
from mgcl.predict.support import Example
from mgcl.predict.supports import ClassOf
from mgcl.predict.supports import Supports as Given

BATCH = 8  # windows that are compared together: more are slower to the first, fewer to the last


class Round(NamedTuple):
    """What a class is searched by."""

    made_by: str
    """Names the maps that it finds."""
    examples: list[Example]


class Rounds:
    """Cuts supports and searches by them; what was encoded once is not encoded again."""

    def __init__(self, encoder: Encoder, window: Callable[[Raster], int]) -> None:
        """`window`: side of a support's window in its picture."""
        self.encoder, self._side = encoder, window
        self.part = 0.0
        """Of the large picture that is searched, what is done."""
        self._known: dict[str, Encoded] = {}  # encoded supports, by their pixels
        self._finders: dict[str, Supports] = {}

    def cut(self, given: ClassOf) -> Round:
        """The windows of a class's supports, as `mgcl.predict` cuts them.

        Raises:
            ValueError, OSError: a picture cannot be read, or an object is too small to be seen.
        """
        cutter = Cutter(
            self._side,
            self.encoder.masks,
            maps=self.encoder.maps,
            bands=self.encoder.pictures.bands,
            negatives=self.encoder.loaded.model.pools,
        )
        (examples,) = cutter.show(Given(classes=[given])).examples.values()
        made_by = digest(
            self.encoder.how, self.encoder.overlap, KEEP_PRESENT, *itertools.chain(*examples)
        )
        return Round(made_by, examples)

    def _finder(self, one: Round) -> Supports:
        if one.made_by not in self._finders:
            for old in list(self._finders)[:-8]:
                del self._finders[old]
            finder = Supports(self.encoder.loaded, self.encoder.overlap, self._known)
            finder.learn({"": one.examples})
            self._finders[one.made_by] = finder
        return self._finders[one.made_by]

    def find(
        self, one: Round, pictures: Sequence[Picture], stop: Callable[[], bool]
    ) -> Iterator[tuple[Picture, np.ndarray]]:
        """Levels (H, W) uint8 of encoded pictures of one window, or of a single one of many.

        Raises:
            ValueError: an object of the supports is too small to be seen.
        """
        finder = self._finder(one)
        side, vote = self.encoder.window, votes_needed(finder.votes, self.encoder.loaded.vote_share)
        if len(pictures) > 1 or max(pictures[0].size) <= side:
            query = self.encoder.load([(p, (0, 0)) for p in pictures])
            ((margins, _),) = finder.answers(query, side, keep_present=KEEP_PRESENT)
            for picture, found in zip(pictures, margins, strict=True):
                levels = votes_to_level(found, vote)
                yield picture, levels[: picture.height, : picture.width]
            return
        picture = pictures[0]
        rows = []
        for done in self._rows(finder, picture, stop):
            if stop():
                return
            rows.append(votes_to_level(done, vote)[:, : picture.width])
            self.part = sum(map(len, rows)) / picture.height
        self.part = 0.0
        yield picture, np.concatenate(rows)

    def _rows(
        self, finder: Supports, picture: Picture, stop: Callable[[], bool]
    ) -> Iterator[Tensor]:
        """Finished rows of log-odds (K, h, W), blended over the windows as `Finder.bands` does."""
        side, (tops, lefts) = self.encoder.window, self.encoder.grid(picture)
        down, across = (torch.from_numpy(windows.weights(b, side)) for b in (tops, lefts))
        pending = torch.zeros(finder.votes, side, lefts[-1] + side)
        ends = [*tops[1:], picture.height]
        for row, (top, end) in enumerate(zip(tops, ends, strict=True)):
            for columns in batched(range(len(lefts)), BATCH):
                query = self.encoder.load([(picture, (top, lefts[c])) for c in columns])
                ((margins, _),) = finder.answers(query, side, keep_present=KEEP_PRESENT)
                for column, found in zip(columns, margins.cpu(), strict=True):
                    left, weight = lefts[column], down[row, :, None] * across[column]
                    pending[..., left : left + side] += found * weight
                if stop():
                    yield pending[:, :0]
            yield pending[:, : end - top].clone()
            pending = F.pad(pending[:, end - top :], (0, 0, 0, end - top))
