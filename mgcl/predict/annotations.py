"""The JSON of two annotation tools: labelme, and COCO as most others write it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from rasterio.features import shapes as outlines
from shapely.geometry.base import BaseGeometry

Found = tuple[list[tuple[BaseGeometry, str, str]], dict[str, int]]
"""(shape in pixels, name, kind) of each object, and what was left out with how many there were."""


def read_labelme(path: Path, known: Mapping[str, Any], size: tuple[int, int]) -> Found:
    """Polygons, circles, rectangles and points of a labelme file.

    Raises:
        ValueError: it was drawn on an image of another size, or is malformed.
    """
    drawn = (known.get("imageHeight"), known.get("imageWidth"))
    _check_size(path, drawn, size)
    found, left_out = [], dict[str, int]()
    for number, entry in enumerate(known["shapes"], start=1):
        try:
            kind = entry.get("shape_type") or "polygon"
            shape = _labelme_shape(kind, np.array(entry["points"], float))
            name = str(entry["label"]).strip()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ValueError(f"{path}: shape {number} is malformed ({error!r})") from None
        if shape is None:
            what = f"shapes of the kind {kind}"
            left_out[what] = left_out.get(what, 0) + 1
        else:
            found.append((shape, name, {"rectangle": "box", "point": "point"}.get(kind, "area")))
    return found, left_out


def _labelme_shape(kind: str, points: np.ndarray) -> BaseGeometry | None:
    if kind == "polygon":
        return valid(shapely.Polygon(points))
    if kind == "rectangle":
        return shapely.box(*points.min(axis=0), *points.max(axis=0))
    if kind == "circle":
        return shapely.Point(points[0]).buffer(float(np.hypot(*(points[1] - points[0]))))
    return shapely.Point(points[0]) if kind == "point" else None


def read_coco(
    path: Path, known: Mapping[str, Any], size: tuple[int, int], image: Path | None
) -> Found:
    """Objects of one image of a COCO file: polygons, run lengths, or boxes where there is no more.

    Args:
        path: named in messages.
        known: what the file holds.
        size: (H, W) of the image.
        image: searched by its name; None, or a file of one image: that one.

    Raises:
        ValueError: it does not know the image, or it was drawn on one of another size, or it is
            malformed.
    """
    try:
        entry = _coco_image(path, known.get("images", []), image)
        _check_size(path, (entry.get("height"), entry.get("width")), size)
        names = {c["id"]: str(c["name"]).strip() for c in known.get("categories", [])}
        found = []
        for annotation in known["annotations"]:
            if annotation.get("image_id") == entry.get("id"):
                shape, kind = _coco_shape(annotation)
                found.append((shape, names.get(annotation.get("category_id"), ""), kind))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} is malformed ({error!r})") from None
    return found, {}


def _coco_image(path: Path, images: Sequence[Mapping[str, Any]], image: Path | None) -> Any:
    if image is None or len(images) == 1:
        if len(images) != 1:
            raise ValueError(f"{path} has {len(images)} images: which one is meant is not known")
        return images[0]
    fitting = [e for e in images if Path(str(e.get("file_name"))).name == image.name]
    if len(fitting) != 1:
        raise ValueError(f"{path} has {len(fitting)} of {len(images)} images called {image.name}")
    return fitting[0]


def _coco_shape(annotation: Mapping[str, Any]) -> tuple[BaseGeometry, str]:
    drawn = annotation.get("segmentation")
    if isinstance(drawn, Mapping):
        return _polygons(decode_runs(drawn["counts"], drawn["size"])), "area"
    if drawn:
        rings = [np.array(ring, float).reshape(-1, 2) for ring in drawn]
        return shapely.union_all([valid(shapely.Polygon(ring)) for ring in rings]), "area"
    x, y, width, height = annotation["bbox"]
    return shapely.box(x, y, x + width, y + height), "box"


def decode_runs(counts: str | Sequence[int], size: Sequence[int]) -> np.ndarray:
    """COCO's run lengths, packed or not, as (H, W) uint8 in {0, 1}; columns come one by one.

    Raises:
        ValueError: the runs do not fill the picture.
    """
    runs = unpack_runs(counts) if isinstance(counts, str) else list(counts)
    height, width = size
    if sum(runs) != height * width or min(runs) < 0:
        raise ValueError(f"run lengths that do not fill {width} x {height} pixels")
    values = np.arange(len(runs), dtype=np.uint8) % 2
    return np.repeat(values, runs).reshape(width, height).T


def unpack_runs(packed: str) -> list[int]:
    """Numbers of COCO's packed run lengths: 5 bits a letter, each over the last but one."""
    runs: list[int] = []
    at = 0
    while at < len(packed):
        number, shift, more = 0, 0, True
        while more:
            letter = ord(packed[at]) - 48
            number |= (letter & 31) << shift
            more, at, shift = bool(letter & 32), at + 1, shift + 5
        if letter & 16:
            number |= -1 << shift
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
    return runs


def _polygons(mask: np.ndarray) -> BaseGeometry:
    found = outlines(np.ascontiguousarray(mask), mask=mask.astype(bool))
    return shapely.union_all([shapely.geometry.shape(ring) for ring, _ in found])


def valid(shape: BaseGeometry) -> BaseGeometry:
    """A polygon that a hand drew across itself, as the areas that it encloses."""
    return shape if shape.is_valid else shapely.make_valid(shape)


def _check_size(path: Path, drawn: tuple[Any, Any], size: tuple[int, int]) -> None:
    if None not in drawn and tuple(drawn) != size:
        raise ValueError(
            f"{path} was drawn on an image of {drawn[1]} x {drawn[0]} pixels; this one has "
            f"{size[1]} x {size[0]}"
        )
