"""All that a page stands on, put together: pictures, project, network, search, masks."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mgcl import console
from mgcl.page.encoder import Encoder
from mgcl.page.export import EXPORT, export
from mgcl.page.kept import highest
from mgcl.page.marks import NOT
from mgcl.page.pictures import TILE, Picture, Pictures
from mgcl.page.project import Project, check_writable
from mgcl.page.regions import Regions
from mgcl.page.search import Search
from mgcl.predict.inputs import StoredMaps
from mgcl.predict.load import load_network
from mgcl.predict.options import GENERATORS
from mgcl.predict.scale import Scale


class Session:
    """An open project. All methods may be called from any thread."""

    def __init__(
        self,
        root: Path,
        *,
        project: Path | None = None,
        checkpoint: Path | None = None,
        config: Path | None = None,
        masks: str = "",
        window: int = 256,
        overlap: float = 0.25,
        bands: Sequence[int] | None = None,
        device: str = "auto",
    ) -> None:
        """Open pictures and project, load the network; the search is not started.

        Args:
            root: a folder of pictures, or one picture.
            project: folder for all that is written; None: beside the pictures.
            checkpoint: weights; None: the matcher.
            config: constants for weights that hold none.
            masks: kind of masks, or a folder of mask maps; empty: as in training, or superpixels.
            window: side of a window in the pictures, pixels.
            overlap: least share of it that the next one covers again.
            bands: of the pictures.
            device: auto, cuda or cpu.

        Raises:
            ValueError: something cannot be used, such as a file that is no picture; the message
                says what to do.
            PermissionError: the project's folder cannot be written to.
        """
        if not root.exists():
            raise ValueError(f"{root.absolute()}: there is no such folder or picture")
        self.root, self.folder = root, project or default_project(root)
        cache = self.folder / ".cache"
        self.pictures = Pictures(root, cache, bands=bands)
        if self.pictures.all:
            check_writable(self.folder)
        elif root.is_file():
            problem = self.pictures.problems.get(root.name, "no picture")
            raise ValueError(problem if str(root) in problem else f"{root}: {problem}")
        maps = None if masks in GENERATORS else StoredMaps(Path(masks))
        constants: dict[str, Any] = {"window": window, "overlap": overlap}
        if masks:
            constants["masks"] = masks if maps is None else str(Path(masks).absolute())
        paths = {p.key: p.path.absolute() for p in self.pictures.all}
        self.project = Project(self.folder.absolute(), paths, constants)
        self.by_key = {p.key: p for p in self.pictures.all}
        kind = "none" if maps else masks
        self.loaded = load_network(checkpoint, config=config, masks=kind, device=device)
        self.network = str(checkpoint) if checkpoint else "matcher"
        how: dict[str, Any] = {"window": window, "overlap": overlap, "maps": maps}
        self.encoder = Encoder(self.pictures, self.loaded, folder=cache / "features", **how)
        scale = Scale(window, None, lambda words: None)
        self.search = Search(self.project, self.encoder, cache / "maps", scale.support)
        self.regions = Regions(self.pictures, self.loaded.mask_generator, maps, window)
        self.exported: dict[str, Any] = {"running": False, "done": 0, "words": [], "folder": ""}
        self._counted = 0

    def close(self) -> None:
        """End the search, and let other processes open the project."""
        self.search.stop()
        self.project.close()

    def picture(self, number: int) -> Picture:
        """A picture by its number.

        Raises:
            ValueError: there is none.
        """
        if not 0 <= number < len(self.pictures.all):
            raise ValueError(f"there is no picture {number}")
        return self.pictures.all[number]

    # ---- marking

    def click(self, picture: Picture, y: int, x: int, level: int, value: int) -> bool:
        """Mark the mask under a place, or take it away where it is marked so; whether it did."""
        corner, where = self.regions.region(picture, y, x, level)
        plane = self.project.marks.plane(picture.key, picture.size)
        assert plane is not None
        if plane[y, x] == value:
            return self._mark(
                picture, corner, where, lambda old: np.where(old == value, 0, old).astype(np.uint8)
            )
        return self._mark(picture, corner, where, value)

    def stroke(
        self, picture: Picture, points: Sequence[Sequence[float]], radius: float, value: int
    ) -> bool:
        """Paint a line through points (x, y) in pixels; 0 erases."""
        xy = np.array(points, float).reshape(-1, 2).clip(-1e5, 1e5)
        if not len(xy) or not 0.3 <= radius <= 500:
            raise ValueError("a stroke has points, and a radius from 0.3 to 500 pixels")
        low = np.floor(xy.min(axis=0) - radius - 1).clip(0).astype(int)
        high = np.ceil(xy.max(axis=0) + radius + 2).astype(int)
        high = np.minimum(high, (picture.width, picture.height))
        if (high <= low).any():
            return False
        where = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        places = np.round((xy - low) * 16).astype(np.int32)  # in sixteenths of a pixel
        for start, end in zip(places[:-1], places[1:], strict=True):
            cv2.line(where, start.tolist(), end.tolist(), 1, max(1, round(2 * radius)), shift=4)
        for place in places[[0, -1]]:
            cv2.circle(where, place.tolist(), round(radius * 16), 1, -1, shift=4)
        return self._mark(picture, (int(low[1]), int(low[0])), where > 0, value)

    def _mark(
        self, picture: Picture, corner: tuple[int, int], where: np.ndarray, value: Any
    ) -> bool:
        changed = self.project.mark(picture.key, picture.size, corner, where, value)
        if changed:
            self.search.ask()
        return changed

    def value(self, number: int, against: bool) -> int:
        """What a mark of a class, or of "not this class", is stored as.

        Raises:
            ValueError: there is no such class.
        """
        return self.project.class_of(number).number + (NOT if against else 0)

    # ---- looking

    def planes(
        self, picture: Picture, z: int, row: int, column: int, *, before: bool
    ) -> np.ndarray:
        """A tile: (3 or 5, h, w) uint8, class, level, marks, and class and level before."""
        part = tuple(slice(n * TILE, (n + 1) * TILE) for n in (row, column))
        now = self.search.planes(picture, z, (part[0], part[1]))
        planes = [*now, self._marks(picture, z, (part[0], part[1]), now[0].shape)]
        if before:
            planes += self.search.planes(picture, z, (part[0], part[1]), before=True)
        return np.stack(planes)

    def _marks(
        self, picture: Picture, z: int, part: tuple[slice, slice], shape: tuple[int, ...]
    ) -> np.ndarray:
        plane = self.project.marks.plane(picture.key)
        if plane is None:
            return np.zeros(shape, np.uint8)
        rows, columns = (
            slice((p.start or 0) << z, (p.stop << z) if p.stop else None) for p in part
        )
        return highest(plane[rows, columns], z)

    def item_planes(self, number: int, side: int) -> np.ndarray:
        """An item of the gallery, (3, h, w) as `planes`, of at most about `side` pixels."""
        item = self.pictures.items[number]
        picture = self.picture(item.picture)
        z = 0
        while max(item.height, item.width) >> z > side and z + 1 < picture.levels:
            z += 1
        part = (
            slice(item.y >> z, -(-(item.y + item.height) >> z)),
            slice(item.x >> z, -(-(item.x + item.width) >> z)),
        )
        now = self.search.planes(picture, z, part)
        return np.stack([*now, self._marks(picture, z, part, now[0].shape)])

    # ---- results

    def objects(self, threshold: float) -> dict[int, int] | None:
        """Objects of each class at a threshold; None where a later question came in between."""
        self._counted = mine = self._counted + 1
        return self.search.objects(threshold, lambda: self._counted != mine)

    def begin_export(self, on_done: Callable[[], object] = lambda: None) -> bool:
        """Write all results in a thread of its own; False while that goes on already."""
        if self.exported["running"]:
            return False
        self.exported = {"running": True, "done": 0, "words": [], "folder": ""}

        def write() -> None:
            state, folder = self.exported, self.folder / EXPORT
            try:
                began = time.monotonic()
                words = export(self, folder, lambda count: state.update(done=count))
                console.say(f"exported in {time.monotonic() - began:.1f} s: {folder}")
                state.update(folder=str(folder.absolute()), words=words)
            except (ValueError, OSError) as error:
                state.update(words=[str(error)])
            finally:
                state.update(running=False)
                on_done()

        threading.Thread(target=write, name="export", daemon=True).start()
        return True


def default_project(root: Path) -> Path:
    """The folder of a project where none is given: in the folder, or beside the one picture."""
    root = root.absolute()
    return root / "mgcl-page" if root.is_dir() else root.parent / f"mgcl-page-{root.stem}"
