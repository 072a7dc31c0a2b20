"""What a run takes, before it starts: windows, of which an earlier one made some, and memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mgcl.images.files import gdal_driver, read_head
from mgcl.images.raster import open_raster
from mgcl.images.read import image_size
from mgcl.predict.finder import Finder
from mgcl.predict.memory import needed
from mgcl.predict.results import Results
from mgcl.predict.scale import Scale


class Survey(NamedTuple):
    """Sums over the queries; of an unreadable one nothing, it is named when its turn comes."""

    windows: int
    done: int
    """Windows whose rows, or whole results, are there."""
    memory: int
    """Bytes that the largest takes beside the network."""

    def sentence(self, queries: int) -> str:
        """All in a line."""
        done = f", {self.done:,} of them done" if self.done else ""
        return (
            f"{queries} image{'s' * (queries != 1)}, {self.windows:,} "
            f"window{'s' * (self.windows != 1)}{done}; about {self.memory / 1e9:.2f} GB of memory "
            "beside the network"
        )


def survey(queries: Mapping[str, Path], finder: Finder, results: Results, scale: Scale) -> Survey:
    """Look at the headers of all queries."""
    windows = done = memory = 0
    for name, path in queries.items():
        try:
            height, width, window = _header(path, scale)
        except (ValueError, OSError):
            continue
        down, across = (len(starts) for starts in finder.grid(height, width, window))
        windows += down * across
        rows = len(list(results.work(name).glob("*.band")))
        done += across * (down if results.record(name) else min(down, rows))
        memory = max(memory, needed(finder, height, width, window))
    return Survey(windows, done, memory)


def _header(path: Path, scale: Scale) -> tuple[int, int, int]:
    """Height, width, window; of pictures that Pillow reads without their place."""
    if not gdal_driver(read_head(path)):
        return *image_size(path), scale.pixels
    with open_raster(path) as raster:
        return raster.height, raster.width, scale.query(raster)
