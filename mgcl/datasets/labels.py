"""Labels as ids, from ids, palette indices or colours."""

import os
from collections.abc import Mapping

import cv2
import numpy as np
from PIL import Image

from mgcl.datasets.benchmarks import IGNORE_ID, Benchmark
from mgcl.images.files import read_bytes
from mgcl.images.pictures import decode_png, open_picture

_ID_MODES = ("L", "P", "I;16")  # of PIL: grey values or palette indices


def read_label(path: str | os.PathLike[str], benchmark: Benchmark) -> np.ndarray:
    """Read a label PNG as (H, W) uint8 ids: grey or palette index = id, RGB = official colours.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, its mode is another one, or it holds an id or colour that
            the benchmark does not know.
    """
    data = read_bytes(path, "label")
    ids = decode_png(data, colour=False)
    if ids is None:
        ids = _decode_label(path, data, benchmark)
    high = ids[ids > len(benchmark.class_names)]
    if high.size and not np.isin(high, benchmark.known_label_ids).all():
        unknown = np.setdiff1d(high, benchmark.known_label_ids)
        raise ValueError(
            f"label {path} holds the id {unknown[0]}, which {benchmark.name} does not know "
            f"(it has 0 to {len(benchmark.class_names)} and {IGNORE_ID} for ignored pixels)"
        )
    return ids.astype(np.uint8, copy=False)


def read_values(path: str | os.PathLike[str], *, colours: bool) -> np.ndarray:
    """Read any label PNG as (H, W) ids, or as colours r * 65536 + g * 256 + b.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or holds no ids where ids are asked for.
    """
    picture = open_picture(path, read_bytes(path, "label"))
    if colours:
        return _colour_codes(picture)
    if picture.mode not in _ID_MODES:
        raise ValueError(f"label {path} has mode {picture.mode}, which holds no ids: give #colours")
    return np.array(picture)


def ids_of_values(values: np.ndarray, table: Mapping[int, int]) -> tuple[np.ndarray, int | None]:
    """Translate (H, W) values to uint8 ids; also a value that the table lacks, if there is one."""
    ids, known = np.zeros(values.shape, np.uint8), np.zeros(values.shape, bool)
    for value, label_id in table.items():
        here = values == value
        ids[here] = label_id
        known |= here
    return ids, None if known.all() else int(values[~known][0])


def binary_label(ids: np.ndarray, class_id: int) -> np.ndarray:
    """Label ids (H, W) -> uint8: 1 where the 0-based class is, 255 where ignored, 0 elsewhere."""
    table = np.zeros(256, np.uint8)
    table[class_id + 1] = 1
    table[IGNORE_ID] = IGNORE_ID
    return cv2.LUT(ids, table)


def _decode_label(path: str | os.PathLike[str], data: bytes, benchmark: Benchmark) -> np.ndarray:
    picture = open_picture(path, data)
    if picture.mode in _ID_MODES:
        return np.array(picture)
    if picture.mode in ("RGB", "RGBA") and benchmark.palette:
        codes = _colour_codes(picture)
        palette = {(r << 16) + (g << 8) + b: i for i, (r, g, b) in enumerate(benchmark.palette)}
        ids, unknown = ids_of_values(codes, palette)
        if unknown is not None:
            colour = (unknown >> 16, unknown >> 8 & 255, unknown & 255)
            raise ValueError(
                f"label {path} has the colour {colour}, which is no class of {benchmark.name}"
            )
        return ids
    raise ValueError(
        f"label {path} has mode {picture.mode}: {benchmark.name} labels are grey or palette "
        "PNGs that hold ids" + (", or RGB in the official colours" * bool(benchmark.palette))
    )


def _colour_codes(picture: Image.Image) -> np.ndarray:
    red, green, blue = np.moveaxis(np.array(picture.convert("RGB"), np.int32), 2, 0)
    return (red << 16) + (green << 8) + blue
