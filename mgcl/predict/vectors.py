"""Objects marked in vector files: GeoJSON, GeoPackage, Shapefile, labelme and COCO JSON.

What is read here lies in pixel coordinates of an image, x to the right and y downwards, (0, 0) the
outer corner of its first pixel, whatever the file's own coordinates are.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
from rasterio._err import CPLE_BaseError  # what GDAL says; there is no public name
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.transform import Affine
from rasterio.warp import transform
from shapely.geometry.base import BaseGeometry

from mgcl.files import read_text
from mgcl.predict.annotations import read_coco, read_labelme, valid

SUFFIXES = (".geojson", ".json", ".gpkg", ".shp", ".fgb", ".kml")
NAME_FIELDS = ("class", "class_name", "label", "category", "name", "type", "kind")
BACKGROUND = ("not", "background", "negative", "none")
IGNORED = ("ignore", "ignored")

Kind = str  # "area", "box" or "point"


class Feature(NamedTuple):
    """Something that a user marked in an image."""

    shape: BaseGeometry
    """In pixel coordinates; a box is the rectangle itself."""
    name: str
    """Of the class, "" where the file says none."""
    kind: Kind
    """An "area" means its pixels; a "box" and a "point" choose the masks under them."""

    @property
    def negative(self) -> bool:
        """Whether it marks what is not the class, or, with "not ship", not that class."""
        word = self.name.strip().casefold()
        return word in BACKGROUND or word.startswith("not ")

    @property
    def ignored(self) -> bool:
        """Whether its pixels do not count at all."""
        return self.name.strip().casefold() in IGNORED


class Grid(NamedTuple):
    """Where the pixels of an image lie."""

    height: int
    width: int
    crs: CRS | None = None
    transform: Affine | None = None
    """From (column, row) to coordinates; None for an image that says nothing of its place."""

    @property
    def placed(self) -> bool:
        """Whether its place on earth is known."""
        return bool(self.crs) and self.transform is not None


class Marked(NamedTuple):
    """The features of a file that lie in an image."""

    features: list[Feature]
    said: list[str]
    """What was left out or assumed, a sentence each."""


def is_vector(path: Path) -> bool:
    """Whether a file is one of those that are read here, by its suffix."""
    return path.suffix.lower() in SUFFIXES


def read_features(
    path: Path, grid: Grid, *, image: Path | None = None, field: str | None = None
) -> Marked:
    """What a vector file marks in an image.

    Args:
        path: the file; JSON is told apart by what it holds.
        grid: of the image. One with a CRS gets the coordinates transformed into it; for one
            without, they are pixels (y downwards, or, as QGIS has it, all negative).
        image: its file, by which COCO JSON of several images is searched.
        field: attribute that holds the class; None takes the first of `NAME_FIELDS` that is there.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, has no such field, or marks nothing in the image.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no vector file {path.absolute()}")
    known = _read_json(path) if path.suffix.lower() in (".json", ".geojson") else {}
    said: list[str] = []
    if "shapes" in known:
        features, left_out = read_labelme(path, known, (grid.height, grid.width))
    elif "annotations" in known:
        features, left_out = read_coco(path, known, (grid.height, grid.width), image)
    else:
        features, left_out = _read_layer(path, grid, field, said)
    said += [f"{path.name}: {number} {what} left out" for what, number in left_out.items()]
    made = [Feature(*feature) for feature in features]
    inside = [f for f in made if f.shape.intersects(shapely.box(0, 0, grid.width, grid.height))]
    if not inside:
        raise ValueError(f"{path} marks nothing in the image{_where(path, made, grid)}")
    if len(inside) < len(made):
        outside = len(made) - len(inside)
        said.append(f"{path.name}: {outside} of {len(made)} objects lie outside the image")
    return Marked(inside, said)


def _where(path: Path, features: Sequence[Feature], grid: Grid) -> str:
    if not features:
        return ": it holds no polygon, box or point"
    x0, y0, x1, y1 = shapely.total_bounds([f.shape for f in features])
    return (
        f": its objects lie in columns {x0:.0f} to {x1:.0f}, rows {y0:.0f} to {y1:.0f}, the image "
        f"has {grid.width} x {grid.height} pixels"
    )


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        known = json.loads(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error})") from None
    if not isinstance(known, dict):
        raise ValueError(f"{path} holds neither GeoJSON nor labelme's or COCO's JSON")
    return known


def _read_layer(
    path: Path, grid: Grid, field: str | None, said: list[str]
) -> tuple[list[tuple[BaseGeometry, str, Kind]], dict[str, int]]:
    """Geometries and names of a file that GDAL reads."""
    from pyogrio import raw, read_info
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        fields = [str(name) for name in read_info(path)["fields"]]
        column = _name_field(path, fields, field)
        meta, _, geometry, columns = raw.read(
            path, columns=[column] if column else [], force_2d=True
        )
        shapes = shapely.from_wkb(geometry)
    except (DataSourceError, DataLayerError, shapely.errors.GEOSException) as error:
        raise ValueError(f"{path} cannot be read ({error})") from None
    if not len(shapes):
        raise ValueError(f"{path} has no feature: nothing is marked in it")
    names = columns[0] if column else [""] * len(shapes)
    found: list[tuple[BaseGeometry, str, Kind]] = []
    left_out: dict[str, int] = {}
    for shape, name in zip(_in_pixels(path, shapes, meta["crs"], grid, said), names, strict=True):
        kind = _kind(shape)
        if kind in ("area", "point"):
            parts = shape.geoms if kind == "point" and hasattr(shape, "geoms") else [valid(shape)]
            found += [(part, _word(name), kind) for part in parts]
        else:
            left_out[kind] = left_out.get(kind, 0) + 1
    return found, left_out


def _name_field(path: Path, fields: Sequence[str], wanted: str | None) -> str | None:
    if wanted is None:
        lower = {name.casefold(): name for name in reversed(fields)}
        return next((lower[name] for name in NAME_FIELDS if name in lower), None)
    if wanted not in fields:
        there = ", ".join(fields) or "none"
        raise ValueError(f"{path} has no attribute {wanted!r} (there: {there})")
    return wanted


def _word(value: Any) -> str:
    """An attribute's value as the name of a class: 3.0 is 3, what is missing is ""."""
    if value is None or value != value:
        return ""
    if isinstance(value, float | np.floating) and value == int(value):
        value = int(value)
    return str(value).strip()


def _kind(shape: BaseGeometry | None) -> Kind:
    if shape is None or shape.is_empty:
        return "features without a geometry"
    if shape.geom_type in ("Polygon", "MultiPolygon"):
        return "area"
    if shape.geom_type in ("Point", "MultiPoint"):
        return "point"
    return "lines and collections (draw polygons, boxes or points)"


def _in_pixels(
    path: Path, shapes: np.ndarray, crs: str | None, grid: Grid, said: list[str]
) -> np.ndarray:
    """Geometries of a layer in pixel coordinates of the image."""
    bounds = shapely.total_bounds(shapes)
    if not grid.placed:
        flipped = bounds[3] <= 0 and bounds[1] < 0
        if flipped:
            said.append(f"{path.name}: y is negative throughout and taken as minus the row")
        return shapely.transform(shapes, lambda xy: xy * (1, -1 if flipped else 1))
    assert grid.transform is not None and grid.crs is not None
    there = _crs_of(path, crs, bounds, grid, said)
    to_pixels = ~grid.transform

    def place(xy: np.ndarray) -> np.ndarray:
        xs, ys = xy[:, 0], xy[:, 1]
        if there != grid.crs:
            xs, ys = map(np.array, transform(there, grid.crs, xs, ys))
        t = to_pixels
        return np.stack([t.a * xs + t.b * ys + t.c, t.d * xs + t.e * ys + t.f], axis=1)

    try:
        return shapely.transform(shapes, place)
    except (RasterioError, CRSError, CPLE_BaseError) as error:
        raise ValueError(f"{path} cannot be laid over the image ({error})") from None


def _crs_of(
    path: Path, said_crs: str | None, bounds: np.ndarray, grid: Grid, said: list[str]
) -> CRS:
    """The layer's CRS; the image's where the file says none, or degrees that are none."""
    there = CRS.from_user_input(said_crs) if said_crs else None
    degrees = there is not None and there.is_geographic
    if there is not None and not (degrees and np.abs(bounds).max() > 540):
        return there
    assert grid.crs is not None
    why = "says no CRS" if there is None else "has coordinates that are no degrees"
    said.append(f"{path.name} {why}: taken as the image's, {describe(grid.crs)}")
    return grid.crs


def describe(crs: CRS) -> str:
    """A CRS in a word or two."""
    code = crs.to_epsg()
    name = re.search(r'"([^"]*)"', crs.to_wkt())
    return f"EPSG:{code}" if code else name.group(1) if name else "its own"


def names_of(features: Iterable[Feature]) -> list[str]:
    """Names of the classes, in the order of the file, without background and what is ignored."""
    named = (f.name for f in features if not f.negative and not f.ignored)
    return list(dict.fromkeys(named))
