"""Class maps and probabilities as pictures: cloud-optimised GeoTIFFs, and PNGs of plain images."""

import errno
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mgcl.files import atomic_write
from mgcl.images.write import write_png
from mgcl.predict.bands import NO_DATA
from mgcl.predict.vectors import Grid

COLOURS = (  # of classes without one of their own: far apart, on vegetation, water and concrete
    *((255, 64, 160), (255, 214, 10), (52, 128, 255), (255, 120, 20), (0, 208, 190)),
    *((170, 90, 255), (240, 58, 50), (130, 230, 40), (255, 170, 200), (140, 100, 60)),
)
NO_LEVEL = 65535  # no data in maps of probabilities
Colour = tuple[int, int, int]


def colour_of(number: int) -> Colour:
    """Colour of the class 1, 2, ... that has none of its own."""
    red, green, blue = COLOURS[(number - 1) % len(COLOURS)]
    return red, green, blue


def write_class_map(
    path: Path,
    blocks: Iterable[np.ndarray],
    grid: Grid,
    names: Sequence[str],
    colours: Sequence[Colour],
) -> None:
    """Write a class map as COG: uint8, 0 = none, 255 = no data, with colours and names.

    Names are metadata: CLASS_1=ship and so on.

    Args:
        path: written whole or not at all.
        blocks: (h, W) uint8 rows from top to bottom.
        grid: of the image.
        names: of the classes 1, 2, ...
        colours: likewise.
    """
    table = {0: (0, 0, 0)} | dict(enumerate(colours, start=1))
    tags = {f"CLASS_{number}": name for number, name in enumerate(("none", *names))}
    how = {"dtype": "uint8", "nodata": NO_DATA, "count": 1}
    _write_cog(path, (block[None] for block in blocks), grid, how, tags, table=table)


def write_probability_map(
    path: Path, blocks: Iterable[np.ndarray], grid: Grid, names: Sequence[str]
) -> None:
    """Write probabilities as COG: uint16, times 65535 (the band's scale), 65535 = no data.

    Args:
        path: written whole or not at all.
        blocks: (C, h, W) uint16 rows from top to bottom, a band a class.
        grid: of the image.
        names: of the classes, which become the bands' descriptions.
    """
    how = {"dtype": "uint16", "nodata": NO_LEVEL, "count": len(names)}
    _write_cog(path, blocks, grid, how, {}, descriptions=names)


def _write_cog(
    path: Path,
    blocks: Iterable[np.ndarray],
    grid: Grid,
    how: Mapping[str, Any],
    tags: Mapping[str, str],
    *,
    table: Mapping[int, Colour] | None = None,
    descriptions: Sequence[str] = (),
) -> None:
    """Rows into a plain TIFF, as they come; from it GDAL makes tiles and overviews."""
    import rasterio
    import rasterio.shutil
    from rasterio._err import CPLE_BaseError  # what GDAL says; there is no public name
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    place = {"crs": grid.crs, "transform": grid.transform} if grid.transform is not None else {}
    raw = path.with_name(f".{path.name}.rows.tmp")
    options = {"compress": "deflate", "zlevel": 1, "blockysize": 16, "bigtiff": "if_safer"}
    with (
        rasterio.Env(GDAL_CACHEMAX=64),
        atomic_write(path) as temporary,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            size = {"height": grid.height, "width": grid.width}
            with rasterio.open(raw, "w", driver="GTiff", **size, **how, **place, **options) as file:
                file.update_tags(**tags)
                for number, name in enumerate(descriptions, start=1):
                    file.set_band_description(number, name)
                if descriptions:
                    file.scales = [1 / 65535] * len(descriptions)
                if table is not None:
                    file.write_colormap(1, dict(table))
                top, sums = 0, [0] * how["count"]
                for block in blocks:
                    rows = (top, top + block.shape[1])
                    file.write(block, window=(rows, (0, grid.width)))
                    sums = _summed(block, sums)
                    top = rows[1]
            kind = {"compress": "deflate", "overview_resampling": "mode" if table else "average"}
            kind |= {"bigtiff": "if_safer", "blocksize": "512"}
            rasterio.shutil.copy(raw, temporary, driver="COG", **kind)
            if _sums(temporary) != sums:  # GDAL only warns of strips that a full disk did not take
                raise OSError(errno.ENOSPC, "not all of the map could be written")
        except (RasterioError, CPLE_BaseError) as error:
            raise OSError(errno.ENOSPC, str(error) or "GDAL could not write") from None
        finally:
            raw.unlink(missing_ok=True)


def _sums(path: Path) -> list[int]:
    """Checksum of each band, row by row."""
    import rasterio

    with rasterio.open(path) as file:
        sums = [0] * file.count
        for top in range(0, file.height, 512):
            rows = (top, min(top + 512, file.height))
            sums = _summed(file.read(window=(rows, (0, file.width))), sums)
    return sums


def _summed(block: np.ndarray, sums: list[int]) -> list[int]:
    """Checksums that go on over further rows (C, h, W)."""
    return [zlib.crc32(band.tobytes(), s) for band, s in zip(block, sums, strict=True)]


def write_class_picture(path: Path, classes: np.ndarray, colours: Sequence[Colour]) -> None:
    """Write the class map of a plain image as PNG.

    One class is 255 and anything else 0; several are a palette of their numbers, no data 0.
    """
    classes = np.where(classes == NO_DATA, 0, classes).astype(np.uint8)
    if len(colours) == 1:
        write_png(path, 255 * classes)
        return
    picture = Image.fromarray(classes, mode="P")
    picture.putpalette([0, 0, 0, *(part for colour in colours for part in colour)])
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG")
