"""PNGs, written whole or not at all."""

import io
import os
from collections.abc import Mapping

import numpy as np
from PIL import Image, PngImagePlugin

from mgcl.files import write_bytes

_LEVEL = 6  # of deflate: 1 packs less and saves time where many are written


def write_png(
    path: str | os.PathLike[str],
    image: np.ndarray,
    *,
    level: int = _LEVEL,
    texts: Mapping[str, str] | None = None,
    durable: bool = True,
) -> None:
    """Write a picture as PNG, atomically; the same one gives the same bytes.

    Args:
        path: the file.
        image: (H, W, 3) uint8, or one channel (H, W) of 8 or 16 bits.
        level: of compression, 1 (quick) to 9 (small).
        texts: words to keep in the file, by their key.
        durable: see `files.atomic_write`.

    Raises:
        DiskFullError: the disk takes no more.
        OSError: the folder is not writable.
    """
    write_bytes(path, encode_png(image, level=level, texts=texts), durable=durable)


def encode_png(
    image: np.ndarray, *, level: int = _LEVEL, texts: Mapping[str, str] | None = None
) -> bytes:
    """The bytes that `write_png` writes; arguments as there."""
    if level == 1 and image.shape[2:] == (3,) and image.dtype == np.uint8 and not texts:
        return _quick(image)
    kept = PngImagePlugin.PngInfo()
    for key, text in (texts or {}).items():
        kept.add_text(key, text)
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "PNG", compress_level=level, pnginfo=kept)
    return encoded.getvalue()


def _quick(picture: np.ndarray) -> bytes:
    """Without looking for repetitions, which photographs do not have: in two fifths of the time."""
    import cv2  # not by those who only read mask maps

    way = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), way)[1].tobytes()
