"""A folder of arbitrary images, to be cut into masks without a benchmark."""

import os
from pathlib import Path

from mgcl.imagefile import SUFFIXES


def find_images(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """All images below a folder, by their path in it without the suffix, sorted.

    Raises:
        ValueError: no folder, no image in it, two images of one name ("a.png", "a.tif"), or a name
            that does not print.
    """
    root = Path(folder)
    paths = [p for p in sorted(root.rglob("*")) if p.suffix.lower() in SUFFIXES and p.is_file()]
    if not paths:
        raise ValueError(f"no images ({' '.join(SUFFIXES)}) in {root}")
    images: dict[str, Path] = {}
    for path in paths:
        key = path.relative_to(root).with_suffix("").as_posix()
        if not key.isprintable():
            raise ValueError(f"{str(path)!r} has a name that does not print: rename it")
        if key in images:
            raise ValueError(f"{images[key]} and {path} would share one mask map: rename one")
        images[key] = path
    return images
