"""From files to arrays: image, label and mask map of a list entry, all at one size."""

import os
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch

from mgcl.datasets.benchmarks import Benchmark
from mgcl.datasets.cache import SampleCache
from mgcl.datasets.labels import binary_label, read_label
from mgcl.datasets.lists import Entry
from mgcl.images.read import read_image
from mgcl.images.resize import _size, resize_image, resize_nearest


class MaskSource(Protocol):
    """Where mask maps come from (`mgcl.masks.store.MaskStore`)."""

    def __contains__(self, key: str, /) -> bool:
        """Whether there is a mask map of this key."""

    def load(self, key: str) -> np.ndarray:
        """The (H, W) uint8 mask map of this key."""

    def is_stale(self, key: str, picture: Path) -> bool:
        """Whether the mask map was cut from another picture."""


class Sample(NamedTuple):
    """One image with the label of one class and its mask map, all S x S and uint8."""

    image: torch.Tensor  # (3, S, S) RGB
    label: torch.Tensor  # (S, S): 1 the class, 0 anything else, 255 ignored
    mask_map: torch.Tensor  # (S, S): 0 no mask, i the i-th largest mask


class ImageSource:
    """Loads the sample of a list entry from a benchmark's tree."""

    def __init__(
        self,
        benchmark: Benchmark,
        root: str | os.PathLike[str],
        store: MaskSource | None,
        image_size: int,
        *,
        cache_bytes: int = 0,
    ) -> None:
        """Read nothing yet.

        Args:
            benchmark: classes and file layout.
            root: the data root.
            store: the mask maps; None gives all-zero maps (masks switched off).
            image_size: S, the side of what `load` returns.
            cache_bytes: memory for samples that `reserve` names; they are read from disk once.
        """
        self.benchmark = benchmark
        self.root = Path(root)
        self.store = store
        self.image_size = image_size
        self._cache = SampleCache((5, image_size, image_size), cache_bytes)

    def reserve(self, entries: Iterable[Entry]) -> None:
        """Keep these entries' samples in memory, as far as there is room, for all who load them."""
        self._cache.reserve(self._key(entry) for entry in entries)

    def load(self, entry: Entry) -> Sample:
        """Read image, label and mask map of `entry` and bring them to S x S.

        Raises:
            FileNotFoundError: image, label or mask map is missing.
            ValueError: a file cannot be read, the label has an unknown id, or sizes disagree.
        """
        planes = self._cache.get(self._key(entry), lambda: self._planes(entry))
        image, ids, mask_map = planes[:3], planes[3], planes[4]
        label = binary_label(ids, entry.class_id)
        return Sample(torch.from_numpy(image), torch.from_numpy(label), torch.from_numpy(mask_map))

    def load_label(self, entry: Entry) -> torch.Tensor:
        """The label of `load` alone, (S, S); the image is not decoded for it."""
        return torch.from_numpy(binary_label(self.load_ids(entry).numpy(), entry.class_id))

    def load_ids(self, entry: Entry) -> torch.Tensor:
        """As `load_label`, but the ids of all classes."""
        planes = self._cache.find(self._key(entry))
        if planes is not None:
            return torch.from_numpy(planes[3])
        path = self.benchmark.label_path(self.root, entry.split, entry.name)
        return torch.from_numpy(resize_nearest(read_label(path, self.benchmark), self.image_size))

    def _planes(self, entry: Entry) -> np.ndarray:
        """(5, S, S) uint8: red, green, blue, label ids, mask map."""
        size = self.image_size
        path = self.benchmark.image_path(self.root, entry.split, entry.name)
        image = read_image(path)
        label_path = self.benchmark.label_path(self.root, entry.split, entry.name)
        label = read_label(label_path, self.benchmark)
        if label.shape != image.shape[:2]:
            raise ValueError(
                f"{path} is {_size(image)} but its label {label_path} is {_size(label)} pixels "
                "(width x height): make them equal"
            )
        planes = np.empty((5, size, size), np.uint8)
        planes[:3] = resize_image(image, size).transpose(2, 0, 1)
        planes[3] = resize_nearest(label, size)
        planes[4] = resize_nearest(self._mask_map(entry, image), size)
        return planes

    def label(self, entry: Entry) -> np.ndarray:
        """The label of the entry's class at the file's own size, (H, W) uint8 in {0, 1, 255}."""
        path = self.benchmark.label_path(self.root, entry.split, entry.name)
        return binary_label(read_label(path, self.benchmark), entry.class_id)

    def _key(self, entry: Entry) -> str:
        return self.benchmark.mask_key(entry.split, entry.name)

    def _mask_map(self, entry: Entry, image: np.ndarray) -> np.ndarray:
        if self.store is None:
            return np.zeros(image.shape[:2], np.uint8)
        key = self._key(entry)
        if key not in self.store:
            raise FileNotFoundError(
                f"no mask map for {entry.name}: run main_0_extract_masks.py --config …"
            )
        mask_map = self.store.load(key)
        if mask_map.shape != image.shape[:2]:
            raise ValueError(
                f"the mask map of {entry.name} is {_size(mask_map)} but the image is "
                f"{_size(image)} pixels (width x height): delete it and run main_0 again"
            )
        return mask_map


def without_classes(
    entries: Sequence[Entry], source: ImageSource, class_ids: Collection[int], *, threads: int = 8
) -> list[Entry]:
    """The entries, in order, whose image shows none of these 0-based classes."""

    def is_free(entry: Entry) -> bool:
        path = source.benchmark.label_path(source.root, entry.split, entry.name)
        return not np.isin(read_label(path, source.benchmark), [c + 1 for c in class_ids]).any()

    with ThreadPoolExecutor(threads) as pool:
        free = pool.map(is_free, entries)
        return [entry for entry, one in zip(entries, free, strict=True) if one]


def with_min_object(
    entries: Sequence[Entry], source: ImageSource, share: float, *, threads: int = 8
) -> list[Entry]:
    """The entries, in order, whose class covers at least `share` of its image."""
    if share <= 0:
        return list(entries)
    with ThreadPoolExecutor(threads) as pool:
        covered = pool.map(lambda entry: float((source.label(entry) == 1).mean()), entries)
        return [e for e, part in zip(entries, covered, strict=True) if part >= share]
