"""What `mgcl.predict` reads: queries, labels, mask maps."""

import glob
import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from mgcl.images.find import find_files
from mgcl.images.read import SUFFIXES, UnreadableImage, image_size, read_image
from mgcl.masks.store import MaskStore, is_store
from mgcl.predict.foreground import read_foreground
from mgcl.predict.predictor import Prediction, Predictor
from mgcl.predict.results import KINDS, OVERVIEW


def find_queries(words: Iterable[str], *, results: Path) -> dict[str, Path]:
    """Images by the name of their results, which no two share.

    A name is the path below the folder that was given, or the file's own, without suffix; where
    that is taken, with the suffix, or a number.

    Args:
        words: files, folders (searched below) and patterns.
        results: folder that results are written to; those of an earlier run are no queries.

    Raises:
        ValueError: a word names no image.
    """
    made = [(results / name).resolve() for name in (*KINDS, OVERVIEW)]
    queries: dict[str, Path] = {}
    seen: set[Path] = set()
    taken: set[str] = set()
    for word in words:
        root = Path(word)
        found = [root] if root.is_file() else _search(word, made)
        if not found:
            raise ValueError(f"--query {word}: no image there ({' '.join(SUFFIXES)})")
        for path in found:
            if path not in seen:
                seen.add(path)
                name = path.relative_to(root) if root.is_dir() else Path(path.name)
                queries[_free_name(name, taken)] = path
    return queries


def _search(word: str, made: Sequence[Path]) -> list[Path]:
    """Images below a folder, or of a pattern, but those that an earlier run made."""
    folder = Path(word)
    if folder.is_dir():
        paths = find_files(folder, skip=is_store).images
    else:
        paths = sorted(map(Path, glob.glob(word, recursive=True)))
        paths = [p for p in paths if p.suffix.lower() in SUFFIXES and p.is_file()]
    return [p for p in paths if not any(p.resolve().is_relative_to(place) for place in made)]


def _free_name(path: Path, taken: set[str]) -> str:
    """A name for a file's results; letters of either case are one, as some file systems have it."""
    plain = path.with_suffix("").as_posix()
    numbered = (f"{plain}_{number}" for number in itertools.count(2))
    for name in itertools.chain((plain, f"{plain}_{path.suffix[1:]}"), numbered):
        if name.lower() not in taken:
            break
    taken.add(name.lower())
    return name


class StoredMaps:
    """Mask maps made beforehand, found by the images' names."""

    def __init__(self, folder: Path) -> None:
        """Open a folder that main_0_extract_masks.py wrote.

        Raises:
            ValueError: it is none.
        """
        if not folder.is_dir():
            raise ValueError(f"--masks {folder}: neither a generator of masks nor a folder of them")
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


def set_support(
    predictor: Predictor,
    pairs: Sequence[tuple[Path, Path]],
    label_id: int | str | None,
    maps: StoredMaps | None,
) -> None:
    """Give the predictor the supports in pairs of files, image and label."""
    predictor.set_support(
        [read_image(image) for image, _ in pairs],
        [read_foreground(label, label_id) for _, label in pairs],
        [maps.load(image) for image, _ in pairs] if maps else None,
    )


def count_windows(predictor: Predictor, paths: Iterable[Path]) -> int:
    """Windows that the images take; of an unreadable one none, it is named when its turn comes."""
    total = 0
    for path in paths:
        with suppress(UnreadableImage):
            total += predictor.count_windows(*image_size(path))
    return total


def predict_file(
    predictor: Predictor,
    path: Path,
    maps: StoredMaps | None,
    on_windows: Callable[[int], object],
) -> tuple[np.ndarray, Prediction]:
    """Segment an image file: the image and what is found.

    Raises:
        ValueError: image or mask map cannot be read; the message names the image.
    """
    image = read_image(path)
    try:
        mask_map = maps.load(path) if maps else None
        return image, predictor.predict(image, mask_map, on_windows=on_windows)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
