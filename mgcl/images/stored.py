"""Pixels as a file stores them, not as a picture shows them: what labels are made of."""

import os
from typing import NamedTuple

import numpy as np
from PIL import Image

from mgcl.images.files import PNG, UnreadableImage, check_size, gdal_driver, read_bytes, read_head
from mgcl.images.gdal import careful, most_bytes
from mgcl.images.pictures import open_picture
from mgcl.images.scene import Scene, open_scene

_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")  # of Pillow's modes


class Stored(NamedTuple):
    """What a file stores at each pixel: a number, that of a colour in a palette, or a colour."""

    values: np.ndarray | None  # (H, W): the numbers; None where colours are stored
    bits: int  # of a number
    palette: np.ndarray | None  # (N, 3) uint8, the colours of the numbers
    colours: np.ndarray | None  # (H, W, 3) uint8; None where numbers are stored
    opaque: np.ndarray | None  # (H, W) bool; None: all are
    no_data: np.ndarray | None  # (H, W) bool; None: there are data everywhere
    lossy: bool  # packed by a codec that changes pixels a little


def read_stored(path: str | os.PathLike[str], what: str = "label") -> Stored:
    """Read any file that `mgcl.images.read.read_image` reads.

    Raises:
        MissingImage: there is no such file.
        UnreadableImage: as `read_image`, or it has colours of more than 8 bits, or two bands.
    """
    driver = gdal_driver(read_head(path, what))
    if driver:
        with careful(path), open_scene(path, driver, None) as scene:
            check_size(path, most_bytes(path), scene.height, scene.width)
            return _of_scene(scene)
    data = read_bytes(path, what)
    return _of_picture(open_picture(path, data), data)


def _of_picture(picture: Image.Image, data: bytes) -> Stored:
    mode, opaque = picture.mode, None
    webp = picture.format == "WEBP" and b"VP8L" not in data[:4096]
    lossy = webp or picture.format in ("JPEG", "MPO")
    if mode in ("LA", "RGBA", "PA") or "transparency" in picture.info and mode == "P":
        opaque = np.array(picture.convert("RGBA"))[..., 3] >= 128
    if mode in ("P", "PA"):
        flat = picture.getpalette("RGB") or []
        palette = np.array(flat, np.uint8).reshape(-1, 3)
        indices = picture if mode == "P" else picture.getchannel(0)
        return Stored(np.array(indices), 8, palette, None, opaque, None, lossy)
    if mode in ("1", "L", "LA", *_DEEP):
        values = np.array(picture.getchannel(0) if mode == "LA" else picture)
        bits = 1 if mode == "1" else 8 * values.itemsize
        if data[:8] == PNG and data[24] < 8 and mode == "L":  # Pillow has spread them to 8 bits
            bits = data[24]
            values = values // (255 // ((1 << bits) - 1))
        return Stored(values.astype(np.uint8) if bits == 1 else values, bits, None, None, opaque,
                      None, lossy)  # fmt: skip
    return Stored(None, 8, None, np.array(picture.convert("RGB")), opaque, None, lossy)


def _of_scene(scene: Scene) -> Stored:
    window = (0, 0, scene.height, scene.width)
    samples = scene.samples(scene.bands, window)
    no_data = ~scene.marked(samples, window)
    alpha = scene.alpha_samples(window)
    opaque = None if alpha is None else alpha >= max(1, int(alpha.max()) // 2)
    if len(scene.bands) == 1:
        if scene.bands_stored == 2 and alpha is None:
            raise UnreadableImage(f"{scene.path} has two bands: which one holds the label?")
        return Stored(samples[0], scene.bits, scene.palette, None, opaque, no_data, scene.lossy)
    if samples.dtype != np.uint8:
        raise UnreadableImage(
            f"{scene.path} has {scene.bands_stored} bands of type {samples.dtype}: a label has one "
            "of ids, or colours of 8 bits"
        )
    colours = np.ascontiguousarray(np.moveaxis(samples, 0, -1))
    return Stored(None, 8, None, colours, opaque, no_data, scene.lossy)
