"""A look at mask maps: `python -m mgcl.visualize.masks STORE --images FOLDER --to FOLDER`.

Writes an overlay of each chosen image (masks in colours with outlines, their number, the coverage)
and a summary of the whole store: masks an image, coverage, and the sizes of masks as a plot.
"""

import sys

from mgcl import console

if __name__ == "__main__":  # before the imports that take a second
    sys.exit(console.run("mgcl.visualize.masks"))

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mgcl.files import atomic_write, write_json
from mgcl.images.find import find_images
from mgcl.images.read import read_image
from mgcl.images.write import write_png
from mgcl.masks.store import MaskStore, MaskStoreError, is_store
from mgcl.visualize.overlays import enlarge, mask_overlay

_SHOWN = 6  # overlays where no key is named
_SIDE = 512  # long side of an image in an overlay, pixels


class MapFacts(NamedTuple):
    """What one mask map holds."""

    masks: int
    coverage: float
    """Share of the pixels that lie in a mask."""
    shares: np.ndarray
    """Visible size of each mask, as a share of the image."""


def facts(mask_map: np.ndarray) -> MapFacts:
    """Count, coverage and sizes of a map (H, W)."""
    areas = np.bincount(mask_map.ravel(), minlength=1)
    visible = areas[1:][areas[1:] > 0]
    return MapFacts(len(visible), 1 - areas[0] / mask_map.size, visible / mask_map.size)


def overlay(image: np.ndarray, mask_map: np.ndarray, key: str) -> np.ndarray:
    """Image and its masks side by side, with a line of words above, (H', W', 3) uint8."""
    if image.shape[:2] != mask_map.shape:
        raise MaskStoreError(f"mask map of {key} is {mask_map.shape}, its image {image.shape[:2]}")
    plain, numbers = enlarge(image, smooth=True, side=_SIDE), enlarge(mask_map, side=_SIDE)
    pair = np.hstack([plain, mask_overlay(plain, numbers)])
    paper = Image.fromarray(np.pad(pair, ((28, 0), (0, 0), (0, 0)), constant_values=255))
    found = facts(mask_map)
    words = f"{key}: {found.masks} masks, {found.coverage:.0%} covered"
    ImageDraw.Draw(paper).text((8, 6), words, fill=(28, 30, 34), font_size=14)
    return np.asarray(paper)


def summarise(store: MaskStore, keys: Sequence[str], folder: Path) -> str:
    """Write summary.json and summary.png (three histograms); return the summary in words."""
    found = [facts(store.load(key)) for key in console.progress(keys, unit="map", desc="summary")]
    counts = np.array([f.masks for f in found])
    coverage = np.array([f.coverage for f in found])
    shares = np.concatenate([f.shares for f in found])
    numbers = {
        "images": len(found),
        "images_without_masks": int((counts == 0).sum()),
        "masks_an_image": _spread(counts),
        "coverage": _spread(coverage),
        "size_share": _spread(shares) if len(shares) else None,
        "generator": store.spec,
    }
    write_json(folder / "summary.json", numbers)
    _plot(folder / "summary.png", counts, coverage, shares)
    return (
        f"{len(found)} images, {numbers['images_without_masks']} without masks; "
        f"masks an image {np.median(counts):.0f} (median, {counts.min()} to {counts.max()}); "
        f"coverage {np.median(coverage):.0%} (median, {coverage.min():.0%} to {coverage.max():.0%})"
    )


def _spread(values: np.ndarray) -> dict[str, float]:
    quantiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    return dict(
        zip(["min", "quarter", "median", "three_quarters", "max"], quantiles.tolist(), strict=True)
    )


def _plot(path: Path, counts: np.ndarray, coverage: np.ndarray, shares: np.ndarray) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    left.hist(counts, bins=np.linspace(-0.5, 128.5, 44), color="#3a6ea5")
    left.set(xlabel="masks", ylabel="images", title="Masks an image")
    middle.hist(coverage, bins=np.linspace(0, 1, 26), color="#3a6ea5")
    middle.set(xlabel="share of pixels in a mask", ylabel="images", title="Coverage")
    right.hist(shares, bins=np.logspace(-5, 0, 31), color="#3a6ea5")
    right.set(xlabel="share of the image", ylabel="masks", title="Visible size of masks")
    right.set_xscale("log")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0, or 1 where there is nothing to show."""
    parser = argparse.ArgumentParser(
        prog=console.called("python -m mgcl.visualize.masks"), description=__doc__
    )
    parser.add_argument("store", type=Path, help="folder of mask maps")
    parser.add_argument("keys", nargs="*", help=f"images to show (left out: {_SHOWN} of them)")
    parser.add_argument("--images", type=Path, help="folder with the images, searched below")
    parser.add_argument("--to", type=Path, default=Path("runs/masks"), help="folder to write into")
    console.add_quiet(parser)
    words = parser.parse_args(argv)
    console.set_quiet(words.quiet)
    try:
        store = MaskStore(words.store)
        keys = store.keys()
        if not keys:
            raise MaskStoreError(f"no mask maps in {words.store.absolute()}")
        console.say(summarise(store, keys, words.to))
        if words.images:
            chosen = words.keys or keys[:: max(1, len(keys) // _SHOWN)][:_SHOWN]
            _write_overlays(store, chosen, find_images(words.images, skip=is_store), words.to)
    except ValueError as error:
        console.fail(error)
        return console.WRONG
    console.say(f"written to {words.to}")
    return 0


def _write_overlays(
    store: MaskStore, keys: Sequence[str], images: dict[str, Path], folder: Path
) -> None:
    for key in keys:
        picture = overlay(read_image(_image_of(key, images)), store.load(key), key)
        write_png(folder / f"{key.replace('/', '_')}.png", picture)


def _image_of(key: str, images: dict[str, Path]) -> Path:
    """The image whose path ends as the key does ("train/P1" may lie in "train/images/P1.png")."""
    parts = key.split("/")
    for name, path in images.items():
        found = name.split("/")
        label = any(folder in ("semantic_png", "Labels") for folder in found)
        if found[-1] == parts[-1] and found[: len(parts) - 1] == parts[:-1] and not label:
            return path
    raise MaskStoreError(f"no image for {key} in the folder given with --images")
