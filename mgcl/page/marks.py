"""What is marked in pictures: a plane of ids each, changed by patches that can be undone.

A pixel is 0 (not marked), the number of its class, or that number + `NOT`: not this class.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from mgcl.images.write import write_png

NOT = 100  # added to a class's number
MOST_CLASSES = 99


class Patch(NamedTuple):
    """A rectangle of a picture's marks before and after a change."""

    key: str
    corner: tuple[int, int]
    before: np.ndarray
    after: np.ndarray


class Marks:
    """The planes of all marked pictures, on disk as soon as they change."""

    def __init__(self, folder: Path) -> None:
        """Marks lie below `folder` as PNGs, named like the pictures; read when asked for."""
        self.folder = folder
        self._planes: dict[str, np.ndarray] = {}

    def path(self, key: str) -> Path:
        """File of a picture's marks, there or not."""
        return self.folder / f"{key}.png"

    def found(self) -> list[str]:
        """Pictures that have a file of marks."""
        found = sorted(self.folder.rglob("*.png"))
        return [
            path.relative_to(self.folder).as_posix().removesuffix(".png")
            for path in found
            if not path.name.startswith(".")
        ]

    def plane(self, key: str, size: tuple[int, int] | None = None) -> np.ndarray | None:
        """(H, W) uint8 of a picture, not to be written to; zeros or None where nothing is marked.

        Raises:
            ValueError: the file is damaged, or of another size.
        """
        if key not in self._planes and self.path(key).exists():
            self._planes[key] = _read(self.path(key))
        found = self._planes.get(key)
        if size is not None and found is not None and found.shape != size:
            raise ValueError(
                f"{self.path(key)} has marks of {found.shape[1]} x {found.shape[0]} pixels, the "
                f"picture {size[1]} x {size[0]}: it was changed; move the marks away"
            )
        return np.zeros(size, np.uint8) if found is None and size is not None else found

    def change(
        self,
        key: str,
        size: tuple[int, int],
        corner: tuple[int, int],
        where: np.ndarray,
        value: int | Callable[[np.ndarray], np.ndarray],
    ) -> Patch | None:
        """Set pixels, and save; None where that changes nothing.

        Args:
            key: of the picture.
            size: (H, W) of the picture.
            corner: (y, x) in the picture of `where`, which may reach over its border.
            where: (h, w) bool.
            value: new ids, or what makes them of the old.
        """
        y, x = corner
        top, left = max(0, y), max(0, x)
        inside = where[top - y : size[0] - y, left - x : size[1] - x]
        if not inside.any():
            return None
        plane = self.plane(key, size)
        assert plane is not None
        before = plane[top : top + inside.shape[0], left : left + inside.shape[1]].copy()
        new = value(before) if callable(value) else np.uint8(value)
        after = np.where(inside, new, before).astype(np.uint8)
        if (after == before).all():
            return None
        patch = Patch(key, (top, left), before, after)
        self.apply([patch], size)
        return patch

    def apply(
        self, patches: list[Patch], size: tuple[int, int] | None = None, *, back: bool = False
    ) -> None:
        """Do patches, or undo them, and save."""
        for patch in reversed(patches) if back else patches:
            found = self.plane(patch.key, size)
            assert found is not None
            plane, (y, x) = found.copy(), patch.corner
            new = patch.before if back else patch.after
            plane[y : y + new.shape[0], x : x + new.shape[1]] = new
            write_png(self.path(patch.key), plane, level=1)
            self._planes[patch.key] = plane


def ids_of(plane: np.ndarray) -> list[int]:
    """What values (H, W) uint8 holds."""
    counts = cv2.calcHist([plane], [0], None, [256], [0, 256])
    return np.flatnonzero(counts).tolist()


def _read(path: Path) -> np.ndarray:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.mode != "L":
                raise ValueError(f"mode {image.mode}, not 8-bit grey")
            return np.array(image)
    except Exception as error:  # Pillow's parsers raise anything on damaged bytes
        raise ValueError(f"{path} holds no marks ({error}): move it away") from None
