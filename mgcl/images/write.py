"""PNGs, written whole or not at all."""

import io
import os

import numpy as np
from PIL import Image

from mgcl.files import atomic_write


def write_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 picture, or one channel (H, W) of 8 or 16 bits, atomically."""
    from PIL import Image

    with atomic_write(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


def png(pixels: np.ndarray) -> bytes:
    """Encode as PNG, quick to write and to read."""
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()
