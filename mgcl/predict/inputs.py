"""What `mgcl.predict` reads: queries, labels, mask maps."""

import glob
import itertools
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from mgcl.files import read_text
from mgcl.images.find import find_files
from mgcl.images.read import SUFFIXES
from mgcl.masks.store import MaskStore, is_store
from mgcl.predict.results import KINDS, OVERVIEW, WORK, is_result

LABEL_FOLDERS = ("labels", "masks", "label", "mask", "annotations")
LABEL_ENDINGS = ("_label", "_mask", "_labels", "-label", "-mask")


def find_queries(
    words: Iterable[str], *, results: Path, labels: Collection[Path] = ()
) -> dict[str, Path]:
    """Images by the name of their results, which no two share.

    A name is the path below the folder that was given, or the file's own, without suffix; where
    that is taken, with the suffix, or a number.

    Args:
        words: files, folders (searched below), patterns, and text files that hold a path a line.
        results: folder that results are written to; those of an earlier run are no queries.
        labels: files that are labels; neither they nor, in folders, what is named like a label of
            another image (in a folder `labels` or `masks`, or NAME_label.png) are queries.

    Raises:
        ValueError: a word names no image.
    """
    made = [(results / name).resolve() for name in (*KINDS, OVERVIEW, WORK)]
    known = {path.resolve() for path in labels}
    queries: dict[str, Path] = {}
    seen: set[Path] = set()
    taken: set[str] = set()
    for word in _lines(words):
        root = Path(word)
        found = [root] if root.is_file() else _search(word, made, known)
        if not found:
            raise ValueError(
                f"--query {word}: no image there ({' '.join(SUFFIXES)}; looked in "
                f"{root.absolute()})"
            )
        for path in found:
            if path not in seen:
                seen.add(path)
                name = path.relative_to(root) if root.is_dir() else Path(path.name)
                queries[free_name(name, taken)] = path
    return queries


def _lines(words: Iterable[str]) -> Iterable[str]:
    """The words, and the lines of those that are text files; their paths may start there."""
    for word in words:
        file = Path(word)
        if file.suffix.lower() != ".txt" or not file.is_file():
            yield word
            continue
        for line in map(str.strip, read_text(file).splitlines()):
            if line and not line.startswith("#"):
                below = file.parent / line
                yield line if Path(line).exists() or not below.exists() else str(below)


def _search(word: str, made: Sequence[Path], labels: Collection[Path]) -> list[Path]:
    """Images below a folder, or of a pattern, but labels and those that earlier runs made."""
    folder = Path(word)
    if folder.is_dir():
        paths = find_files(folder, skip=lambda inner: is_made(inner, folder)).images
        paths = [p for p in paths if not _is_label(p, folder, {q.stem for q in paths})]
    else:
        fixed = itertools.takewhile(lambda part: not glob.has_magic(part), folder.parts)
        folder = Path(*fixed)
        paths = sorted(map(Path, glob.glob(word, recursive=True)))
        paths = [p for p in paths if p.suffix.lower() in SUFFIXES and p.is_file()]
        inner = {q for p in paths for q in p.parents if q != folder and q.is_relative_to(folder)}
        within = {q for q in inner if is_made(q, folder)}
        paths = [p for p in paths if within.isdisjoint(p.parents)]
    paths = [p for p in paths if p.resolve() not in labels and not is_result(p)]
    return [p for p in paths if not any(p.resolve().is_relative_to(place) for place in made)]


def is_made(folder: Path, root: Path) -> bool:
    """Whether a folder below the root holds mask maps or results."""
    return is_store(folder) or (folder != root and is_result(folder))


def _is_label(path: Path, root: Path, stems: Collection[str]) -> bool:
    """Whether a file is named like the label of another image below the folder."""
    folders = path.relative_to(root).parts[:-1]
    beside = any(
        path.stem.endswith(e) and path.stem.removesuffix(e) in stems for e in LABEL_ENDINGS
    )
    return beside or any(part.casefold() in LABEL_FOLDERS for part in folders)


def free_name(path: Path, taken: set[str]) -> str:
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
