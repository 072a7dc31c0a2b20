"""Windows of a picture of any size: `open_raster`.

    with open_raster("scene.tif", bands=(4, 3, 2)) as raster:
        tile = raster.read((y, x, height, width))  # (height, width, 3) uint8 RGB

What a window shows does not depend on which windows are read: the stretch of deep samples is
decided once, over the whole scene. Of GeoTIFF, JPEG 2000, ERDAS and VRT only the blocks under a
window are decoded; PNG, JPEG and their like are decoded as a whole when they are opened.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from mgcl.images import gdal, ground
from mgcl.images.base import Raster, Window
from mgcl.images.files import check_size, gdal_driver, read_bytes, read_head
from mgcl.images.pictures import decode_rgb
from mgcl.images.scene import checked_bands, open_scene

__all__ = ["Raster", "Window", "open_raster", "read_scene"]


@contextmanager
def open_raster(
    path: str | os.PathLike[str], bands: Sequence[int] | None = None
) -> Iterator[Raster]:
    """Open an image file of this machine to read windows of it, by one thread at a time.

    Args:
        path: GeoTIFF or other TIFF, JPEG 2000, ERDAS .img, a VRT of such files, PNG, JPEG, ...
        bands: one or three, counted from 1, to be shown as grey or as red, green and blue. None
            takes the bands that say that they are red, green and blue, else the first three of
            three or more, else the first. Alpha is none of them.

    Raises:
        MissingImage: there is no such file.
        UnreadableImage: it is damaged, no image, of several pages, of a kind that is not
            known, or has no such bands.
    """
    driver = gdal_driver(read_head(path))
    if driver is None:
        yield _Picture(path, bands)
        return
    with open_scene(path, driver, bands) as scene:
        yield scene


def read_scene(path: str | os.PathLike[str]) -> np.ndarray:
    """All of a file that GDAL reads as (H, W, 3) uint8; see `mgcl.images.read.read_image`.

    Raises:
        UnreadableImage: as `open_raster`, or it is too large for the memory.
    """
    with gdal.careful(path), open_raster(path) as raster:
        check_size(path, gdal.most_bytes(path), raster.height, raster.width)
        return raster.read()


class _Picture(Raster):
    """A PNG, JPEG or the like, whole in memory after the first window."""

    def __init__(self, path: str | os.PathLike[str], bands: Sequence[int] | None) -> None:
        data = read_bytes(path, "image")
        self._pixels = decode_rgb(path, data)
        super().__init__(path, self._pixels.shape[:2])
        self.bands = checked_bands(path, bands, 3) or self.bands
        self._pixels = self._pixels[..., [band - 1 for band in self.bands]]
        self.crs, self.transform = ground.beside(path)

    def _rgb(self, window: Window, out: np.ndarray) -> None:
        y, x, h, w = window
        out[:] = self._pixels[y : y + h, x : x + w]

    def _valid(self, window: Window) -> np.ndarray:
        return np.ones(window[2:], np.bool_)
