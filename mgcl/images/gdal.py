"""GDAL with care: local files only, no chatter, no other reading of a name than as a file.

`rasterio` is imported where it is used: it takes half a second, and PNGs do without.
"""

import logging
import os
import re
import threading
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mgcl.images.files import UnreadableImage, damaged, file_length, gdal_driver, read_head
from mgcl.images.tiff import picture_page

_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",  # folders of a million files are not listed
    "GDAL_CACHEMAX": 256 << 20,  # bytes of decoded blocks; GDAL's own is a share of the memory
    "GDAL_ALLOW_LARGE_LIBJPEG_MEM_ALLOC": "YES",  # sizes are checked here
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    # A file may name others as its overviews or mask: none of them is fetched from a network.
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
    "GDAL_HTTP_PROXY": "127.0.0.1:1",
    "GDAL_HTTPS_PROXY": "127.0.0.1:1",
    "PROJ_NETWORK": "OFF",
}
_SOURCES = ("GTiff", "JP2OpenJPEG", "HFA", "VRT")  # of a VRT, beside PNG and JPEG
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff")
_MOST_XML = 1 << 26

_NO_CODEC = re.compile(r"missing codec (?:of code )?(\S+?)\.?$|(\S+) compression support is not")
_NOT_DAMAGE = re.compile(r"not (?:configured|implemented|supported)|old-style JPEG|unsupported")
_LOST = re.compile(r"premature end|does not end with EOC", re.IGNORECASE)  # only warned of


class _Listener(logging.Handler):
    """Keeps what GDAL says, by thread, instead of letting it out on stderr."""

    heard = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        words = getattr(self.heard, "words", None)
        if words is not None:
            words.append(record.getMessage())


_listener = _Listener()


@contextmanager
def careful(path: str | os.PathLike[str]) -> Iterator[None]:
    """GDAL's environment while a file is opened or read; its errors become ours.

    Raises:
        UnreadableImage: whatever GDAL finds wrong, missing pixels that it would fill up included.
    """
    import rasterio
    from rasterio._err import CPLE_BaseError  # some calls let it out as it is
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    if getattr(_Listener.heard, "words", None) is not None:  # within another: that one tells
        yield
        return
    _hush()
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    words = _Listener.heard.words = []
    try:
        with rasterio.Env(**_OPTIONS):
            yield
    except UnreadableImage:
        raise
    except UnicodeEncodeError:
        raise UnreadableImage(f"{str(path)!r} is no UTF-8 name: rename the file") from None
    except MemoryError:
        raise UnreadableImage(f"{path} does not fit into the memory: cut it first") from None
    except (RasterioError, CPLE_BaseError, OSError, ValueError, TypeError) as error:
        raise _explained(path, [*words, *_chain(error)]) from None
    finally:
        _Listener.heard.words = None
    lost = [word for word in words if _LOST.search(word)]
    if lost:
        raise damaged(path, lost[0])


def open_dataset(path: str | os.PathLike[str], driver: str) -> Any:
    """Open a file of this machine by one driver; within `careful`. Of a TIFF, the picture in it.

    Raises:
        UnreadableImage: a VRT that names other things than local files, a TIFF of several pages.
    """
    import rasterio

    whole = os.path.abspath(path)
    if driver == "VRT":
        _check_vrt(path, depth=0)
    page = picture_page(path) if driver == "GTiff" else 1
    if whole.startswith("/vsi"):
        raise UnreadableImage(f"{path}: GDAL would take the name for one of its own: move the file")
    name: str | Path = Path(whole) if page == 1 else f"GTIFF_DIR:{page}:{whole}"
    return rasterio.open(name, driver=driver, sharing=False)


def most_bytes(path: str | os.PathLike[str]) -> int:
    """The length of the file, or, where others hold the pixels, more than anything needs."""
    return 1 << 32 if gdal_driver(read_head(path)) in ("VRT", "HFA") else file_length(path)


def lacks_data(path: str | os.PathLike[str]) -> bool:
    """Whether a JPEG ends before its pixels do: decoders warn of it and make them grey."""
    import rasterio

    try:
        with careful(path), rasterio.open(Path(os.path.abspath(path)), driver="JPEG") as dataset:
            rows = max(1, (1 << 24) // dataset.width)
            for top in range(0, dataset.height, rows):
                most = min(rows, dataset.height - top)
                dataset.read(1, window=((top, top + most), (0, dataset.width)))
    except UnreadableImage as error:
        return bool(_LOST.search(str(error)))
    return False


def _hush() -> None:
    logger = logging.getLogger("rasterio")
    logger.addHandler(_listener)
    logger.setLevel(logging.WARNING)
    logger.propagate = False


def _chain(error: BaseException | None) -> Iterator[str]:
    """The words of an error and of what caused it, the cause last."""
    while error is not None:
        yield str(error)
        error = error.__cause__


def _explained(path: str | os.PathLike[str], words: list[str]) -> UnreadableImage:
    """An error that tells what is torn from what is only not built in here."""
    for word in words:
        codec = _NO_CODEC.search(word)
        if codec or _NOT_DAMAGE.search(word):
            name = f"codec {codec[1] or codec[2]}" if codec else "way of packing pixels"
            return UnreadableImage(
                f"{path} is whole but in a {name} that GDAL has not built in here ({word}): write "
                "it anew where it can be read (gdal_translate -co COMPRESS=DEFLATE)"
            )
    return damaged(path, words[-1] if words else "it cannot be decoded")


def _check_vrt(path: str | os.PathLike[str], depth: int) -> None:
    """A VRT may only put together whole local files of kinds that are read here."""
    try:
        text = Path(path).read_bytes() if file_length(path) < _MOST_XML else b"<!DOCTYPE"
        if depth > 4 or b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            raise UnreadableImage(f"{path} is no plain VRT: write it with gdalbuildvrt")
        elements = list(ElementTree.fromstring(text).iter())
    except (ElementTree.ParseError, ValueError) as error:
        if isinstance(error, UnreadableImage):
            raise
        raise damaged(path, error) from None
    for element in elements:
        kind = element.get("subClass", "VRTSourcedRasterBand")
        if kind != "VRTSourcedRasterBand" or element.tag == "OpenOptions":
            raise UnreadableImage(
                f"{path} is a VRT that computes or warps ({kind}), which is not run here: write "
                "what it gives to a file first (gdal_translate)"
            )
        if element.tag == "SourceFilename":
            _check_source(path, element, depth)


def _check_source(path: str | os.PathLike[str], element: ElementTree.Element, depth: int) -> None:
    name = element.text or ""
    source = os.path.join(os.path.dirname(os.path.abspath(path)), name)
    local = element.get("relativeToVRT") == "1" or os.path.isabs(name)
    if not local or not os.path.isfile(source):
        raise UnreadableImage(
            f"{path} is made of {name!r}, which is no file of this machine: only such are read"
        )
    head = read_head(source)
    if gdal_driver(head) not in _SOURCES and not head.startswith(_PICTURES):
        raise UnreadableImage(f"{path} is made of {source}, which is no image that is read here")
    if gdal_driver(head) == "VRT":
        _check_vrt(source, depth + 1)
