"""Decoded samples in memory, shared by the processes that load episodes.

Decoding an image and its label and mask map costs a hundred times what copying them does, and a
training needs each once an epoch.
"""

import mmap
import multiprocessing
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np


class SampleCache:
    """Keeps arrays of one shape by their keys, up to a limit; forked processes see one memory."""

    def __init__(self, shape: tuple[int, ...], limit: int) -> None:
        """Take no memory yet.

        Args:
            shape: of each array, uint8.
            limit: bytes in all; arrays that find no place are read each time.
        """
        self._shape = shape
        self._left = limit // (int(np.prod(shape)) + 1)
        self._places: dict[str, _Place] = {}
        self._lock = multiprocessing.Lock()

    def reserve(self, keys: Iterable[str]) -> None:
        """Give every key a place; call it before the processes start. Pages are taken on use."""
        new = [key for key in dict.fromkeys(keys) if key not in self._places][: self._left]
        if not new:
            return
        arrays = _shared(len(new), *self._shape)
        filled = _shared(len(new))
        self._left -= len(new)
        self._places |= {key: _Place(arrays, filled, i) for i, key in enumerate(new)}

    def get(self, key: str, read: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of a key, made by `read` if it is not there yet; not to be changed."""
        place = self._places.get(key)
        if place is None:
            return read()
        with self._lock:  # its barriers order the array before the mark on any processor
            known = bool(place.filled[place.row])
        if not known:  # two processes may come here at once: they write the same
            place.arrays[place.row] = read()
            with self._lock:
                place.filled[place.row] = 1
        return place.arrays[place.row]

    def find(self, key: str) -> np.ndarray | None:
        """The array of a key, if it is there; not to be changed."""
        place = self._places.get(key)
        if place is None:
            return None
        with self._lock:
            known = bool(place.filled[place.row])
        return place.arrays[place.row] if known else None

    def __getstate__(self) -> dict[str, Any]:
        """A process that is not forked shares no memory: its copy keeps nothing."""
        return {"_shape": self._shape, "_left": 0, "_places": {}, "_lock": None}


class _Place(NamedTuple):
    arrays: np.ndarray
    filled: np.ndarray
    row: int


def _shared(*shape: int) -> np.ndarray:
    """Zeros, uint8, in memory that forked processes share (not in /dev/shm, which may be small)."""
    return np.frombuffer(mmap.mmap(-1, int(np.prod(shape))), np.uint8).reshape(shape)
