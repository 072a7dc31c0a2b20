"""Labels as ids, from ids, palette indices or colours.

A number means what it says, whatever the bits that it is stored in; a colour is looked up. Where a
file could be meant in two ways, or has lost its ids (JPEG), it is refused.
"""

import os
from collections.abc import Mapping

import cv2
import numpy as np

from mgcl.datasets.benchmarks import IGNORE_ID, Benchmark
from mgcl.images.files import read_bytes
from mgcl.images.pictures import decode_png
from mgcl.images.stored import Stored, read_stored

_BLACK, _WHITE = 0, 0xFFFFFF
_SHADES, _DARK, _SURE = 8, 64, 0.9  # of a drawing with soft edges
_NAMED = 12  # ids or colours that an error lists


def read_label(path: str | os.PathLike[str], benchmark: Benchmark) -> np.ndarray:
    """Read a label as (H, W) uint8 ids: grey or palette index = id, or official colours.

    A palette whose colours are all official and stand at other places than their ids was made by
    an optimiser from official colours: then the colours count.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, is packed with losses, or holds an id or colour that the
            benchmark does not know.
    """
    if benchmark.label_values:
        return _translated(path, benchmark)
    ids = decode_png(read_bytes(path, "label"), colour=False)
    if ids is None:
        stored = read_stored(path)
        ids = _benchmark_ids(path, stored, benchmark)
    outside = ids[(ids > len(benchmark.class_names)) | (ids < 0)]
    if outside.size and not np.isin(outside, benchmark.known_label_ids).all():
        unknown = np.setdiff1d(outside, benchmark.known_label_ids)
        raise ValueError(
            f"label {path} holds the id {unknown[0]}, which {benchmark.name} does not know "
            f"(it has 0 to {len(benchmark.class_names)} and {IGNORE_ID} for ignored pixels)"
        )
    return ids.astype(np.uint8, copy=False)


def read_values(path: str | os.PathLike[str], *, colours: bool) -> np.ndarray:
    """Read any label as (H, W) ids, or as colours r * 65536 + g * 256 + b.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, is packed with losses, or holds no ids (or no colours).
    """
    stored = read_stored(path)
    return colour_codes(path, stored) if colours else stored_ids(path, stored)


def stored_ids(path: str | os.PathLike[str], stored: Stored) -> np.ndarray:
    """The numbers of a label, (H, W) integers: grey, palette index, or three equal channels.

    Of a black and white palette, white is 1. Pixels without data are 255 where the no-data value
    itself is no id, transparent ones of a grey layer 0.

    Raises:
        ValueError: packed with losses, fractions, or colours.
    """
    _refuse_lossy(path, stored)
    if _is_black_and_white(stored):
        return _palette_codes(stored) // _WHITE
    if stored.colours is None:
        ids = _whole_numbers(path, stored)
    elif _is_grey(stored.colours):
        ids = stored.colours[..., 0]
    else:
        raise ValueError(f"label {path} is in colours and holds no ids: give #colours")
    return ids if stored.opaque is None or stored.palette is not None else ids * stored.opaque


def colour_codes(path: str | os.PathLike[str], stored: Stored) -> np.ndarray:
    """The colours of a label, (H, W) int32 r * 65536 + g * 256 + b; transparent pixels are black.

    Raises:
        ValueError: packed with losses, or of more than 8 bits.
    """
    _refuse_lossy(path, stored)
    if stored.palette is not None:
        codes = _palette_codes(stored)
    elif stored.colours is not None:
        codes = _codes(stored.colours)
    else:
        assert stored.values is not None
        if stored.values.dtype != np.uint8:
            raise ValueError(
                f"label {path} has numbers of type {stored.values.dtype} and no colours: give ids"
            )
        codes = stored.values.astype(np.int32) * 255 // ((1 << stored.bits) - 1) * 0x010101
    return codes if stored.opaque is None else codes * stored.opaque


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


def soft_drawing(stored: Stored) -> np.ndarray | None:
    """What is white on black in a drawing with soft edges, (H, W) bool; None: it is no such.

    Nearly all of it must be nearly black or nearly white (or one other bright colour), and there
    must be more shades than a label of ids would have; a JPEG may have any number.
    """
    colours = stored.colours
    if stored.palette is not None or stored.opaque is not None:
        return None
    shades = stored.values if colours is None else colours.max(axis=-1)
    if shades is None or shades.dtype != np.uint8 or stored.bits != 8:
        return None
    counts = np.bincount(shades.reshape(-1), minlength=256)
    sure = counts[:_DARK].sum() + counts[256 - _DARK :].sum() >= _SURE * shades.size
    if not sure or not (stored.lossy or (counts > 0).sum() > _SHADES and counts[0] and counts[255]):
        return None
    white = shades >= 128
    core = colours[shades >= 256 - _DARK] if colours is not None else shades[:0]
    if not white.any() or len(core) and core.std(axis=0).max() > _DARK / 2:
        return None  # several colours
    return white


def listed(values: np.ndarray, *, colours: bool) -> str:
    """The ids or colours that occur, in words, the first dozen of many."""
    found = np.unique(values)
    words = [f"#{value:06x}" if colours else str(value) for value in found[:_NAMED].tolist()]
    return ", ".join(words) + f" and {len(found) - _NAMED} more" * (len(found) > _NAMED)


def _translated(path: str | os.PathLike[str], benchmark: Benchmark) -> np.ndarray:
    """The ids of a label whose values mean what the benchmark's record says."""
    values = read_values(path, colours=benchmark.label_colours)
    ids, unknown = ids_of_values(values, dict(benchmark.label_values))
    if unknown is not None:
        word = f"#{unknown:06x}" if benchmark.label_colours else unknown
        raise ValueError(
            f"label {path} holds {word}, which label_values in benchmark.json does not name: add "
            "it (as background or ignore if it is no class)"
        )
    return ids


def _benchmark_ids(
    path: str | os.PathLike[str], stored: Stored, benchmark: Benchmark
) -> np.ndarray:
    official = {(r << 16) + (g << 8) + b: i for i, (r, g, b) in enumerate(benchmark.palette)}
    if stored.palette is not None:
        return _palette_ids(path, stored, official)
    if stored.colours is None or not official:
        return stored_ids(path, stored)
    codes = colour_codes(path, stored)
    ids, unknown = ids_of_values(codes, official)
    if unknown is None:
        return ids
    if _is_grey(stored.colours):  # ids in three equal channels
        return stored_ids(path, stored)
    colour = (unknown >> 16, unknown >> 8 & 255, unknown & 255)
    raise ValueError(f"label {path} has the colour {colour}, which is no class of {benchmark.name}")


def _palette_ids(
    path: str | os.PathLike[str], stored: Stored, official: Mapping[int, int]
) -> np.ndarray:
    """Indices, unless the palette shows that its colours are meant."""
    assert stored.palette is not None and stored.values is not None
    codes = _codes(stored.palette)
    used = np.unique(stored.values)
    if used[-1] >= len(codes):
        return stored_ids(path, stored)
    shown = codes[used].tolist()
    meant = [official.get(code) for code in shown]
    if None in meant or meant == used.tolist() or len(set(shown)) < len(shown):
        return stored_ids(path, stored)
    if not set(codes.tolist()) <= set(official):
        raise ValueError(
            f"label {path} has official colours at the indices {listed(used, colours=False)} of "
            f"its palette, their ids are {', '.join(map(str, meant))}: which are meant? Save it "
            "as grey ids, or as RGB"
        )
    return ids_of_values(_palette_codes(stored), official)[0]


def _refuse_lossy(path: str | os.PathLike[str], stored: Stored) -> None:
    if stored.lossy:
        raise ValueError(
            f"label {path} is packed with losses (JPEG or the like), which makes other ids and "
            "colours around every edge: save it as PNG from its source"
        )


def _whole_numbers(path: str | os.PathLike[str], stored: Stored) -> np.ndarray:
    """(H, W) integers; what has no data, and is marked so by a number that is no id, is ignored."""
    values = stored.values
    assert values is not None
    if values.dtype == np.uint8:
        return values
    ignored = ~np.isfinite(values)
    if stored.no_data is not None:
        ignored |= stored.no_data & ((values < 0) | (values > IGNORE_ID))
    ids = np.where(ignored, IGNORE_ID, values)
    if (ids != np.round(ids)).any() or (abs(ids) > 1 << 53).any():
        raise ValueError(f"label {path} holds fractions ({values.dtype}) and no ids")
    return ids.astype(np.int64)


def _is_grey(colours: np.ndarray) -> bool:
    return bool((colours == colours[..., :1]).all())


def _is_black_and_white(stored: Stored) -> bool:
    """Whether a palette has black and white alone, in either order."""
    if stored.palette is None or stored.values is None:
        return False
    codes = _codes(stored.palette)
    return set(codes.tolist()) == {_BLACK, _WHITE} and int(stored.values.max()) < len(codes)


def _palette_codes(stored: Stored) -> np.ndarray:
    assert stored.palette is not None and stored.values is not None
    codes = np.zeros(max(256, len(stored.palette), int(stored.values.max()) + 1), np.int32)
    codes[: len(stored.palette)] = _codes(stored.palette)
    return codes[stored.values]


def _codes(colours: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
    return (red << 16) + (green << 8) + blue
