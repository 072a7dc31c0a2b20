"""Which of the files below a folder are images: the one search of all programs."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mgcl.images.read import SUFFIXES

# Besides hidden ones: what macOS and network drives put beside pictures, thumbnails among them.
_BESIDES = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found")


class Found(NamedTuple):
    """What lies below a folder."""

    images: list[Path]
    """Files with an image's suffix, sorted."""
    others: list[Path]
    """Other files, and hidden ones (._a.png)."""
    passed_over: list[str]
    """In words, what a user may miss: links to nowhere, folders that cannot be read."""


def find_files(
    folder: str | os.PathLike[str], *, skip: Callable[[Path], bool] = lambda folder: False
) -> Found:
    """All files below a folder; links are followed, each folder is visited once.

    Args:
        folder: where to look; without one, or without files in it, nothing is found.
        skip: says of a folder that it holds no pictures, though it may hold PNGs (mask maps).
    """
    found = Found([], [], [])
    _visit(Path(folder), found, skip, {os.path.realpath(folder)})
    found.images.sort()
    found.others.sort()
    return found


def find_images(
    folder: str | os.PathLike[str],
    *,
    skip: Callable[[Path], bool] = lambda folder: False,
    tell: Callable[[str], object] = lambda words: None,
) -> dict[str, Path]:
    """All images below a folder, by their path in it without the suffix, sorted.

    Args:
        folder: where to look.
        skip: as of `find_files`.
        tell: gets in words what was passed over.

    Raises:
        ValueError: no folder, no image in it, two images of one name ("a.png", "a.tif"), or a name
            that does not print.
    """
    root = Path(folder)
    found = find_files(root, skip=skip)
    if not found.images:
        why = "; ".join(["", *found.passed_over[:3]])
        raise ValueError(f"no images ({' '.join(SUFFIXES)}) in {root.absolute()}{why}")
    for words in found.passed_over:
        tell(words)
    images: dict[str, Path] = {}
    for path in found.images:
        key = path.relative_to(root).with_suffix("").as_posix()
        if not key.isprintable():
            raise ValueError(f"{str(path)!r} has a name that does not print: rename it")
        if key in images:
            raise ValueError(f"{images[key]} and {path} would share one mask map: rename one")
        images[key] = path
    return images


def _visit(folder: Path, found: Found, skip: Callable[[Path], bool], visited: set[str]) -> None:
    if skip(folder):
        found.passed_over.append(f"{folder} holds mask maps, which are no pictures")
        return
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        found.passed_over.append(f"{folder} cannot be read: {error.strerror}")
        return
    for entry in inside:
        path, hidden = folder / entry.name, _is_hidden(entry.name)
        if entry.is_dir():
            real = os.path.realpath(path)
            if not hidden and real in visited:
                found.passed_over.append(f"{path} leads to {real}, which was searched already")
            elif not hidden:
                visited.add(real)
                _visit(path, found, skip, visited)
        elif entry.is_file():
            image = path.suffix.lower() in SUFFIXES and not hidden
            (found.images if image else found.others).append(path)
        elif entry.is_symlink() and not hidden:
            found.passed_over.append(f"{path} is a link to nothing ({os.readlink(path)})")


def _is_hidden(name: str) -> bool:
    """As macOS, notebooks and editors leave: ._P0001.png, .ipynb_checkpoints."""
    return name.startswith(".") or name in _BESIDES
