"""The one reader of images: any PNG, JPEG, (Geo)TIFF, ... as 8-bit RGB, or an error that names it.

Masks and network must see the same picture, so both read it here. TIFF and its relatives are read
by GDAL (`mgcl.images.raster`, which also reads windows), the rest by Pillow and OpenCV.
"""

import os

import numpy as np
from PIL import Image

from mgcl.images.files import (
    MAX_PIXELS,
    MissingImage,
    UnreadableImage,
    gdal_driver,
    read_bytes,
    read_head,
)
from mgcl.images.pictures import FORMATS, decode_rgb
from mgcl.images.raster import open_raster, read_scene

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "MissingImage",
    "UnreadableImage",
    "image_size",
    "read_image",
]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".jp2", ".j2k", ".bmp", ".webp")


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file as (H, W, 3) uint8 RGB.

    Grey is repeated, alpha and further bands are dropped, palettes and CMYK are converted, pixels
    come in the order in which they are stored (the rotation in a camera's EXIF or a TIFF's tag is
    not applied). Samples of more than 8 bits are stretched as in `mgcl.images.stretch`; NaN and
    pixels without data (no-data value, mask) are black. Equal to all windows of `open_raster`.

    Raises:
        MissingImage: there is no such file.
        UnreadableImage: it is damaged, no image, too large, of several pages, or of a kind that is
            not known.
    """
    if gdal_driver(read_head(path)):
        return read_scene(path)
    return decode_rgb(path, read_bytes(path, "image"))


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(H, W) of an image file, from its header.

    Raises:
        UnreadableImage: as `read_image`.
    """
    if gdal_driver(read_head(path)):
        with open_raster(path) as raster:
            return raster.height, raster.width
    try:
        with Image.open(path, formats=FORMATS) as picture:
            return picture.height, picture.width
    except Exception:  # Pillow's parsers raise anything on damaged bytes
        return read_image(path).shape[:2]
