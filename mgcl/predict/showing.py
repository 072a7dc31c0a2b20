"""From supports in files to the windows that the network is shown, and what to say of them."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely
from rasterio.features import shapes as outlines

from mgcl.images import windows
from mgcl.images.base import Raster
from mgcl.images.raster import open_raster
from mgcl.masks.generator import MaskGenerator
from mgcl.predict.cutting import Corner, find_windows, marked_by, paint, too_large
from mgcl.predict.foreground import read_foreground
from mgcl.predict.inputs import StoredMaps
from mgcl.predict.predictor import MAX_SUPPORTS
from mgcl.predict.support import Example, make_mask_maps
from mgcl.predict.supports import ONE_CLASS, Given, Supports
from mgcl.predict.vectors import Feature, Grid, is_vector, names_of, read_features

MAX_WINDOWS = 16  # that one image gives, unless more are asked for


class Shown(NamedTuple):
    """The windows of all supports."""

    examples: dict[str, list[Example]]
    """By class."""
    said: list[str]
    """What was used of each image, and what not; a line each."""
    metres: float | None
    """Side of a support's pixel on the ground, where it is known."""


class Cutter:
    """How windows are cut out of supports."""

    def __init__(
        self,
        window: Callable[[Raster], int],
        generator: MaskGenerator | None,
        *,
        maps: StoredMaps | None = None,
        bands: Sequence[int] | None = None,
        max_windows: int = MAX_WINDOWS,
        negatives: bool = True,
    ) -> None:
        """Open nothing yet.

        Args:
            window: side of a window in an image, pixels.
            generator: cuts the windows into masks.
            maps: mask maps made beforehand, instead.
            bands: of the images.
            max_windows: most that an image gives.
            negatives: whether the network learns from what does not show the class.
        """
        self.window, self.generator, self.maps = window, generator, maps
        self.bands, self.max_windows, self.negatives = bands, max_windows, negatives
        self.said: list[str] = []
        self.metres: float | None = None

    def show(self, supports: Supports) -> Shown:
        """Cut all windows.

        Raises:
            ValueError: an image, label or vector file that cannot be read or does not fit; a class
                that no window shows; more windows of one than can vote.
        """
        examples: dict[str, list[Example]] = {c.name: [] for c in supports.classes}
        for c in supports.classes:
            for given in c.supports:
                if given.label_id is None:
                    given = given.model_copy(update={"label_id": c.label_id})
                for name, example in self._windows(given, c.name):
                    examples[name or c.name].append(example)
            for given in c.negatives:
                examples[c.name] += self._against(given)
        for given in supports.mixed:
            for name, example in self._windows(given, None):
                examples.setdefault(name or ONE_CLASS, []).append(example)
        for given in supports.negatives:
            against = self._against(given)
            for shown in examples.values():
                shown += against
        for name, shown in examples.items():
            if not any((example.label == 1).any() for example in shown):
                raise ValueError(f"no support shows {name}")
            if len(shown) > MAX_SUPPORTS:
                raise ValueError(f"{len(shown)} windows show {name}: at most {MAX_SUPPORTS} can")
        return Shown(examples, self.said, self.metres)

    def _against(self, given: Given) -> list[Example]:
        """Windows of what does not show the class: all of them, or what the label marks."""
        found = [example for _, example in self._windows(given, ONE_CLASS)]
        if given.label is None:
            return found
        labels = [np.where(e.label == 1, 0, 255).astype(np.uint8) for e in found]
        return [e._replace(label=label) for e, label in zip(found, labels, strict=True)]

    def _windows(self, given: Given, name: str | None) -> Iterator[tuple[str, Example]]:
        """(class, window) of an image; the class is "" where the file names none."""
        with open_raster(given.image, self.bands) as raster:
            if self.metres is None:
                self.metres = raster.metres
            if given.label is None:
                yield from self._negative(given.image, raster, name)
            elif is_vector(given.label):
                yield from self._marked(given.image, given.label, raster, name, given.field)
            else:
                yield from self._labelled(given, given.label, raster, name or ONE_CLASS)

    def _negative(
        self, image: Path, raster: Raster, name: str | None
    ) -> Iterator[tuple[str, Example]]:
        """Windows spread evenly over an image that does not show the class."""
        if not self.negatives:
            raise ValueError(_no_negatives(image))
        side = self.window(raster)
        tops, lefts = (windows.starts(n, side, 0) for n in (raster.height, raster.width))
        corners = list(itertools.product(tops, lefts))
        chosen = corners[:: -(-len(corners) // self.max_windows)]
        self.said.append(f"{image.name}: {_count(len(chosen), 'window')} without the class")
        for corner in chosen:
            part, mask_map = self._part(image, raster, corner, side)
            yield name or "", Example(part, np.zeros((side, side), np.uint8), mask_map)

    def _labelled(
        self, given: Given, label: Path, raster: Raster, name: str
    ) -> Iterator[tuple[str, Example]]:
        marked = read_foreground(label, given.label_id)
        if marked.shape != (raster.height, raster.width):
            raise ValueError(
                f"{label} has {marked.shape[1]} x {marked.shape[0]} pixels, its image "
                f"{given.image} {raster.width} x {raster.height}"
            )
        if not (marked == 1).any():
            raise ValueError(f"label {label} marks no pixel")
        rings = outlines((marked == 1).astype(np.uint8), mask=marked == 1)
        shapes = [shapely.Polygon(r["coordinates"][0], r["coordinates"][1:]) for r, _ in rings]
        features = [Feature(shape, name, "area") for shape in shapes]
        side = self.window(raster)
        for corner in self._corners(given.image, features, side, raster, name):
            part, mask_map = self._part(given.image, raster, corner, side)
            y, x = corner
            yield name, Example(part, windows.cut(marked, y, x, side), mask_map)

    def _marked(
        self, image: Path, vector: Path, raster: Raster, name: str | None, field: str | None
    ) -> Iterator[tuple[str, Example]]:
        grid = Grid(raster.height, raster.width, raster.crs, raster.transform)
        features, said = read_features(vector, grid, image=image, field=field)
        self.said += said
        if name is not None and not any(f.name.casefold() == name.casefold() for f in features):
            features = [f if f.negative or f.ignored else f._replace(name=name) for f in features]
        names = names_of(features) if name is None else [name]
        side = self.window(raster)
        size = min(side, raster.height), min(side, raster.width)
        unused = 0
        for corner in self._corners(image, features, side, raster, name or ""):
            part, mask_map = self._part(image, raster, corner, side)
            seen = mask_map[: size[0], : size[1]]
            here = [f for f in features if f.shape.intersects(_frame(corner, size))]
            unused += sum(
                f.kind == "point" and not marked_by(f, size, corner=corner, mask_map=seen).any()
                for f in here
            )
            shown = 0
            for one in names:
                named = [f._replace(name=one) if _same(f, one) else f for f in here]
                label = paint(named, one, size, corner=corner, mask_map=seen)
                against = any(_against(f, one) for f in here) and self.negatives
                if (label == 1).any() or against:
                    shown += 1
                    yield one, Example(part, windows.cut(label, 0, 0, side), mask_map)
            if not shown and not self.negatives and any(f.negative for f in here):
                self.said.append(f"{vector.name}: {_no_negatives(image)}")
        if unused:
            self.said.append(f"{vector.name}: {_count(unused, 'point')} without a mask under it")

    def _corners(
        self, image: Path, features: Sequence[Feature], side: int, raster: Raster, name: str
    ) -> list[Corner]:
        """Windows around the objects, those that show most of them; says what is used."""
        found = find_windows(features, side, (raster.height, raster.width))
        areas = [sum(features[i].shape.area for i in members) for _, members in found]
        order = np.argsort(-np.minimum(areas, side**2 / 2), kind="stable")[: self.max_windows]
        used = sum(len(found[i][1]) for i in order)
        text = f"{image.name}: {_count(len(order), 'window')} around "
        text += f"{_count(used, 'marked object')}{f' of {name}' if name else ''}"
        if used < len(features):
            text += f"; {len(features) - used} others are not used (--max-windows)"
        if large := too_large(features, side):
            text += f"; of {_count(large, 'object')} larger than a window the rim alone is shown"
        self.said.append(text)
        return [found[i][0] for i in sorted(order)]

    def _part(
        self, image: Path, raster: Raster, corner: Corner, side: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and masks of a window, mirrored where the image ends."""
        y, x = corner
        size = min(side, raster.height - y), min(side, raster.width - x)
        part = windows.cut(raster.read((y, x, *size)), 0, 0, side)
        if self.maps is not None:
            return part, windows.cut(self.maps.load(image), y, x, side)
        return part, make_mask_maps(self.generator, [part])[0]


def _frame(corner: Corner, size: tuple[int, int]) -> shapely.Polygon:
    return shapely.box(corner[1], corner[0], corner[1] + size[1], corner[0] + size[0])


def _same(feature: Feature, name: str) -> bool:
    return feature.name.casefold() == name.casefold()


def _against(feature: Feature, name: str) -> bool:
    """Whether a feature marks what is not that class."""
    word = feature.name.strip().casefold()
    return feature.negative and (not word.startswith("not ") or word[4:].strip() == name.casefold())


def _no_negatives(image: Path) -> str:
    return (
        f"{image} shows what is not the class, from which this network does not learn: leave "
        "--checkpoint out, the matcher does"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
