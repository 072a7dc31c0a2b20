"""Finds classes in pictures of any size, by windows: supports encoded once, each window once.

Arrays and open rasters in, finished rows of log-odds out; `Predictor` and the scenes stand on it.
Several threads may have a picture each: one at a time has the network, or the generator of masks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mgcl.engine.forward import Setup
from mgcl.images import windows
from mgcl.images.resize import resize_image, resize_nearest
from mgcl.masks.generator import MaskGenerator
from mgcl.model.fewshot import Encoded, FewShotNetwork
from mgcl.predict.support import Example, make_mask_maps
from mgcl.predict.turns import Turns
from mgcl.predict.voters import Voters, both


class Source(Protocol):
    """A picture that is read by windows, as `images.Raster`."""

    height: int
    width: int

    def read(self, window: tuple[int, int, int, int]) -> np.ndarray:
        """(y, x, h, w) -> (h, w, 3) uint8 RGB."""

    def valid(self, window: tuple[int, int, int, int]) -> np.ndarray:
        """(y, x, h, w) -> (h, w) bool: where there are data."""


class InMemory:
    """An array as a source."""

    def __init__(self, image: np.ndarray) -> None:
        """`image`: (H, W, 3) uint8; it is only sliced, so a `numpy.memmap` will do."""
        self.image = image
        self.height, self.width = image.shape[:2]

    def read(self, window: tuple[int, int, int, int]) -> np.ndarray:
        """As `Source`."""
        y, x, h, w = window
        return np.asarray(self.image[y : y + h, x : x + w])

    def valid(self, window: tuple[int, int, int, int]) -> np.ndarray:
        """As `Source`: everywhere."""
        return np.ones(window[2:], bool)


class Band(NamedTuple):
    """Finished rows of a picture."""

    row: int
    """Number of the row of windows that begins with them."""
    top: int
    image: np.ndarray
    """(h, W, 3) uint8."""
    valid: np.ndarray
    """(h, W) bool."""
    margins: list[Tensor]
    """(K, h, W) blended log-odds of each class; K is 1 where the network gives one answer."""
    presence: np.ndarray | None = None
    """(C, columns) float32 log-odds that each window of this row shows each of C classes, NaN where
    it holds no data; None where the network does not tell."""


class _Batch(NamedTuple):
    row: int
    columns: list[int]  # places of the windows in the row
    images: list[np.ndarray]
    maps: list[np.ndarray]


class _Row(NamedTuple):
    """A row of windows, as far as it is read."""

    row: int
    image: np.ndarray  # (at most window, W, 3)
    valid: np.ndarray
    batches: list[_Batch]


class Finder:
    """Holds encoded supports of any number of classes."""

    def __init__(
        self,
        model: FewShotNetwork,
        mask_generator: MaskGenerator | None,
        *,
        image_size: int,
        setup: Setup,
        overlap: float = 0.5,
        batch_size: int = 8,
    ) -> None:
        """Nothing is computed yet; arguments as those of `Predictor`."""
        self.model = model.to(setup.device).eval()
        self.mask_generator = mask_generator
        self.image_size, self.setup = image_size, setup
        self.overlap, self.batch_size = overlap, batch_size
        self._classes: dict[str, Voters] = {}
        self.turns = Turns()

    @property
    def names(self) -> list[str]:
        """Of the classes that are known."""
        return list(self._classes)

    @property
    def votes(self) -> int:
        """Maps of log-odds that a window gives: one a support, or one a class."""
        each = [1 if self.model.pools else len(v.encoded) for v in self._classes.values()]
        return sum(each)

    @torch.inference_mode()
    def learn(
        self,
        examples: Mapping[str, Sequence[Example]],
        pool: Mapping[str, Sequence[Example]] | None = None,
    ) -> None:
        """Take and encode the supports of every class; they replace earlier ones.

        An image that serves several classes (the same array) is encoded once.

        Args:
            examples: by class.
            pool: by class, what was surely found elsewhere (`mgcl.predict.pool`): it has a say in
                presence alone.

        Raises:
            ValueError: an object is too small to be seen by the network.
        """
        known: dict[int, Encoded] = {}
        classes = {}
        for name, given in examples.items():
            # What shows no class has no vote to give: counted, it is noise to a network that votes.
            votes = [self.model.pools or bool((one.label == 1).any()) for one in given]
            shown = {n: one for n, one in enumerate(given, start=1) if votes[n - 1]}
            labels = []
            for number, example in shown.items():
                if id(example.image) not in known:
                    made = self.encode([example.image], [example.mask_map])
                    known[id(example.image)] = made
                label = torch.from_numpy(resize_nearest(example.label, self.image_size))
                labels.append(self.setup.target(label[None].to(self.setup.device)))
                self._check_seen(known[id(example.image)], labels[-1], example, number)
            encoded = [known[id(example.image)] for example in shown.values()]
            classes[name] = Voters(encoded, torch.stack(labels, dim=1))
            if taken := (pool or {}).get(name):
                found = torch.from_numpy(np.stack([t.label for t in taken]))[None]
                marks = [classes[name].labels, self.setup.target(found.to(self.setup.device))]
                encoded = encoded + [self.encode([t.image], [t.mask_map]) for t in taken]
                together = Voters(encoded, torch.cat(marks, dim=1))
                classes[name] = classes[name]._replace(witnesses=together)
        self._classes = classes

    def _check_seen(self, encoded: Encoded, label: Tensor, example: Example, number: int) -> None:
        marked = bool((example.label == 1).any())  # else it shows what is not the class
        if marked and not self.model.sees(encoded, self.setup.target(label)):
            raise ValueError(
                f"support {number}: the labelled object is too small to be seen by the network: "
                f"choose a window of fewer pixels than {len(example.image)}, so that it is enlarged"
            )

    def grid(self, height: int, width: int, window: int) -> tuple[list[int], list[int]]:
        """Where the windows of a picture begin: rows and columns."""
        down, across = (windows.starts(n, window, self.overlap) for n in (height, width))
        return down, across

    @torch.inference_mode()
    def bands(
        self,
        source: Source,
        window: int,
        *,
        rows: range | None = None,
        mask_map: np.ndarray | None = None,
        presence: bool = False,
        keep_present: float | None = None,
        on_windows: Callable[[int], object] = lambda count: None,
    ) -> Iterator[Band]:
        """Segment a picture from top to bottom; finished rows come as soon as they are.

        Memory holds two rows of windows, however many there are. The rows from the middle of a
        picture are the same, to the bit, as if it was begun at its top.

        Args:
            source: read from one thread, which is not the caller's.
            window: pixels of the picture that a window spans.
            rows: of windows whose bands are wanted, without gaps; None: all.
            mask_map: (H, W) uint8 of the whole picture; None makes one for each window.
            presence: also whether each window shows each class, if the network can tell.
            keep_present: where the network can tell, a pixel is the class if it looks like it and
                its window shows it (`voters.both`); the share of windows that do show it which
                stay over even odds. None: presence has no say.
            on_windows: called with a number of windows as they are finished.
        """
        presence = presence or keep_present is not None
        tells = self.model.tells() if presence else None
        tops, lefts = self.grid(source.height, source.width, window)
        wanted = rows if rows is not None else range(len(tops))
        # Windows above that reach into the first band come first, as they would from the top.
        first = next(j for j in range(len(tops)) if tops[j] + window > tops[wanted.start])
        first = min(first, wanted.start)
        down, across = (torch.from_numpy(windows.weights(b, window)) for b in (tops, lefts))
        down, across = down.to(self.setup.device), across.to(self.setup.device)
        ask = partial(self.answers, window=window, presence=presence, keep_present=keep_present)
        pending: list[Tensor] = []  # (K, window, W) of each class: rows from the current top on
        for line in self._lines(source, window, tops, lefts, range(first, wanted.stop), mask_map):
            shown = np.full((len(self._classes), len(lefts)), np.nan, np.float32)
            for batch in line.batches:
                with self.turns.with_network():
                    query = self.encode(batch.images, batch.maps)
                    answers = list(ask(query))
                    on_windows(len(batch.columns))
                for c, (margins, here) in enumerate(answers):
                    if here is not None:
                        shown[c, batch.columns] = here.cpu().numpy()
                    if c == len(pending):
                        size = (margins.shape[1], window, lefts[-1] + window)
                        pending.append(down.new_zeros(size))
                    for i, column in enumerate(batch.columns):
                        weight = down[line.row, :, None] * across[column]  # (side, side)
                        left = lefts[column]
                        pending[c][..., left : left + window] += margins[i] * weight
            if empty := len(lefts) - sum(len(batch.columns) for batch in line.batches):
                with self.turns.with_network():  # which guards the counting, too
                    on_windows(empty)
            if not pending:  # no data so far
                pending = [down.new_zeros(1, window, lefts[-1] + window) for _ in self._classes]
            below = tops[line.row + 1] if line.row + 1 < len(tops) else source.height
            height = below - tops[line.row]
            if line.row >= wanted.start:
                done = [p[:, :height, : source.width] for p in pending]
                image, valid = line.image[:height], line.valid[:height]
                seen = None if tells is None else shown
                yield Band(line.row, tops[line.row], image, valid, done, seen)
            pending = [F.pad(p[:, height:], (0, 0, 0, height)) for p in pending]  # zeros below

    def _lines(
        self,
        source: Source,
        window: int,
        tops: Sequence[int],
        lefts: Sequence[int],
        rows: range,
        mask_map: np.ndarray | None,
    ) -> Iterator[_Row]:
        """Rows of windows, read and cut into masks by a thread of their own, one row ahead."""
        kept = np.zeros((0, source.width, 3), np.uint8), np.zeros((0, source.width), bool)

        def prepare(row: int, kept: tuple[np.ndarray, np.ndarray]) -> _Row:
            top, bottom = tops[row], min(tops[row] + window, source.height)
            have = len(kept[0])
            part = (top + have, 0, bottom - top - have, source.width)
            image = np.concatenate([kept[0], source.read(part)]) if part[2] else kept[0]
            valid = np.concatenate([kept[1], source.valid(part)]) if part[2] else kept[1]
            masks = None if mask_map is None else mask_map[top:bottom]
            return _Row(row, image, valid, self._cut(row, image, valid, masks, lefts, window))

        with ThreadPoolExecutor(1) as reader:
            waiting = reader.submit(prepare, rows.start, kept)
            for row in rows:
                line = waiting.result()
                if row + 1 < rows.stop:
                    again = tops[row + 1] - tops[row]
                    left = line.image[again:], line.valid[again:]
                    waiting = reader.submit(prepare, row + 1, left)
                yield line

    def _cut(
        self,
        row: int,
        image: np.ndarray,
        valid: np.ndarray,
        masks: np.ndarray | None,
        lefts: Sequence[int],
        window: int,
    ) -> list[_Batch]:
        """Windows of a row that hold data, in batches."""
        columns = [c for c, x in enumerate(lefts) if valid[:, x : x + window].any()]
        batches = []
        for first in range(0, len(columns), self.batch_size):
            chosen = columns[first : first + self.batch_size]
            parts = [windows.cut(image, 0, lefts[c], window) for c in chosen]
            if masks is None:
                with self.turns.with_masks():
                    maps = make_mask_maps(self.mask_generator, parts)
            else:
                maps = [windows.cut(masks, 0, lefts[c], window) for c in chosen]
            batches.append(_Batch(row, chosen, parts, maps))
        return batches

    def answers(
        self,
        query: Encoded,
        window: int,
        *,
        presence: bool = False,
        keep_present: float | None = None,
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Of each class in a batch of windows: log-odds (B, K, window, window), presence (B,).

        Arguments as those of `bands`; presence is None where nobody asks, or the network is silent.
        """
        tells = self.model.tells() if presence or keep_present is not None else None
        for voters in self._classes.values():
            labels = voters.labels.expand(len(query.mask_map), -1, -1, -1)
            logits = self.setup.compare(self.model, query, voters.encoded, labels, (window, window))
            margins, here = logits[:, :, 1] - logits[:, :, 0], None
            if tells is not None:
                here, lead = voters.told(tells, query)
                if lead is not None and keep_present is not None:
                    margins = margins + F.interpolate(lead, margins.shape[2:], mode="bilinear")
                if keep_present is not None:
                    cap = voters.cap(tells, query, here, keep_present)
                    margins = both(margins, cap[:, None, None, None])
            yield margins, here

    def least(self, name: str, kept: float) -> float:
        """Log-odds over which that share of the windows lies that show a class."""
        tells = self.model.tells()
        assert tells is not None
        return self._classes[name].least(tells, kept)

    def encode(self, images: Sequence[np.ndarray], maps: Sequence[np.ndarray]) -> Encoded:
        """Windows (side, side, 3) and their mask maps (side, side), encoded at S x S."""
        side = self.image_size
        resized = np.stack([resize_image(image, side) for image in images])
        masks = np.stack([resize_nearest(mask_map, side) for mask_map in maps])
        pixels = torch.from_numpy(resized).permute(0, 3, 1, 2)
        return self.setup.encode(self.model, pixels, torch.from_numpy(masks))
