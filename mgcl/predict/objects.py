"""Objects of a class map: what hangs together by edges, found in one pass however large the map.

The map comes in blocks of rows. A component that reaches the block's last row stays open until a
block closes it, so that no object is cut at the border of a block, and memory holds outlines, not
pixels.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import shapely
from rasterio._err import CPLE_BaseError  # what GDAL says; there is no public name
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.features import shapes as outlines
from rasterio.transform import Affine
from rasterio.warp import transform
from shapely.geometry.base import BaseGeometry
from skimage.measure import label

from mgcl.predict.vectors import Grid

BLOCK = 1 << 23  # pixels of the map that are looked at together


class Found(NamedTuple):
    """One object."""

    shape: BaseGeometry
    """In pixel coordinates: x = columns, y = rows, (0, 0) the outer corner of the first pixel."""
    class_id: int
    score: float
    """Mean of the scores of its pixels."""
    pixels: int


@dataclass
class _Component:
    class_id: int
    pixels: int = 0
    total: float = 0.0  # of the scores
    parts: list[BaseGeometry] = field(default_factory=list)

    def take(self, other: "_Component") -> None:
        self.pixels += other.pixels
        self.total += other.total
        self.parts += other.parts

    def found(self) -> Found:
        whole = self.parts[0] if len(self.parts) == 1 else shapely.union_all(self.parts)
        if len(self.parts) > 1:
            whole = whole.simplify(0)  # corners in the middle of an edge, where blocks met
        return Found(whole, self.class_id, self.total / self.pixels, self.pixels)


def rows_of_block(width: int) -> int:
    """Rows of a map that are looked at together."""
    return max(1, BLOCK // width)


def find_objects(
    blocks: Iterable[tuple[np.ndarray, np.ndarray]], *, min_pixels: int = 1
) -> Iterator[Found]:
    """All objects of a map; those that a block closes come after it, those of one block by rows.

    Args:
        blocks: rows of the map from top to bottom, (h, W) uint8 of classes, 0 = none, and (h, W)
            scores of any number type; all of one width.
        min_pixels: smaller objects are dropped.
    """
    waiting: dict[int, _Component] = {}
    above: np.ndarray | None = None  # (W,) numbers of components in the last row; 0 = none
    top = 0
    for classes, scores in blocks:
        labels, made = _components(classes, scores, top, min_pixels)
        joined = _join(labels[0], above, made, waiting) if above is not None else {}
        above = _renumbered(labels[-1], joined)
        at_bottom = set(np.unique(above).tolist()) - {0}
        everything = waiting | made
        waiting = {number: everything[number] for number in everything if number in at_bottom}
        closed = (c for number, c in everything.items() if number not in at_bottom)
        yield from (c.found() for c in closed if c.pixels >= min_pixels)
        # Numbers of the next block begin at 1 again: those that wait become negative.
        above = -above
        waiting = {-number: component for number, component in waiting.items()}
        top += len(classes)
    yield from (c.found() for c in waiting.values() if c.pixels >= min_pixels)


def _components(
    classes: np.ndarray, scores: np.ndarray, top: int, min_pixels: int
) -> tuple[np.ndarray, dict[int, _Component]]:
    """Numbers of a block's components (h, W), from 1, and what they are."""
    labels = label(classes, background=0, connectivity=1).astype(np.int32)
    flat = labels.ravel()
    pixels = np.bincount(flat)
    totals = np.bincount(flat, weights=scores.ravel())
    kept = pixels >= min_pixels
    kept[labels[0]] = kept[labels[-1]] = True  # may go on in other blocks
    kept[0] = False
    class_of = np.zeros(len(pixels), np.uint8)
    class_of[flat] = classes.ravel()
    labels = np.where(kept, np.arange(len(kept), dtype=np.int32), 0)[labels]
    made = {
        int(n): _Component(int(class_of[n]), int(pixels[n]), float(totals[n]))
        for n in np.flatnonzero(kept)
    }
    place = Affine.translation(0, top)
    for ring, number in outlines(labels, mask=labels > 0, connectivity=4, transform=place):
        rings = ring["coordinates"]
        made[int(number)].parts.append(shapely.Polygon(rings[0], rings[1:]))
    return labels, made


def _join(
    first: np.ndarray,
    above: np.ndarray,
    made: dict[int, _Component],
    waiting: dict[int, _Component],
) -> dict[int, int]:
    """Unite components that meet at the seam; returns which number each one goes by now."""
    goes_by: dict[int, int] = {}

    def root(number: int) -> int:
        while number in goes_by:
            number = goes_by[number]
        return number

    touching = (first != 0) & (above != 0)
    pairs = np.unique(np.stack([above[touching], first[touching]], axis=1), axis=0)
    for upper, lower in pairs.tolist():
        if waiting[upper].class_id == made[lower].class_id:
            one, other = root(upper), root(lower)
            if one != other:
                goes_by[one] = other
    for number in sorted(goes_by):
        into = root(number)
        source = waiting.pop(number) if number < 0 else made.pop(number)
        made[into].take(source)
    return {number: root(number) for number in goes_by}


def _renumbered(row: np.ndarray, joined: dict[int, int]) -> np.ndarray:
    numbers, places = np.unique(row, return_inverse=True)
    return np.array([joined.get(n, n) for n in numbers.tolist()], np.int64)[places.ravel()]


def smooth(shape: BaseGeometry) -> BaseGeometry:
    """Without the pixels' stairs: corners within a pixel go, the others are cut off at a quarter.

    What would vanish or cross itself stays as it is.
    """
    plain = shape.simplify(1.0)
    rings = [_cut_corners(plain.exterior), *map(_cut_corners, plain.interiors)]
    rounded = shapely.Polygon(rings[0], rings[1:])
    return rounded if rounded.is_valid and rounded.area > 0 else shape


def _cut_corners(ring: shapely.LinearRing) -> np.ndarray:
    """Chaikin's rule, once: (n + 1, 2) -> (2n, 2)."""
    corners = shapely.get_coordinates(ring)
    begin, end = corners[:-1], corners[1:]
    return np.stack([0.75 * begin + 0.25 * end, 0.25 * begin + 0.75 * end], axis=1).reshape(-1, 2)


def square_metres(grid: Grid, points: np.ndarray) -> np.ndarray | None:
    """Area on the ground of the pixels at `points`.

    Measured in an equal-area projection around the image's middle, whatever its own CRS is: degrees
    have none, and those of Web Mercator are too large by 1 / cos² of the latitude.

    Args:
        grid: of the image.
        points: (n, 2) x and y in pixels.

    Returns:
        (n,); None where the image's place on earth is not known.
    """
    if not grid.placed:
        return None
    assert grid.transform is not None and grid.crs is not None
    corners = points[:, None] + np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    xs, ys = on_ground(grid.transform, corners.reshape(-1, 2)).T
    try:
        middle = on_ground(grid.transform, np.array([[grid.width / 2, grid.height / 2]]))[0]
        (lon,), (lat,) = transform(grid.crs, CRS.from_epsg(4326), middle[:1], middle[1:])
        equal = CRS.from_string(f"+proj=laea +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m")
        xs, ys = map(np.array, transform(grid.crs, equal, xs, ys))
    except (RasterioError, CRSError, CPLE_BaseError):  # a grid of its own, not tied to the earth
        return None
    x, y = xs.reshape(-1, 4), ys.reshape(-1, 4)
    return np.abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(axis=1)) / 2


def on_ground(place: Affine, xy: np.ndarray) -> np.ndarray:
    """(n, 2) pixel coordinates -> (n, 2) coordinates of the image's CRS."""
    x, y = xy[:, 0], xy[:, 1]
    return np.stack(
        [place.a * x + place.b * y + place.c, place.d * x + place.e * y + place.f], axis=1
    )
