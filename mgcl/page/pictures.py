"""The pictures of a folder, or one scene: found, read by tiles, with overviews made on the way.

A picture may have any size. Tiles of level z show it 2^z times smaller; level 0 is the picture.
"""

import hashlib
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mgcl.engine.features import Recent
from mgcl.files import atomic_write
from mgcl.images.find import find_files
from mgcl.images.raster import open_raster
from mgcl.images.read import SUFFIXES, image_size
from mgcl.page.project import FILE
from mgcl.predict.inputs import is_made
from mgcl.predict.results import is_result

TILE = 256  # side of a tile, pixels
WHOLE = 1 << 26  # pixels; larger pictures are read by windows and never held whole
LARGE = 1 << 22  # pixels; larger pictures are decoded by one thread at a time
HELD = 1 << 29  # bytes of pictures that are held
CELL = 512  # about the side of the parts of large pictures that the gallery shows


class Picture(NamedTuple):
    """A file that could be opened."""

    number: int
    key: str
    """Its path below the folder."""
    path: Path
    height: int
    width: int
    stamp: str
    """Changes when the file does."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.height, self.width

    @property
    def levels(self) -> int:
        """Levels until one tile shows the whole."""
        return max(0, math.ceil(math.log2(max(self.size) / TILE))) + 1


class Item(NamedTuple):
    """What the gallery shows as one: a picture, or a part of a large one."""

    number: int
    picture: int
    y: int
    x: int
    height: int
    width: int


class Pictures:
    """All pictures of a folder; may be read from any thread."""

    def __init__(
        self,
        root: Path,
        cache: Path,
        *,
        bands: Sequence[int] | None = None,
        on_found: Callable[[int], object] = lambda count: None,
    ) -> None:
        """Look into the headers of all files.

        Args:
            root: a folder, or one picture.
            cache: folder for overviews.
            bands: of the pictures, as of `open_raster`.
            on_found: called with a number of pictures as they are looked at.
        """
        self.root, self.cache, self.bands = root, cache, bands
        self.problems: dict[str, str] = {}
        """Why a file is not among the pictures, or could not be read; by its path."""
        self.all: list[Picture] = []
        self._held: Recent[np.ndarray] = Recent(HELD, lambda array: array.nbytes)
        self._lock = threading.Lock()
        self._alone = threading.RLock()  # of what takes long and is wanted by many at once
        folder = root if root.is_dir() else root.parent
        for path in _find(root):
            key = path.relative_to(folder).as_posix()
            try:
                if not key.isprintable():
                    raise ValueError("a name that does not print: rename it")
                height, width = image_size(path)
            except (ValueError, OSError) as error:
                self.problems[key] = str(error)
                continue
            facts = path.stat()
            stamp = f"{facts.st_size:x}-{facts.st_mtime_ns:x}"
            self.all.append(Picture(len(self.all), key, path, height, width, stamp))
            on_found(1)
        self.items = [item for picture in self.all for item in _cells(picture)]
        self.items = [item._replace(number=n) for n, item in enumerate(self.items)]
        self._items_of: dict[int, list[Item]] = {}
        for item in self.items:
            self._items_of.setdefault(item.picture, []).append(item)

    def items_of(self, picture: Picture) -> list[Item]:
        """Its parts in the gallery."""
        return self._items_of[picture.number]

    def read(self, picture: Picture, window: tuple[int, int, int, int]) -> np.ndarray:
        """(y, x, h, w) within the picture -> (h, w, 3) uint8 RGB.

        Raises:
            ValueError, OSError: the file is damaged, or is gone.
        """
        y, x, h, w = window
        if picture.height * picture.width > WHOLE:
            with open_raster(picture.path, self.bands) as raster:
                return raster.read(window)
        return self._whole(picture)[y : y + h, x : x + w]

    def valid(self, picture: Picture) -> np.ndarray | None:
        """(H, W) bool where a picture has data; None: everywhere."""
        with open_raster(picture.path, self.bands) as raster:
            found = raster.valid()
        return None if found.all() else found

    def _whole(self, picture: Picture) -> np.ndarray:
        with self._lock:
            if picture.key in self._held:
                return self._held[picture.key]
        large = picture.height * picture.width > LARGE
        with self._alone if large else nullcontext():
            if large and picture.key in self._held:  # another thread was first
                return self._held[picture.key]
            with open_raster(picture.path, self.bands) as raster:
                found = raster.read()
            with self._lock:
                self._held.use({picture.key: found})
        return found

    def tile(self, picture: Picture, z: int, row: int, column: int) -> np.ndarray:
        """A tile of level z, (at most TILE, at most TILE, 3) uint8.

        Raises:
            ValueError: there is no such tile, or the file is damaged.
        """
        height, width = (-(-n // (1 << z)) for n in picture.size)
        y, x = row * TILE, column * TILE
        if not (0 <= z < picture.levels and 0 <= y < height and 0 <= x < width):
            raise ValueError(f"{picture.key} has no tile {row}, {column} of level {z}")
        h, w = min(TILE, height - y), min(TILE, width - x)
        if z == 0:
            return self.read(picture, (y, x, h, w))
        return np.asarray(self._overview(picture, z)[y : y + h, x : x + w])

    def part(self, item: Item, side: int) -> np.ndarray:
        """An item at most `side` pixels long."""
        picture = self.all[item.picture]
        z = min(max(0, int(math.log2(max(item.height, item.width) / side))), picture.levels - 1)
        y, x, h, w = (n >> z for n in (item.y, item.x, item.height, item.width))
        if z and len(self.items_of(picture)) > 1:
            found = np.asarray(self._overview(picture, z)[y : y + h, x : x + w])
        else:
            found = self.read(picture, (item.y, item.x, item.height, item.width))
        ratio = min(1.0, side / max(found.shape[:2]))
        size = tuple(max(1, round(n * ratio)) for n in found.shape[1::-1])
        return cv2.resize(found, size, interpolation=cv2.INTER_AREA)

    def _overview(self, picture: Picture, z: int) -> np.ndarray:
        """The picture 2^z times smaller, (h, w, 3), read from disk as needed."""
        name = hashlib.sha256(f"{picture.key} {picture.stamp} {self.bands}".encode()).hexdigest()
        path = self.cache / "overviews" / f"{name[:24]}.{z}.npy"
        with self._alone:
            if not path.exists():
                self._shrink(picture, path, z)
        return np.lib.format.open_memmap(path, mode="r")  # never a pickle

    def _shrink(self, picture: Picture, path: Path, z: int) -> None:
        """A level from the one below it, by strips."""
        height, width = (-(-n // (1 << z)) for n in picture.size)
        below = None if z == 1 else self._overview(picture, z - 1)
        tall, wide = picture.size if below is None else below.shape[:2]
        with atomic_write(path) as temporary:
            out = np.lib.format.open_memmap(temporary, "w+", np.uint8, (height, width, 3))
            for top in range(0, height, TILE):
                rows = min(2 * TILE, tall - 2 * top)
                window = (2 * top, 0, rows, wide)
                strip = self.read(picture, window) if below is None else below[2 * top :][:rows]
                out[top : top + TILE] = halved(np.asarray(strip))
            out.flush()


def halved(strip: np.ndarray) -> np.ndarray:
    """(h, w, ...) -> (ceil(h / 2), ceil(w / 2), ...): the mean of four pixels."""
    size = -(-strip.shape[1] // 2), -(-strip.shape[0] // 2)
    return cv2.resize(strip, size, interpolation=cv2.INTER_AREA)


def _find(root: Path) -> list[Path]:
    """Pictures below a folder, but mask maps, projects of the page and results."""
    if root.is_file():
        return [root] if root.suffix.lower() in SUFFIXES else []

    def skip(folder: Path) -> bool:
        return (folder / FILE).exists() or is_made(folder, root)

    return [path for path in find_files(root, skip=skip).images if not is_result(path)]


def _cells(picture: Picture) -> list[Item]:
    """The parts of a picture in the gallery; one, unless it is large."""
    if max(picture.size) <= 2 * CELL:
        return [Item(0, picture.number, 0, 0, *picture.size)]
    down, across = (np.linspace(0, n, max(1, round(n / CELL)) + 1, dtype=int) for n in picture.size)
    return [
        Item(0, picture.number, int(y), int(x), int(below - y), int(right - x))
        for y, below in zip(down[:-1], down[1:], strict=True)
        for x, right in zip(across[:-1], across[1:], strict=True)
    ]
