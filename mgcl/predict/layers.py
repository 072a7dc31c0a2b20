"""Objects as files: GeoPackage, GeoJSON and COCO JSON, written as they are found."""

import errno
import itertools
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from rasterio.crs import CRS
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from mgcl.files import atomic_write, read_text, write_text
from mgcl.predict.objects import Found, on_ground, smooth, square_metres
from mgcl.predict.vectors import Grid

CHUNK = 10_000  # objects that are written together
SUFFIXES = {"gpkg": ".gpkg", "geojson": ".geojson"}


@dataclass
class Tally:
    """Objects by class."""

    unit: str
    """Of the areas: m² or pixels."""
    objects: dict[str, int] = field(default_factory=dict)
    area: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, area: float) -> None:
        """Count one."""
        self.objects[name] = self.objects.get(name, 0) + 1
        self.area[name] = self.area.get(name, 0.0) + area


def write_layer(
    path: Path,
    objects: Iterable[Found],
    names: Sequence[str],
    grid: Grid,
    *,
    smoothed: bool = False,
    min_area: float = 0.0,
) -> Tally:
    """Write objects as a layer, in the image's CRS or, if it has none, in pixels (y downwards).

    Each has `id` (from 1), `class`, `score` (0 to 1), `pixels` and, on earth, `area_m2`.

    Args:
        path: ends in .gpkg or .geojson.
        objects: as they are found.
        names: of the classes 1, 2, ...
        grid: of the image.
        smoothed: outlines without stairs; areas stay those of the pixels.
        min_area: smaller ones are dropped; square metres, or pixels where the image has no place.

    Raises:
        ValueError: GeoJSON of a CRS that it cannot name.
    """
    tally = Tally(
        "m²" if grid.placed else "pixels", dict.fromkeys(names, 0), dict.fromkeys(names, 0.0)
    )
    rows = _rows(objects, names, grid, smoothed, min_area, tally)
    with atomic_write(path) as temporary:
        if path.suffix == ".gpkg":
            _write_geopackage(temporary, path.stem, rows, grid)
        else:
            _write_geojson(temporary, path.stem, rows, grid)
    return tally


def _measured(grid: Grid) -> bool:
    return square_metres(grid, np.array([[0.5, 0.5]])) is not None


Row = tuple[BaseGeometry, dict[str, Any]]


def _rows(
    objects: Iterable[Found],
    names: Sequence[str],
    grid: Grid,
    smoothed: bool,
    min_area: float,
    tally: Tally,
) -> Iterator[Row]:
    """Geometry in the layer's coordinates and attributes of each object that is kept."""
    numbers = itertools.count(1)
    for chunk in _chunks(objects):
        points = shapely.get_coordinates([o.shape.centroid for o in chunk])
        metres = square_metres(grid, points)
        for i, found in enumerate(chunk):
            area = found.pixels * (1.0 if metres is None else float(metres[i]))
            if area < min_area:
                continue
            name = names[found.class_id - 1]
            tally.add(name, area)
            row = {"id": next(numbers), "class": name, "score": round(found.score, 4)}
            row["pixels"] = found.pixels
            if metres is not None:
                row["area_m2"] = round(area, 3)
            shape = smooth(found.shape) if smoothed else found.shape
            yield _placed(shape, grid), row


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    source = iter(items)
    while chunk := list(itertools.islice(source, CHUNK)):
        yield chunk


def _placed(shape: BaseGeometry, grid: Grid) -> BaseGeometry:
    place = grid.transform
    if not grid.placed or place is None:
        return shape
    return shapely.transform(shape, lambda xy: on_ground(place, xy))


_KINDS: Mapping[str, Any] = {"id": np.int64, "class": object, "score": float, "pixels": np.int64}


def _write_geopackage(temporary: Path, layer: str, rows: Iterator[Row], grid: Grid) -> None:
    from pyogrio import read_info

    file = temporary.with_suffix(".gpkg")  # GDAL warns of other suffixes
    try:
        first = next(_chunks(rows), [])
        written = len(first)
        _write_chunk(file, layer, first, grid, append=False)
        for chunk in _chunks(rows):
            _write_chunk(file, layer, chunk, grid, append=True)
            written += len(chunk)
        if read_info(file)["features"] != written:
            raise OSError(errno.ENOSPC, "not all objects could be written")
        os.replace(file, temporary)
    except RuntimeError as error:  # of pyogrio
        raise OSError(errno.ENOSPC, str(error)) from None
    finally:
        for part in file.parent.glob(f"{file.name}*"):  # SQLite's journal, too
            part.unlink(missing_ok=True)


def _write_chunk(file: Path, layer: str, chunk: list[Row], grid: Grid, *, append: bool) -> None:
    from pyogrio import raw

    kinds = dict(_KINDS) | ({"area_m2": float} if _measured(grid) else {})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        raw.write(
            file,
            geometry=np.array([shapely.to_wkb(shape) for shape, _ in chunk], object),
            field_data=[np.array([row[n] for _, row in chunk], k) for n, k in kinds.items()],
            fields=list(kinds),
            crs=grid.crs.to_wkt() if grid.placed and grid.crs else None,
            geometry_type="Polygon",
            driver="GPKG",
            layer=layer,
            append=append,
        )


def _write_geojson(temporary: Path, layer: str, rows: Iterator[Row], grid: Grid) -> None:
    head: dict[str, Any] = {"type": "FeatureCollection", "name": layer}
    if grid.placed:
        head["crs"] = {"type": "name", "properties": {"name": _urn(grid.crs)}}
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1] + ', "features": [')
        for number, (shape, row) in enumerate(rows):
            geometry = shapely.to_geojson(shape)
            properties = json.dumps(row, ensure_ascii=False)
            file.write(",\n" if number else "\n")
            file.write(f'{{"type": "Feature", "properties": {properties}, "geometry": {geometry}}}')
        file.write("\n]}\n")


def _urn(crs: CRS | None) -> str:
    """Name of a CRS as GeoJSON had it before RFC 7946, and as GDAL and QGIS read it.

    Raises:
        ValueError: it has no number.
    """
    found = crs.to_authority() if crs else None
    if found is None:
        raise ValueError("the image's CRS has no EPSG number, which GeoJSON needs: choose gpkg")
    return f"urn:ogc:def:crs:{found[0]}::{found[1]}"


def write_coco(
    path: Path, layers: Mapping[str, tuple[Path, tuple[int, int]]], names: Sequence[str]
) -> None:
    """Join GeoJSON layers of plain images into one COCO file.

    Args:
        path: written.
        layers: by the image's file name: its layer, and its (H, W).
        names: of the classes 1, 2, ...
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (image, (layer, size)) in enumerate(layers.items(), start=1):
        images.append({"id": number, "file_name": image, "height": size[0], "width": size[1]})
        for feature in json.loads(read_text(layer))["features"]:
            row = feature["properties"]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": list(names).index(row["class"]) + 1,
                    "score": row["score"],
                    "area": row["pixels"],
                    "iscrowd": 0,
                    **_coco_shape(feature["geometry"], size),
                }
            )
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    known = {"images": images, "categories": categories, "annotations": annotations}
    write_text(path, json.dumps(known) + "\n")


def _coco_shape(geometry: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Polygon and box; an object with holes, which COCO's polygons do not know, as run lengths."""
    shape = shapely.geometry.shape(geometry)
    x0, y0, x1, y1 = shape.bounds
    box = [x0, y0, x1 - x0, y1 - y0]
    if not shape.interiors:
        ring = shapely.get_coordinates(shape.exterior)[:-1]
        return {"bbox": box, "segmentation": [ring.ravel().tolist()]}
    return {"bbox": box, "segmentation": {"size": list(size), "counts": _runs(shape, size)}}


def _runs(shape: BaseGeometry, size: tuple[int, int]) -> list[int]:
    """Run lengths down the columns of the whole picture, the first of them background."""
    x0, y0, x1, y1 = (int(v) for v in shapely.bounds(shape) + (0, 0, 0.999, 0.999))
    local = shapely.transform(shape, lambda xy: xy - (x0, y0))
    mask = rasterize([local], out_shape=(y1 - y0, x1 - x0), dtype="uint8")
    padded = np.pad(mask.T, ((0, 0), (1, 1)))  # (columns, rows + 2)
    column, row = np.nonzero(np.diff(padded.astype(np.int8), axis=1))
    borders = (x0 + column) * size[0] + y0 + row  # begins and ends of runs, in turn
    begins, ends = borders[::2], borders[1::2]
    joined = begins[1:] == ends[:-1]  # a run that goes on in the next column
    begins, ends = begins[np.r_[True, ~joined]], ends[np.r_[~joined, True]]
    edges = np.stack([begins, ends], axis=1).ravel()
    return np.diff(np.r_[0, edges, size[0] * size[1]]).tolist()
