"""PNG, JPEG, BMP, WebP and GIF, decoded as a whole by Pillow and OpenCV."""

import io
import os

import numpy as np
from PIL import Image

from mgcl.images.files import PNG, UnreadableImage, check_size, damaged, plausible
from mgcl.images.gdal import lacks_data
from mgcl.images.stretch import to_rgb8

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF")  # EPS would run Ghostscript

_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
_JPEG, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"  # marks
_RGB8, _GREY8 = b"\x08\x02", b"\x08\x00"  # PNG's bit depth and colour type
_BLOCK = 8  # pixels a side that a JPEG codes at a time

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is below usual aerial scenes; see MAX_PIXELS


def decode_rgb(path: str | os.PathLike[str], data: bytes) -> np.ndarray:
    """The bytes of a picture as (H, W, 3) uint8.

    Raises:
        UnreadableImage: whatever is wrong.
    """
    image = decode_png(data, colour=True)
    if image is not None:
        return image
    if data[:8] == PNG and data[24:25] == b"\x10":  # Pillow would cut 16-bit colour to 8 bits
        return _decode_png16(path, data)
    picture = open_picture(path, data)
    if picture.mode not in _EIGHT_BIT_MODES:
        raise UnreadableImage(
            f"{path} has pixels of Pillow's mode {picture.mode}: convert it to RGB"
        )
    image = np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
    if data[:2] == _JPEG and _may_lack_data(data, image) and lacks_data(path):
        raise damaged(path, "its pixels end too early")
    return image


def open_picture(path: str | os.PathLike[str], data: bytes) -> Image.Image:
    """Open and decode with Pillow.

    Raises:
        UnreadableImage: whatever is wrong.
    """
    if data[:2] == _JPEG and not _jpeg_has_end(data):  # Pillow would make what is missing grey
        raise damaged(path, "its end is missing")
    picture = _identify(path, data)
    check_size(path, len(data), picture.height, picture.width)
    try:
        picture.load()
    except Exception as error:  # Pillow's parsers raise anything on damaged bytes
        raise damaged(path, error) from None
    return picture


def decode_png(data: bytes, *, colour: bool) -> np.ndarray | None:
    """The usual 8-bit PNGs, RGB or grey, twice as fast as Pillow and equal to it.

    None for any other or damaged file; libpng checks the sums of all chunks.
    """
    if data[:8] != PNG or data[24:26] != (_RGB8 if colour else _GREY8) or not _has_end(data):
        return None
    return _cv2_decode(data, "IMREAD_COLOR_RGB" if colour else "IMREAD_GRAYSCALE")


def _identify(path: str | os.PathLike[str], data: bytes) -> Image.Image:
    """The picture, not yet decoded."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError:
        raise UnreadableImage(f"{path} is not a readable image: is it damaged?") from None
    except Exception as error:  # Pillow's parsers raise anything on damaged bytes
        raise damaged(path, error) from None


def _has_end(png: bytes) -> bool:
    """Whether the chunks lead to the end mark; libpng would allocate what a broken length says."""
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    start = 8 if plausible(len(png), height, width) else len(png)
    while start + 12 <= len(png):
        if png[start + 4 : start + 8] == b"IEND":
            return True
        start += 12 + int.from_bytes(png[start : start + 4], "big")
    return False


def _scan_start(jpeg: bytes) -> int:
    """Where the picture's data begin, past its thumbnails."""
    at = 2
    while jpeg[at : at + 1] == b"\xff" and jpeg[at : at + 2] != _JPEG_SCAN:
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return at


def _jpeg_has_end(data: bytes) -> bool:
    """Whether an end mark follows the picture's data; one of a thumbnail before it does not do."""
    return data.find(_JPEG_END, _scan_start(data)) >= 0


def _may_lack_data(jpeg: bytes, image: np.ndarray) -> bool:
    """Whether a closer look is due: the last block is flat, or there are several scans.

    A decoder fills up what is missing with the last brightness. A picture of one scan whose last
    block shows something has come to its end.
    """
    start = _scan_start(jpeg)
    if jpeg.find(_JPEG_SCAN, start + 2) >= 0:
        return True
    height, width = image.shape[:2]
    last = image[(height - 1) // _BLOCK * _BLOCK :, (width - 1) // _BLOCK * _BLOCK :]
    return bool((last == last[:1, :1]).all())


def _cv2_decode(data: bytes, kind: str) -> np.ndarray | None:
    import cv2  # readers of headers and of mask maps do without

    flag = getattr(cv2, kind) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:  # a damaged header that asks for an impossible size
        return None


def _decode_png16(path: str | os.PathLike[str], data: bytes) -> np.ndarray:
    samples = _cv2_decode(data, "IMREAD_UNCHANGED") if _has_end(data) else None
    if samples is None:
        open_picture(path, data)  # says what is wrong with it
        raise damaged(path, "it cannot be decoded")
    return to_rgb8(samples[..., 2::-1] if samples.ndim == 3 else samples)  # OpenCV has BGR
