"""Encoded images in memory: those used least recently go when there are too many."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

import torch

from mgcl.model.fewshot import Encoded

V = TypeVar("V")


class Recent(Generic[V]):
    """Values by key, of a limited size in all."""

    def __init__(self, limit: int, size: Callable[[V], int]) -> None:
        """Empty; `size` says what a value counts."""
        self.limit = limit
        self.total = 0
        self._size = size
        self._values: OrderedDict[Hashable, V] = OrderedDict()  # used least recently first

    def __contains__(self, key: Hashable) -> bool:
        """Whether there is a value of this key."""
        return key in self._values

    def __getitem__(self, key: Hashable) -> V:
        """The value of a key; looking at it is no use of it."""
        return self._values[key]

    def use(self, values: Mapping[Hashable, V]) -> None:
        """Keep these values, which are in use now, and drop others where there is no room."""
        for key, value in values.items():
            if key in self._values:
                self.total -= self._size(self._values.pop(key))
            self._values[key] = value
            self.total += self._size(value)
        while self.total > self.limit:
            self.total -= self._size(self._values.popitem(last=False)[1])

    def clear(self) -> None:
        """Drop everything."""
        self._values.clear()
        self.total = 0

    def sizes(self) -> "Recent[int]":
        """The same keys with their sizes as values: to see what would be dropped."""
        copy: Recent[int] = Recent(self.limit, int)
        copy.total = self.total
        copy._values = OrderedDict((key, self._size(v)) for key, v in self._values.items())
        return copy


class FeatureStore(Recent[Encoded]):
    """Encoded images, one a key, on the device that encoded them."""

    def __init__(self, limit: int, *, half: bool = False) -> None:
        """Empty.

        Args:
            limit: bytes in all; 0 keeps nothing.
            half: features are rounded to float16, whether they are kept or not.
        """
        super().__init__(limit, lambda encoded: encoded.nbytes)
        self._half = half
        self.within: dict[str, tuple[str, slice]] = {}
        """Fingerprint -> that of a network which gives the same levels among others, and which."""

    def packed(self, encoded: Encoded) -> Encoded:
        """An encoded image as it is kept."""
        return _cast(encoded, torch.float16) if self._half else encoded

    def unpacked(self, encoded: Encoded) -> Encoded:
        """Encoded images as networks compare them."""
        return _cast(encoded, torch.float32) if self._half else encoded


def _cast(encoded: Encoded, dtype: torch.dtype) -> Encoded:
    return encoded._replace(levels=tuple(level.to(dtype) for level in encoded.levels))
