"""Scenes that GDAL reads by blocks: TIFF and its relatives, JPEG 2000, ERDAS, VRT."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from mgcl.images import gdal, ground
from mgcl.images.base import READ, Raster, Window
from mgcl.images.files import UnreadableImage
from mgcl.images.stretch import SAMPLED, Stretch, decide

_MOST_BLOCK = 1 << 30  # bytes of samples that GDAL must decode at once to give one pixel
_OPAQUE = 0.98  # share of an alpha band that is 0 or full if it marks where there are data
_COLOURS = ("red", "green", "blue")


class Scene(Raster):
    """An open file of GDAL's."""

    def __init__(
        self, path: str | os.PathLike[str], dataset: Any, bands: Sequence[int] | None
    ) -> None:
        """Look at the header; within `gdal.careful`.

        Raises:
            UnreadableImage: samples of a kind that is not known, or packed in vast pieces.
        """
        super().__init__(path, (dataset.height, dataset.width))
        self._dataset = dataset
        self.bands = checked_bands(path, bands, dataset.count) or _shown(dataset)
        self.dtype = str(np.dtype(dataset.dtypes[self.bands[0] - 1]))
        self.crs, self.transform = ground.of_dataset(dataset)
        self._nodata = [dataset.nodatavals[band - 1] for band in self.bands]
        self._facts = dataset.tags(ns="IMAGE_STRUCTURE")
        self._check()
        flags = {flag.name for flag in dataset.mask_flag_enums[self.bands[0] - 1]}
        names = [colour.name for colour in dataset.colorinterp]
        self._alpha = names.index("alpha") + 1 if "alpha" in names else None
        self._masked = "per_dataset" in flags and self._alpha is None

    def _check(self) -> None:
        dataset, space = self._dataset, self._facts.get("SOURCE_COLOR_SPACE", "RGB")
        kinds = {dataset.dtypes[band - 1] for band in self.bands}
        names = {dataset.colorinterp[band - 1].name for band in self.bands}
        if any("complex" in kind for kind in kinds) or space not in ("RGB", "CMYK", "YCbCr"):
            raise UnreadableImage(
                f"{self.path} has samples of a kind that is not known here (type "
                f"{', '.join(kinds)}, colours {space}): convert it to RGB"
            )
        if names & {"cyan", "magenta", "yellow", "black", "hue", "lightness", "saturation"}:
            raise UnreadableImage(
                f"{self.path} has the bands {', '.join(names)}: convert it to RGB"
            )
        rows, columns = dataset.block_shapes[0]
        together = dataset.count if self._facts.get("INTERLEAVE") == "PIXEL" else 1
        size = rows * columns * together * max(np.dtype(kind).itemsize for kind in kinds)
        if size > _MOST_BLOCK:
            raise UnreadableImage(
                f"{self.path} is packed in pieces of {columns} x {rows} pixels, {size / 1e9:.1f} "
                "GB each: write it in tiles (gdal_translate -co TILED=YES -co BIGTIFF=IF_SAFER)"
            )

    def samples(self, bands: Sequence[int], window: Window) -> np.ndarray:
        """Stored samples of some bands, (bands, h, w)."""
        y, x, h, w = window
        with gdal.careful(self.path):
            return self._dataset.read(list(bands), window=((y, y + h), (x, x + w)))

    @cached_property
    def palette(self) -> np.ndarray | None:
        """(N, 3) uint8 colours of a picture of indices; of white as 0, too."""
        dataset = self._dataset
        if dataset.colorinterp[self.bands[0] - 1].name != "palette":
            return None
        if self._facts.get("MINISWHITE") == "YES" and self.bits > 1:
            return None
        with gdal.careful(self.path):
            table = dataset.colormap(self.bands[0])
        colours = np.zeros((1 << 8 * np.dtype(self.dtype).itemsize, 3), np.uint8)
        for index, colour in table.items():
            colours[index] = colour[:3]
        return colours

    @property
    def bits(self) -> int:
        """Of a sample, as stored."""
        own = self._dataset.tags(self.bands[0], ns="IMAGE_STRUCTURE").get("NBITS")
        return int(own) if own else 8 * np.dtype(self.dtype).itemsize

    @property
    def bands_stored(self) -> int:
        """All bands of the file, alpha included."""
        return int(self._dataset.count)

    @property
    def lossy(self) -> bool:
        """Whether the file's codec changes samples a little."""
        told = self._facts.get("COMPRESSION_REVERSIBILITY", "")
        return "JPEG" in self._facts.get("COMPRESSION", "") or told.startswith("LOSSY")

    def alpha_samples(self, window: Window) -> np.ndarray | None:
        """The alpha band, (h, w), if there is one."""
        return None if self._alpha is None else self.samples([self._alpha], window)[0]

    @cached_property
    def _stretch(self) -> Stretch:
        """From the whole scene, of a large one from blocks spread evenly over it."""
        return decide(np.concatenate([self._data(part) for part in self._spread()]))

    def _data(self, window: Window) -> np.ndarray:
        """Samples of pixels that have data, one after the other."""
        samples = self.samples(self.bands, window)
        valid = self._valid_of(samples, window)
        kept = [
            band[valid & _differs(band, nodata)]
            for band, nodata in zip(samples, self._nodata, strict=True)
        ]
        return np.concatenate(kept)

    def _spread(self) -> Iterator[Window]:
        """Windows that hold at most about `SAMPLED` samples, all of a small scene."""
        rows, columns = self._dataset.block_shapes[0]
        columns = min(columns, self.width)
        rows = min(max(rows, READ // 16 // columns), 512, self.height)
        down, across = -(-self.height // rows), -(-self.width // columns)
        share = min(1.0, SAMPLED / (self.height * self.width * len(self.bands)))
        lines = max(1, round(down * (share if across == 1 else share**0.5)))
        stacks = min(across, max(1, round(down * across * share / lines)))
        for row in np.linspace(0, down - 1, lines).round().astype(int).tolist():
            for column in np.linspace(0, across - 1, stacks).round().astype(int).tolist():
                y, x = row * rows, column * columns
                yield y, x, min(rows, self.height - y), min(columns, self.width - x)

    def _block_rows(self) -> int:
        return int(self._dataset.block_shapes[0][0])

    def _rgb(self, window: Window, out: np.ndarray) -> None:
        samples = self.samples(self.bands, window)
        out[:] = np.moveaxis(self._shades(samples), 0, -1)  # (h, w, 1 or 3)
        if self._masked or any(value is not None for value in self._nodata):
            out[~self.marked(samples, window)] = 0

    def _shades(self, samples: np.ndarray) -> np.ndarray:
        """(bands, h, w) stored -> (1 or 3, h, w) uint8."""
        if self.palette is not None:
            return np.moveaxis(self.palette[samples[0]], -1, 0)
        bits = self.bits
        if samples.dtype != np.uint8:
            shades = self._stretch.shades(samples)
        elif bits < 8:
            full = (1 << bits) - 1
            shades = ((samples.astype(np.uint16) * 510 + full) // (2 * full)).astype(np.uint8)
        else:
            shades = samples
        return 255 - shades if self._facts.get("MINISWHITE") == "YES" else shades

    def _valid(self, window: Window) -> np.ndarray:
        return self._valid_of(self.samples(self.bands, window), window)

    def _valid_of(self, samples: np.ndarray, window: Window) -> np.ndarray:
        valid = self.marked(samples, window)
        if self._alpha is not None and self._alpha_marks:
            valid &= self.samples([self._alpha], window)[0] != 0
        return valid

    def marked(self, samples: np.ndarray, window: Window) -> np.ndarray:
        """Where not all bands hold their no-data value, and the file's mask has data."""
        pairs = zip(samples, self._nodata, strict=True)
        marked = np.logical_or.reduce([_differs(band, nodata) for band, nodata in pairs])
        if self._masked:
            y, x, h, w = window
            with gdal.careful(self.path):
                mask = self._dataset.read_masks(1, window=((y, y + h), (x, x + w)))
            marked &= mask != 0
        return marked

    @cached_property
    def _alpha_marks(self) -> bool:
        """Whether alpha is 0 or full nearly everywhere; else it is another band, such as NIR."""
        assert self._alpha is not None
        kind = np.dtype(self._dataset.dtypes[self._alpha - 1])
        full = np.iinfo(kind).max if kind.kind in "iu" else 1
        seen = [self.samples([self._alpha], part) for part in self._spread()]
        share = sum(int(((a == 0) | (a == full)).sum()) for a in seen) / sum(a.size for a in seen)
        return share >= _OPAQUE


def checked_bands(
    path: str | os.PathLike[str], bands: Sequence[int] | None, count: int
) -> tuple[int, ...] | None:
    """The bands that are asked for, if any.

    Raises:
        UnreadableImage: neither one nor three, or not in a file of `count` bands.
    """
    if bands is None:
        return None
    if len(bands) not in (1, 3) or not all(1 <= band <= count for band in bands):
        raise UnreadableImage(
            f"bands {', '.join(map(str, bands))} of {path}: give one or three of 1 to {count}"
        )
    return tuple(bands)


def _shown(dataset: Any) -> tuple[int, ...]:
    names = [colour.name for colour in dataset.colorinterp]
    if all(names.count(colour) == 1 for colour in _COLOURS):
        return tuple(names.index(colour) + 1 for colour in _COLOURS)
    rest = [number for number, name in enumerate(names, start=1) if name != "alpha"] or [1]
    return tuple(rest[:3]) if len(rest) >= 3 else (rest[0],)


def _differs(band: np.ndarray, nodata: float | None) -> np.ndarray:
    if band.dtype.kind == "f":
        data = ~np.isnan(band)
        return data if nodata is None else data & (band != band.dtype.type(nodata))
    return np.ones(band.shape, np.bool_) if nodata is None else band != nodata


@contextmanager
def open_scene(
    path: str | os.PathLike[str], driver: str, bands: Sequence[int] | None
) -> Iterator[Scene]:
    """Open a file by one of GDAL's drivers; see `mgcl.images.raster.open_raster`."""
    with gdal.careful(path):
        dataset = gdal.open_dataset(path, driver)
        scene = Scene(path, dataset, bands)
    with dataset:
        yield scene
