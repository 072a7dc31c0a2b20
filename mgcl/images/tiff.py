"""The pages of a TIFF by their tags: which one is the picture, which are thumbnails and overviews.

GDAL takes the first page, whatever it is, and does not tell what its numbers stand for.
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from mgcl.images.files import UnreadableImage

_KIND, _OLD_KIND, _WIDTH, _HEIGHT, _PHOTOMETRIC = 254, 255, 256, 257, 262  # tags
_REDUCED, _MASK = 1, 4  # bits of the tag _KIND
_OLD_REDUCED = 2
_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # of a tag's value: BYTE, SHORT, LONG, LONG8
_MOST_PAGES = 4096

# white as 0, black as 0, RGB, palette, CMYK, YCbCr; else a camera's mosaic, Lab, logarithms ...
_KNOWN = (0, 1, 2, 3, 5, 6)


class Page(NamedTuple):
    """One of a TIFF's pictures, by its header."""

    height: int
    width: int
    photometric: int
    aside: bool  # a thumbnail, an overview or a mask, as it says itself


def picture_page(path: str | os.PathLike[str]) -> int:
    """The number of the page that is the picture, from 1; 1 of a file without whole headers.

    Raises:
        UnreadableImage: there are several pictures, or its samples are no grey and no colours.
    """
    with open(path, "rb") as file:
        found = list(_pages(file))
    whole = [page for page in found if not page.aside] or found
    if not whole:
        return 1
    picture = max(whole, key=lambda page: page.height * page.width)
    others = [p for p in whole if p is not picture and not _is_reduced(p, picture)]
    if others:
        raise UnreadableImage(
            f"{path} has {len(others) + 1} pages, each a picture ({picture.width} x "
            f"{picture.height}, {others[0].width} x {others[0].height} ...): are they bands of one "
            "or several pictures? Write a file for each (gdal_translate GTIFF_DIR:1:FILE), and "
            "join bands with gdalbuildvrt -separate"
        )
    if picture.photometric not in _KNOWN:
        raise UnreadableImage(
            f"{path} has samples of a kind that is not known here (photometric "
            f"{picture.photometric}): convert it to RGB"
        )
    return 1 + next(number for number, page in enumerate(found) if page is picture)


def _is_reduced(page: Page, picture: Page) -> bool:
    """Whether a page has the picture's shape at half its size or less, as old overviews have."""
    slant = abs(page.width * picture.height - page.height * picture.width)
    half = 2 * page.height <= picture.height + 1 and 2 * page.width <= picture.width + 1
    return half and slant <= max(picture.height, picture.width)


def _pages(file: BinaryIO) -> Iterator[Page]:
    """The headers in a row; they end where one is torn, which GDAL will find as well."""
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = 43 in head[2:4]
    count, entry, offset = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(order + offset, head, 8 if big else 4)
        while at and at not in seen and len(seen) < _MOST_PAGES:
            seen.add(at)
            file.seek(at)
            (tags,) = struct.unpack(order + count, file.read(struct.calcsize(count)))
            size = struct.calcsize("=" + entry + offset)
            table = file.read(min(tags, 1 << 16) * size)
            yield _page(table, order, entry, size)
            at = struct.unpack(order + offset, file.read(struct.calcsize(offset)))[0]
    except (struct.error, OSError, OverflowError):
        return


def _page(table: bytes, order: str, entry: str, size: int) -> Page:
    values: dict[int, int] = {}
    for at in range(0, len(table) - size + 1, size):
        tag, kind, count = struct.unpack_from(order + entry, table, at)
        if kind in _FORMATS and count == 1:
            place = at + struct.calcsize("=" + entry)
            values[tag] = struct.unpack_from(order + _FORMATS[kind], table, place)[0]
    aside = values.get(_KIND, 0) & (_REDUCED | _MASK) or values.get(_OLD_KIND) == _OLD_REDUCED
    height, width = values.get(_HEIGHT, 0), values.get(_WIDTH, 0)
    return Page(height, width, values.get(_PHOTOMETRIC, 1), bool(aside))
