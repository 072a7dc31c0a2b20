"""What every picture that is read by windows offers: `Raster`."""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mgcl.images import ground

Window = tuple[int, int, int, int]
"""y, x, height, width, in pixels."""

READ = 1 << 22  # pixels that are held as samples at a time


class Raster:
    """A picture of any size, read by windows. Open it with `open_raster`.

    Attributes:
        height: pixels.
        width: pixels.
        bands: the bands that are shown, counted from 1: one, or three for red, green and blue.
        dtype: numpy's name of the type of the stored samples.
        crs: `rasterio.crs.CRS`, None where the file does not say where it lies.
        transform: `affine.Affine` from (x, y) in pixels to the CRS, None without one.
    """

    def __init__(self, path: str | os.PathLike[str], size: tuple[int, int]) -> None:
        """Of an open file; `open_raster` makes it."""
        self.path = Path(path)
        self.height, self.width = size
        self.bands: tuple[int, ...] = (1, 2, 3)
        self.dtype = "uint8"
        self.crs: Any = None
        self.transform: Any = None

    @cached_property
    def metres(self) -> float | None:
        """Side of a pixel on the ground, in metres, in the middle of the scene; None: unknown."""
        return ground.metres(self.crs, self.transform, self.height, self.width)

    def read(self, window: Window | None = None, *, boundless: bool = False) -> np.ndarray:
        """The pixels of a window, of all without one: (h, w, 3) uint8 RGB; no data are black.

        Args:
            window: y, x, height, width.
            boundless: the window may reach over the border; what lies there is black.

        Raises:
            UnreadableImage: the file is damaged there.
            ValueError: the window is empty, or reaches over the border.
        """
        out, inner, place = self._frame(window, boundless, (3,), np.uint8)
        for part, target in rows(inner, self._blockrows()):
            self._rgb(part, out[place][target])
        return out

    def valid(self, window: Window | None = None, *, boundless: bool = False) -> np.ndarray:
        """Where a window has data: (h, w) bool, by no-data value, mask and alpha.

        Raises:
            UnreadableImage, ValueError: as `read`.
        """
        out, inner, place = self._frame(window, boundless, (), np.bool_)
        for part, target in rows(inner, self._blockrows()):
            out[place][target] = self._valid(part)
        return out

    def _frame(
        self, window: Window | None, boundless: bool, tail: tuple[int, ...], kind: Any
    ) -> tuple[np.ndarray, Window, tuple[slice, slice]]:
        """An empty result, the part of the window within the picture, and its place in it."""
        y, x, h, w = window or (0, 0, self.height, self.width)
        top, left = max(0, y), max(0, x)
        bottom, right = min(y + h, self.height), min(x + w, self.width)
        inside = (top, left, bottom - top, right - left) == (y, x, h, w)
        if min(h, w) < 1 or not (inside or boundless):
            raise ValueError(
                f"{self.path} is {self.width} x {self.height} pixels: there is no window of {w} x "
                f"{h} at x {x}, y {y} in it"
            )
        inner = (top, left, max(0, bottom - top), max(0, right - left))
        down, across = top - y, left - x
        place = slice(down, down + inner[2]), slice(across, across + inner[3])
        return np.zeros((h, w, *tail), kind), inner, place

    def _blockrows(self) -> int:
        return 1

    def _rgb(self, window: Window, out: np.ndarray) -> None:
        raise NotImplementedError

    def _valid(self, window: Window) -> np.ndarray:
        raise NotImplementedError


def rows(window: Window, block: int) -> Iterator[tuple[Window, slice]]:
    """A window in parts of whole rows of blocks, and the rows of each in it."""
    y, x, h, w = window
    step = max(1, READ // max(1, w) // block) * block
    top = y
    while top < y + h and w:
        bottom = min((top // step + 1) * step, y + h)
        yield (top, x, bottom - top, w), slice(top - y, bottom - y)
        top = bottom
