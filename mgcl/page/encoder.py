"""Pictures as the network sees them: cut into windows and masks, encoded once, kept."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from mgcl.engine.features import Recent
from mgcl.images import windows
from mgcl.model.fewshot import Encoded
from mgcl.page.kept import KeptFeatures, digest
from mgcl.page.pictures import Picture, Pictures
from mgcl.predict.finder import Finder
from mgcl.predict.inputs import StoredMaps
from mgcl.predict.load import Loaded
from mgcl.predict.support import make_mask_maps

TOGETHER = 4  # windows that are encoded at once
REMEMBERED = 300  # mask maps of supports
Corner = tuple[int, int]
T = TypeVar("T")


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Items in groups of at most `size`."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


class Remembered:
    """A generator of masks that cuts the same image once; of the last few hundred."""

    def __init__(self, loaded: Loaded) -> None:
        """Of a network."""
        self._generator = loaded.mask_generator
        self.spec = self._generator.spec if self._generator else {"name": "none"}
        self._known: Recent[np.ndarray] = Recent(REMEMBERED, lambda mask_map: 1)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """As `MaskGenerator`."""
        name = digest(image)
        known = name in self._known
        found = self._known[name] if known else make_mask_maps(self._generator, [image])[0]
        self._known.use({name: found})
        return found


class Supports(Finder):
    """A finder that remembers how its supports were encoded, together with others."""

    def __init__(self, loaded: Loaded, overlap: float, known: dict[str, Encoded]) -> None:
        """`known`: encoded supports by their pixels, shared by all classes."""
        how = {"image_size": loaded.image_size, "setup": loaded.setup, "overlap": overlap}
        super().__init__(loaded.model, loaded.mask_generator, **how)  # type: ignore[arg-type]
        self._known = known

    def encode(self, images: Sequence[np.ndarray], maps: Sequence[np.ndarray]) -> Encoded:
        """As `Finder.encode`."""
        name = digest(*images, *maps)
        if name not in self._known:
            self._known[name] = super().encode(images, maps)
        return self._known[name]


class Encoder:
    """Encodes the windows of pictures."""

    def __init__(
        self,
        pictures: Pictures,
        loaded: Loaded,
        *,
        window: int,
        overlap: float,
        folder: Path,
        maps: StoredMaps | None = None,
    ) -> None:
        """Arguments as those of `Search`; `folder` keeps what is encoded."""
        self.pictures, self.loaded, self.window, self.maps = pictures, loaded, window, maps
        self.overlap = overlap
        self.done: dict[int, int] = {}
        """Windows of each picture that are encoded."""
        self._finder = self.finder()
        self._total: int | None = None
        blank = np.zeros((window, window, 3), np.uint8)
        like = self._finder.encode([blank], [blank[..., 0]])
        self.masks = Remembered(loaded)
        masks = self.masks.spec if maps is None else maps.store.spec
        self.how = digest(
            loaded.model.fingerprint(), masks, window, loaded.image_size, pictures.bands
        )
        self._kept = KeptFeatures(folder / self.how, like)

    def finder(self) -> Supports:
        """A finder without supports, which shares nothing with others."""
        return Supports(self.loaded, self.overlap, {})

    def share(self) -> float:
        """Of all windows of all pictures, those that are encoded."""
        if self._total is None:
            grids = map(self.grid, self.pictures.all)
            self._total = max(1, sum(len(down) * len(across) for down, across in grids))
        return min(1.0, sum(self.done.values()) / self._total)

    def grid(self, picture: Picture) -> tuple[list[int], list[int]]:
        """Where its windows begin: rows and columns."""
        return self._finder.grid(picture.height, picture.width, self.window)

    def encode(self, picture: Picture, stop: Callable[[], bool]) -> bool:
        """Encode what is not kept yet; False where it was stopped before the end.

        Raises:
            ValueError, OSError: the picture is damaged, or has no masks.
        """
        corners = list(itertools.product(*self.grid(picture)))
        missing = [c for c in corners if self._name(picture, c) not in self._kept]
        self.done[picture.number] = len(corners) - len(missing)
        for group in batched(missing, TOGETHER):
            if stop():
                return False
            parts, maps = self._cut(picture, group)
            encoded = Finder.encode(self._finder, parts, maps)
            for corner, one in zip(group, encoded.split(), strict=True):
                self._kept.keep(self._name(picture, corner), one)
            self.done[picture.number] += len(group)
        return True

    def load(self, chosen: Sequence[tuple[Picture, Corner]]) -> Encoded:
        """Encoded windows as a batch, where the network is."""
        found = self._kept.load([self._name(*one) for one in chosen])
        return found.to(self.loaded.setup.device)

    def _name(self, picture: Picture, corner: Corner) -> str:
        return digest(picture.key, picture.stamp, corner)

    def _cut(
        self, picture: Picture, corners: Sequence[Corner]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        side, parts = self.window, []
        for y, x in corners:
            size = min(side, picture.height - y), min(side, picture.width - x)
            parts.append(windows.cut(self.pictures.read(picture, (y, x, *size)), 0, 0, side))
        if self.maps is None:
            return parts, make_mask_maps(self.loaded.mask_generator, parts)
        whole = self.maps.load(picture.path)
        return parts, [windows.cut(whole, y, x, side) for y, x in corners]
