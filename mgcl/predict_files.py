"""The files of `mgcl.predict`: which images, their labels and mask maps, and where results go."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mgcl.datasets.images import read_values
from mgcl.imagefile import SUFFIXES
from mgcl.masks.store import MaskStore
from mgcl.paint import PREDICTED, outlined
from mgcl.predictor import Prediction
from mgcl.visualize import write_png


def find_queries(words: Iterable[str], *, outside: Path) -> dict[str, Path]:
    """Images by the name of their results, which no two share.

    A name is the path below the folder that was given, or the file's own, without suffix; where
    that is taken, with the suffix, or a number.

    Args:
        words: files, folders (searched below) and patterns.
        outside: folder whose files are no queries: where results are written to.

    Raises:
        ValueError: a word names no image.
    """
    queries: dict[str, Path] = {}
    for word in words:
        root, found = Path(word), [Path(word)]
        if root.is_dir():
            found = sorted(root.rglob("*"))
        elif not root.exists():
            found = [Path(path) for path in sorted(glob.glob(word, recursive=True))]
        if not root.is_file():
            found = [p for p in found if p.suffix.lower() in SUFFIXES and p.is_file()]
            found = [p for p in found if outside.resolve() not in p.resolve().parents]
        if not found:
            raise ValueError(f"--query {word}: no image there ({' '.join(SUFFIXES)})")
        for path in found:
            if path not in queries.values():
                name = path.relative_to(root) if root.is_dir() else Path(path.name)
                queries[_free_name(name, queries)] = path
    return queries


def _free_name(path: Path, taken: Iterable[str]) -> str:
    """A name for a file's results; letters of either case are one, as some file systems have it."""
    lower = {name.lower() for name in taken}
    plain = path.with_suffix("").as_posix()
    names = [plain, f"{plain}_{path.suffix[1:]}"] + [
        f"{plain}_{n}" for n in range(2, 3 + len(lower))
    ]
    return next(name for name in names if name.lower() not in lower)


def read_foreground(path: str | os.PathLike[str], label_id: int | str | None = None) -> np.ndarray:
    """A label file as (H, W) uint8: 1 = the class, 0 = anything else, 255 = ignored.

    Args:
        path: PNG of ids (grey or palette) or of colours.
        label_id: an id, beside which 255 is ignored, or a colour "#00007f"; None takes all that is
            not 0 (black), 255 too.

    Raises:
        ValueError: a file that cannot be read, or that holds no ids where one is asked for.
    """
    if isinstance(label_id, str):
        wanted = int(label_id.removeprefix("#"), 16)
        return (read_values(path, colours=True) == wanted).astype(np.uint8)
    if label_id is not None:
        values = read_values(path, colours=False)
        return np.where(values == label_id, 1, np.where(values == 255, 255, 0)).astype(np.uint8)
    try:
        values = read_values(path, colours=False)
    except ValueError:  # no ids: colours
        values = read_values(path, colours=True)
    return (values != 0).astype(np.uint8)


class Results(NamedTuple):
    """Where the results of one query go: NAME.png in a folder for each kind."""

    folder: Path
    name: str
    probabilities: bool

    def paths(self) -> dict[str, Path]:
        """Every file that is written, by kind."""
        kinds = ["masks", "overlays"] + ["probabilities"] * self.probabilities
        return {kind: self.folder / kind / f"{self.name}.png" for kind in kinds}

    def write(self, image: np.ndarray, prediction: Prediction) -> None:
        """Mask 0 / 255 (8 bits), overlay (RGB), probability * 65535 (16 bits)."""
        paths = self.paths()
        write_png(paths["masks"], 255 * prediction.mask)
        write_png(paths["overlays"], outlined(image, prediction.mask, PREDICTED))
        if self.probabilities:
            levels = np.round(prediction.probability * 65535).astype(np.uint16)
            write_png(paths["probabilities"], levels)


def refuse_overwriting(results: Iterable[Results], inputs: Iterable[Path]) -> None:
    """Results replace earlier results, but no image or label that is read.

    Raises:
        ValueError: a result would have the path of an input.
    """
    read = {path.resolve() for path in inputs}
    for result in results:
        for path in result.paths().values():
            if path.resolve() in read:
                raise ValueError(f"{path} is an input and would be overwritten: give another --to")


class StoredMaps:
    """Mask maps made beforehand, found by the images' names."""

    def __init__(self, folder: Path) -> None:
        """Open a folder that main_0_extract_masks.py wrote.

        Raises:
            MaskStoreError: it is none.
        """
        self.store = MaskStore(folder)
        self.keys = self.store.keys()

    def load(self, image: Path) -> np.ndarray:
        """The (H, W) map of an image file; folders in its key must be folders of the image, too.

        Raises:
            ValueError: there is none, or more than one of that name.
        """
        fitting = []
        for key in self.keys:
            *folders, name = key.split("/")
            if name == image.stem and set(folders) <= set(image.absolute().parts):
                fitting.append(key)
        if len(fitting) != 1:
            raise ValueError(
                f"{len(fitting)} mask maps of the name {image.stem} in {self.store.root}, need one"
            )
        return self.store.load(fitting[0])
