"""The one reader of images: any PNG, JPEG or (Geo)TIFF as 8-bit RGB, or an error that names it.

Masks and network must see the same picture, so both read it here.
"""

import io
import math
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mgcl.images.stretch import to_rgb8

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
MAX_PIXELS = 1 << 29  # 23,170 x 23,170; above it a file is taken for a mistake or an attack
_MAX_BYTES = 1 << 32  # of a file, and of the samples of a TIFF of many bands
_SMALL, _PIXELS_A_BYTE = 1 << 24, 8256  # deflate packs at most 1032 bytes, of 8 pixels, into one

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")  # EPS would run Ghostscript
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"  # marks
_RGB8, _GREY8 = b"\x08\x02", b"\x08\x00"  # PNG's bit depth and colour type
_BITS, _ORIENTATION, _GDAL_NODATA = 258, 274, 42113  # TIFF tags
_PHOTOMETRIC = (1, 2)  # of a TIFF: grey with black as 0, RGB

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is below usual aerial scenes; see MAX_PIXELS


class UnreadableImage(ValueError):
    """An image file that cannot be read; the message names it and says why."""


class MissingImage(UnreadableImage, FileNotFoundError):
    """An image file that is not there."""


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image file as (H, W, 3) uint8 RGB.

    Grey is repeated, alpha and further bands are dropped, palettes and CMYK are converted, pixels
    come in the order in which they are stored (a camera's EXIF rotation is not applied). Samples
    of more than 8 bits are stretched as in `mgcl.stretch`; NaN and GDAL's no-data value are black.

    Raises:
        MissingImage: there is no such file.
        UnreadableImage: it is damaged, no image, too large, or of a kind that is not known.
    """
    data = read_bytes(path, "image")
    image = decode_png(data, colour=True)
    if image is not None:
        return image
    if data[:4] in _TIFF:
        return _decode_tiff(path, data)
    if data[:8] == _PNG and data[24:25] == b"\x10":  # Pillow would cut 16-bit colour to 8 bits
        return _decode_png16(path, data)
    if data[:2] == _JPEG and not _jpeg_has_end(data):  # Pillow would make what is missing grey
        raise _damaged(path, "its end is missing")
    return _rgb(path, open_picture(path, data))


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(H, W) of an image file, from its header where that is possible.

    Raises:
        UnreadableImage: as `read_image`.
    """
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            return picture.height, picture.width
    except Exception:  # Pillow's parsers raise anything on damaged bytes
        return read_image(path).shape[:2]


def read_bytes(path: str | os.PathLike[str], what: str) -> bytes:
    """Read the file of an image, or of what else `what` calls it.

    Raises:
        MissingImage: there is no such file.
        UnreadableImage: it is no regular file, over 4 GiB or not readable.
    """
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            raise UnreadableImage(f"{what} {path} is no regular file")
        if facts.st_size > _MAX_BYTES:
            raise UnreadableImage(f"{what} {path} has {facts.st_size:,} bytes: cut it first")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise MissingImage(
            f"no {what} {path}: check the data root and the lists (see data/README.md)"
        ) from None
    except OSError as error:
        raise UnreadableImage(f"{what} {path} cannot be read: {error.strerror}") from None


def open_picture(path: str | os.PathLike[str], data: bytes) -> Image.Image:
    """Open and decode with Pillow.

    Raises:
        UnreadableImage: whatever is wrong.
    """
    picture = _identify(path, data)
    if picture is None:
        raise UnreadableImage(f"{path} is not a readable image: is it damaged?")
    return _load(path, data, picture)


def decode_png(data: bytes, *, colour: bool) -> np.ndarray | None:
    """The usual 8-bit PNGs, RGB or grey, twice as fast as Pillow and equal to it.

    None for any other or damaged file; libpng checks the sums of all chunks.
    """
    if data[:8] != _PNG or data[24:26] != (_RGB8 if colour else _GREY8) or not _has_end(data):
        return None
    return _cv2_decode(data, "IMREAD_COLOR_RGB" if colour else "IMREAD_GRAYSCALE")


def plausible(length: int, height: int, width: int) -> bool:
    """Whether a file of `length` bytes can hold that picture; decoders take memory for it first."""
    most = min(max(_SMALL, _PIXELS_A_BYTE * length), MAX_PIXELS)
    return 0 < height * width <= most


def _has_end(png: bytes) -> bool:
    """Whether the chunks lead to the end mark; libpng would allocate what a broken length says."""
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    start = 8 if plausible(len(png), height, width) else len(png)
    while start + 12 <= len(png):
        if png[start + 4 : start + 8] == b"IEND":
            return True
        start += 12 + int.from_bytes(png[start : start + 4], "big")
    return False


def _jpeg_has_end(data: bytes) -> bool:
    """Whether an end mark follows the picture's data; one of a thumbnail before it does not do."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at : at + 2] != _JPEG_SCAN:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.find(_JPEG_END, at) >= 0


def _cv2_decode(data: bytes, kind: str) -> np.ndarray | None:
    import cv2  # readers of headers and of mask maps do without

    flag = getattr(cv2, kind) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:  # a damaged header that asks for an impossible size
        return None


def _identify(path: str | os.PathLike[str], data: bytes) -> Image.Image | None:
    """The picture, not yet decoded; None for what Pillow does not know."""
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.UnidentifiedImageError:
        return None
    except Exception as error:  # Pillow's parsers raise anything on damaged bytes
        raise _damaged(path, error) from None


def _load(path: str | os.PathLike[str], data: bytes, picture: Image.Image) -> Image.Image:
    _check_size(path, data, picture.height, picture.width)
    try:
        picture.load()
    except Exception as error:  # Pillow's parsers raise anything on damaged bytes
        raise _damaged(path, error) from None
    return picture


def _damaged(path: str | os.PathLike[str], why: object) -> UnreadableImage:
    return UnreadableImage(f"{path} is damaged ({why}): fetch or write it again")


def _check_size(
    path: str | os.PathLike[str], data: bytes, height: int, width: int, pixel_bytes: int = 1
) -> None:
    most_bytes = min(max(8 * _SMALL, _PIXELS_A_BYTE * len(data)), _MAX_BYTES)
    if height * width * pixel_bytes > most_bytes or not plausible(len(data), height, width):
        raise UnreadableImage(
            f"{path} is {width} x {height} pixels by its header: there may be 1 to {MAX_PIXELS:,} "
            "(in 4 GiB), and no more than its bytes can hold. Cut it, or fetch it again"
        )


def _rgb(path: str | os.PathLike[str], picture: Image.Image) -> np.ndarray:
    if picture.mode not in _EIGHT_BIT_MODES:
        raise UnreadableImage(
            f"{path} has pixels of Pillow's mode {picture.mode}: convert it to RGB"
        )
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _decode_png16(path: str | os.PathLike[str], data: bytes) -> np.ndarray:
    samples = _cv2_decode(data, "IMREAD_UNCHANGED") if _has_end(data) else None
    if samples is None:
        open_picture(path, data)  # says what is wrong with it
        raise _damaged(path, "it cannot be decoded")
    return to_rgb8(_bgr_to_rgb(samples))


def _decode_tiff(path: str | os.PathLike[str], data: bytes) -> np.ndarray:
    """By Pillow up to 8 bits a sample; deeper ones it misreads, and many bands it does not know."""
    picture = _identify(path, data)
    if picture is not None and picture.mode in _EIGHT_BIT_MODES:
        bits = picture.tag_v2.get(_BITS, (1,))  # type: ignore[attr-defined]
        if max(bits) <= 8:
            return _rgb(path, _load(path, data, picture))
    try:
        return _decode_deep_tiff(path, data)
    except UnreadableImage:
        raise
    except Exception as error:  # tifffile raises anything on damaged bytes
        raise _damaged(path, error) from None


def _decode_deep_tiff(path: str | os.PathLike[str], data: bytes) -> np.ndarray:
    import tifffile  # 0.2 s that the usual files do not need

    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages.first
        _check_kind(path, page)
        pixel_bytes = page.samplesperpixel * page.bitspersample // 8
        _check_size(path, data, page.imagelength, page.imagewidth, pixel_bytes)
        _check_segments(path, page, len(data))
        try:
            samples = page.asarray(maxworkers=1)
        except ValueError as error:
            found = _cv2_decode(data, "IMREAD_UNCHANGED")  # knows LZW, for which tifffile
            if "imagecodecs" not in str(error) or found is None:  # needs a further package
                raise
            samples = _bgr_to_rgb(found)
        if page.axes == "SYX":  # a plane each band
            samples = np.moveaxis(samples, 0, -1)
        return to_rgb8(samples, page.nodata if _GDAL_NODATA in page.tags else None)


def _check_kind(path: str | os.PathLike[str], page: Any) -> None:
    orientation = page.tags[_ORIENTATION].value if _ORIENTATION in page.tags else 1
    kind = "none" if page.dtype is None else page.dtype.name
    known = (
        page.axes in ("YX", "YXS", "SYX")
        and kind.startswith(("uint", "int", "float"))
        and page.photometric in _PHOTOMETRIC
        and orientation == 1
    )
    if not known:
        raise UnreadableImage(
            f"{path} has samples of a kind that is not known here (type {kind}, axes {page.axes}, "
            f"photometric {int(page.photometric)}, orientation {orientation}): convert it to RGB"
        )


def _check_segments(path: str | os.PathLike[str], page: Any, length: int) -> None:
    """All strips or tiles must be there: tifffile leaves what is not as it finds the memory."""
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    torn = any(count < 1 or offset + count > length for offset, count in segments)
    if torn or len(segments) != math.prod(page.chunked):
        raise _damaged(path, "strips or tiles are missing")


def _bgr_to_rgb(samples: np.ndarray) -> np.ndarray:
    """OpenCV's (H, W) or (H, W, 3 or 4) in the usual order, without alpha."""
    return samples[..., 2::-1] if samples.ndim == 3 else samples


def find_images(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """All images below a folder, by their path in it without the suffix, sorted.

    Raises:
        ValueError: no folder, no image in it, two images of one name ("a.png", "a.tif"), or a name
            that does not print.
    """
    root = Path(folder)
    paths = [p for p in sorted(root.rglob("*")) if p.suffix.lower() in SUFFIXES and p.is_file()]
    if not paths:
        raise ValueError(f"no images ({' '.join(SUFFIXES)}) in {root}")
    images: dict[str, Path] = {}
    for path in paths:
        key = path.relative_to(root).with_suffix("").as_posix()
        if not key.isprintable():
            raise ValueError(f"{str(path)!r} has a name that does not print: rename it")
        if key in images:
            raise ValueError(f"{images[key]} and {path} would share one mask map: rename one")
        images[key] = path
    return images
