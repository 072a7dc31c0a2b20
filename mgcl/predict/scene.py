"""From the finished bands of a picture to its results: map, probabilities, objects, quick-look."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mgcl.images.write import write_png
from mgcl.predict.bands import NO_DATA, BandStore, Finished, finish
from mgcl.predict.layers import SUFFIXES, Tally, write_layer
from mgcl.predict.maps import (
    NO_LEVEL,
    Colour,
    write_class_map,
    write_class_picture,
    write_probability_map,
)
from mgcl.predict.objects import find_objects, rows_of_block
from mgcl.predict.vectors import Grid
from mgcl.visualize.overlays import outlined

LARGEST_PICTURE = 1 << 25  # pixels of an overlay; of larger images every so many one is shown
LARGEST_PNG = 1 << 27  # pixels; larger class maps are TIFFs whether they have a place or not


class Style(NamedTuple):
    """What is written of each query."""

    names: list[str]
    """Of the classes."""
    colours: list[Colour]
    probabilities: bool = False
    objects: str = ""
    """gpkg, geojson or none; empty: GeoPackage on earth, GeoJSON in pixels."""
    smooth: bool = False
    min_area: float = 0.0
    min_score: float = 0.0
    vote_share: float = 0.4
    thresholds: tuple[float, ...] = ()
    """Of the classes: a support votes where its probability is over this."""
    speck: float = 0.0
    """Side of the smallest object that counts, as a share of a window, unless `min_area` says."""

    @property
    def found_probabilities(self) -> bool:
        """Whether the bands must keep the probabilities of all classes."""
        return self.probabilities and len(self.names) > 1


class Written(NamedTuple):
    """What there is of a query when it is done."""

    files: dict[str, Path]
    """By kind: masks, overlays, probabilities, objects."""
    tally: Tally


def step_of(height: int, width: int) -> int:
    """Every so many pixels one is shown in the overlay."""
    return max(1, math.ceil(math.sqrt(height * width / LARGEST_PICTURE)))


def paths_of(folder: Path, name: str, grid: Grid, style: Style) -> dict[str, Path]:
    """Where the results of a query lie, by kind."""
    on_map = grid.placed or grid.height * grid.width > LARGEST_PNG
    picture = ".tif" if on_map else ".png"
    layer = style.objects or ("gpkg" if grid.placed else "geojson")
    files = {"masks": picture, "overlays": ".png"}
    if style.probabilities:
        files["probabilities"] = ".tif" if on_map or len(style.names) > 1 else ".png"
    if layer != "none":
        files["objects"] = SUFFIXES[layer]
    return {kind: folder / kind / f"{name}{suffix}" for kind, suffix in files.items()}


def write_results(
    store: BandStore,
    rows: int,
    grid: Grid,
    files: dict[str, Path],
    style: Style,
    *,
    window: int = 0,
) -> Written:
    """Write all results of a picture whose bands are finished; they are read once for each.

    Args:
        store: with the bands of all `rows` of windows.
        rows: of windows.
        grid: of the picture.
        files: of `paths_of`.
        style: what is written.
        window: side of a window in the picture, pixels.
    """

    def results() -> Iterator[Finished]:
        return finish(store, rows, grid.width, style.vote_share, style.thresholds)

    if files["masks"].suffix == ".tif":
        classes = (part.classes for part in results())
        write_class_map(files["masks"], classes, grid, style.names, style.colours)
    else:
        whole = np.concatenate([part.classes for part in results()])
        write_class_picture(files["masks"], whole, style.colours)
    if "probabilities" in files:
        _write_probabilities(files["probabilities"], results(), grid, style)
    _write_overlay(files["overlays"], results(), grid, style)
    tally = Tally("pixels")
    if "objects" in files:
        speck = int((style.speck * window) ** 2)
        tally = _write_objects(files["objects"], results(), grid, style, max(1, speck))
    return Written(files, tally)


def _write_probabilities(path: Path, results: Iterator[Finished], grid: Grid, style: Style) -> None:
    blocks = (
        (part.level[None] if part.levels is None else part.levels, part.valid) for part in results
    )
    if path.suffix == ".png":
        write_png(path, np.concatenate([levels[0] for levels, _ in blocks]))
        return
    masked = (
        np.where(valid, np.minimum(levels, NO_LEVEL - 1), NO_LEVEL).astype(np.uint16)
        for levels, valid in blocks
    )
    write_probability_map(path, masked, grid, style.names)


def _write_objects(
    path: Path, results: Iterator[Finished], grid: Grid, style: Style, least: int
) -> Tally:
    objects = find_objects(_blocks(results, rows_of_block(grid.width)), min_pixels=least)
    scored = (found for found in objects if found.score >= style.min_score)
    return write_layer(
        path, scored, style.names, grid, smoothed=style.smooth, min_area=style.min_area
    )


def _blocks(results: Iterator[Finished], rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Bands joined to about `rows` rows: classes, none where there are no data, and scores."""
    held: list[tuple[np.ndarray, np.ndarray]] = []
    for part in results:
        classes = np.where(part.classes == NO_DATA, 0, part.classes)
        held.append((classes, part.level / np.float32(65535)))
        if sum(len(c) for c, _ in held) >= rows:
            yield np.concatenate([c for c, _ in held]), np.concatenate([s for _, s in held])
            held = []
    if held:
        yield np.concatenate([c for c, _ in held]), np.concatenate([s for _, s in held])


def _write_overlay(path: Path, results: Iterator[Finished], grid: Grid, style: Style) -> None:
    """The picture, or some of its pixels, with every class tinted and outlined."""
    picture, classes = quick_look(results, grid)
    for number, colour in enumerate(style.colours, start=1):
        picture = outlined(picture, (classes == number).astype(np.uint8), colour)
    write_png(path, picture, level=1)


def quick_look(results: Iterator[Finished], grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """A picture at the overlay's size, and its classes: of the pixels that one stands for, any.

    Returns:
        (h, w, 3) and (h, w) uint8.
    """
    step = step_of(grid.height, grid.width)
    classes = np.zeros((-(-grid.height // step), -(-grid.width // step)), np.uint8)
    looks, top = [], 0
    for part in results:
        looks.append(part.look)
        found = np.where(part.classes == NO_DATA, 0, part.classes)
        found = np.maximum.reduceat(found, np.arange(0, grid.width, step), axis=1)
        into = (top + np.arange(len(found))) // step
        begins = np.flatnonzero(np.diff(into, prepend=-1))
        highest = np.maximum.reduceat(found, begins, axis=0)
        classes[into[begins]] = np.maximum(classes[into[begins]], highest)
        top += len(found)
    return np.concatenate(looks), classes
