"""From files to arrays: images as RGB, labels as ids, all at one size, with their mask maps."""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from PIL import Image

from ..imagefile import decode_png, open_picture, read_bytes, read_image
from .benchmarks import IGNORE_ID, Benchmark
from .cache import SampleCache
from .lists import Entry

_ID_MODES = ("L", "P", "I;16")  # of PIL: grey values or palette indices


class MaskSource(Protocol):
    """Where mask maps come from (`mgcl.masks.store.MaskStore`)."""

    def __contains__(self, key: str, /) -> bool:
        """Whether there is a mask map of this key."""

    def load(self, key: str) -> np.ndarray:
        """The (H, W) uint8 mask map of this key."""


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


def with_min_object(
    entries: Sequence[Entry], source: ImageSource, share: float, *, threads: int = 8
) -> list[Entry]:
    """The entries, in order, whose class covers at least `share` of its image."""
    if share <= 0:
        return list(entries)
    with ThreadPoolExecutor(threads) as pool:
        covered = pool.map(lambda entry: float((source.label(entry) == 1).mean()), entries)
        return [e for e, part in zip(entries, covered, strict=True) if part >= share]


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


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) -> (size, size, 3), bilinear with antialiasing as torchvision's `Resize` of PIL."""
    if image.shape[:2] == (size, size):
        return image
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    return np.array(resized)


def resize_nearest(ids: np.ndarray, size: int) -> np.ndarray:
    """(H, W) -> (size, size) as torch's `mode="nearest"`: row i comes from floor(i * H / size)."""
    height, width = ids.shape
    if (height, width) == (size, size):
        return ids
    return ids[np.ix_(_nearest(height, size), _nearest(width, size))]


def _nearest(length: int, size: int) -> np.ndarray:
    scale = np.float32(length) / np.float32(size)  # torch computes the index in float32
    index = np.floor(np.arange(size, dtype=np.float32) * scale).astype(np.intp)
    return np.minimum(index, length - 1)


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


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"
