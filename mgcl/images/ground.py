"""Where a picture lies on the earth, and how many metres a pixel has there."""

import math
import os
from pathlib import Path
from typing import Any

from mgcl.images.files import UnreadableImage
from mgcl.images.gdal import careful

_EARTH = 6_371_008.8  # metres, mean radius


def of_dataset(dataset: Any) -> tuple[Any, Any]:
    """(crs, transform) of an open file, each None where it does not say."""
    transform = dataset.transform
    return dataset.crs, None if transform.is_identity else transform


def beside(path: str | os.PathLike[str]) -> tuple[Any, Any]:
    """(crs, transform) of a PNG, JPEG or the like, from files beside it (world file, .aux.xml)."""
    import rasterio

    name = Path(os.path.abspath(path))
    try:
        with careful(path), rasterio.open(name, sharing=False) as dataset:
            return of_dataset(dataset)
    except UnreadableImage:
        return None, None


def metres(crs: Any, transform: Any, height: int, width: int) -> float | None:
    """Side of a pixel in metres in the middle of a scene, on a sphere; None where unknown.

    Of a pixel that is no square, the side of the square of its area. A CRS in degrees or feet is
    converted, and one that stretches (Web Mercator) is measured on the ground.
    """
    if crs is None or transform is None:
        return None
    import rasterio.errors
    import rasterio.warp

    y, x = height / 2, width / 2
    corners = [transform * place for place in ((x, y), (x + 1, y), (x, y + 1))]
    try:
        lon, lat = rasterio.warp.transform(
            crs, "EPSG:4326", [c[0] for c in corners], [c[1] for c in corners]
        )[:2]
    except (rasterio.errors.RasterioError, ValueError):
        return None
    if not all(map(math.isfinite, (*lon, *lat))):
        return None
    across, down = (
        math.hypot(math.radians(lon[i] - lon[0]) * math.cos(math.radians(lat[0])),
                   math.radians(lat[i] - lat[0])) * _EARTH
        for i in (1, 2)
    )  # fmt: skip
    return math.sqrt(across * down) or None
