"""Large images into tiles: where the windows lie, how tiles are named, written and counted."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mgcl.datasets.benchmarks import IGNORE_ID, SPLITS, Benchmark
from mgcl.files import write_json
from mgcl.images.read import read_image
from mgcl.images.write import write_png

LABEL_SUFFIX = "_instance_color_RGB"  # iSAID's labels have it behind the image's name


class Picture(NamedTuple):
    """A large image with its label."""

    split: str
    name: str
    image: Path
    label: Path


class Cut(NamedTuple):
    """How pictures are cut; part of each record, so that a changed rule cuts anew."""

    size: int
    stride: int
    meaning: str = ""
    """What the label values mean, where that can change (a digest of the class table)."""


def image_name(path: Path) -> str:
    """Name of the image that an image or label file belongs to."""
    return path.stem.removesuffix(LABEL_SUFFIX)


def windows(length: int, cut: Cut) -> list[int]:
    """Where windows start along one side; the last is flush with the border.

    >>> windows(700, Cut(256, 206))
    [0, 206, 412, 444]
    """
    last = max(length - cut.size, 0)
    return [*range(0, last, cut.stride), last]


def tile_name(name: str, y: int, x: int, cut: Cut) -> str:
    """NAME_y0_y1_x0_x1."""
    return f"{name}_{y}_{y + cut.size}_{x}_{x + cut.size}"


def count_tiles(width: int, height: int, cut: Cut) -> int:
    """Number of windows of a picture."""
    return len(windows(height, cut)) * len(windows(width, cut))


def cut_picture(
    picture: Picture,
    *,
    benchmark: Benchmark,
    root: Path,
    cut: Cut,
    read_ids: Callable[[Path], np.ndarray],
) -> dict[str, dict[int, int]]:
    """Write a picture's tiles that show any class; returns tile name -> class id -> pixels.

    A record beside the tiles (`root/prepared/`) holds the same; with it nothing is done again.
    Tiles of background alone are not written and have no classes in the record. Cut anew, by
    another rule, the tiles of the earlier one go.

    Raises:
        ValueError: a file cannot be read, or image and label differ in size.
    """
    record = _record(root, picture.split, picture.name)
    rule = _rule(picture, cut)
    earlier = _read_record(record)
    if all(earlier.get(key) == value for key, value in rule.items()) and all(
        benchmark.image_path(root, picture.split, name).exists()
        and benchmark.label_path(root, picture.split, name).exists()
        for name, pixels in earlier["tiles"].items()
        if pixels
    ):
        return earlier["tiles"]
    image, ids = read_image(picture.image), read_ids(picture.label)
    if image.shape[:2] != ids.shape:
        raise ValueError(sizes_differ(picture, image, ids))
    tiles: dict[str, dict[int, int]] = {}
    for y in windows(ids.shape[0], cut):
        for x in windows(ids.shape[1], cut):
            name = tile_name(picture.name, y, x, cut)
            part = (slice(y, y + cut.size), slice(x, x + cut.size))
            tiles[name] = class_pixels(ids[part])
            if tiles[name]:
                image_path = benchmark.image_path(root, picture.split, name)
                write_png(image_path, _pad(image[part], cut.size, 0), level=1)
                label_path = benchmark.label_path(root, picture.split, name)
                write_png(label_path, _pad(ids[part], cut.size, IGNORE_ID), level=1)
    write_json(record, {**rule, "tiles": tiles})
    gone = [(picture.split, name) for name in earlier["tiles"] if not tiles.get(name)]
    own = benchmark.name == "own"  # whose pictures may change sides; others' have names a split
    for split in {*SPLITS} - {picture.split} if own else ():
        moved = _record(root, split, picture.name)
        gone += [(split, name) for name in _read_record(moved)["tiles"]]
        moved.unlink(missing_ok=True)
    for split, name in gone:
        benchmark.image_path(root, split, name).unlink(missing_ok=True)
        benchmark.label_path(root, split, name).unlink(missing_ok=True)
    return tiles


def sizes_differ(picture: Picture, image: np.ndarray, ids: np.ndarray) -> str:
    """What to say of an image and a label of different sizes."""
    return (
        f"{picture.image} is {image.shape[1]} x {image.shape[0]} but its label "
        f"{picture.label} is {ids.shape[1]} x {ids.shape[0]} pixels: make them equal"
    )


def class_pixels(ids: np.ndarray) -> dict[int, int]:
    """0-based class id -> number of its pixels, classes without any left out."""
    values, counts = np.unique(ids, return_counts=True)
    pairs = zip(values.tolist(), counts.tolist(), strict=True)
    return {value - 1: count for value, count in pairs if value not in (0, IGNORE_ID)}


def _pad(part: np.ndarray, size: int, value: int) -> np.ndarray:
    """Fill up a picture smaller than a tile, at the bottom and on the right."""
    missing: Sequence[tuple[int, int]] = [(0, size - n) for n in part.shape[:2]]
    missing = [*missing, *[(0, 0)] * (part.ndim - 2)]
    return np.pad(part, missing, constant_values=value)


def _record(root: Path, split: str, name: str) -> Path:
    return root / "prepared" / split / f"{name}.json"


def _rule(picture: Picture, cut: Cut) -> dict[str, Any]:
    """What the tiles follow from: a new class table or a changed file cuts the picture anew."""
    stats = [path.stat() for path in (picture.image, picture.label)]
    return {**cut._asdict(), "files": [[stat.st_size, stat.st_mtime_ns] for stat in stats]}


def _read_record(record: Path) -> dict[str, Any]:
    """The record of an earlier run; without tiles where there is none or it is damaged."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        tiles = {
            name: {int(c): n for c, n in tile.items()} for name, tile in found["tiles"].items()
        }
        return {**found, "tiles": tiles}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {"tiles": {}}
