"""What a user has told the page: classes, marks, threshold; kept on disk as it happens.

    PROJECT/project.toml    classes and supports, as `mgcl.predict --supports` reads them
    PROJECT/labels/*.png    the marks of each picture, see `mgcl.page.marks`

The labels are written first. Killed in between, the next start finds them and writes the rest.
"""

import threading
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mgcl.files import lock, read_text, remove_leftovers, write_text
from mgcl.page.marks import MOST_CLASSES, NOT, Marks, Patch, ids_of
from mgcl.predict.maps import colour_of
from mgcl.predict.supports import ClassOf, Given, Supports, write_supports

FILE, LABELS = "project.toml", "labels"
UNDONE = 200  # changes that can be undone


class Class(NamedTuple):
    """A class that is searched."""

    number: int
    """Its id in the marks, from 1."""
    name: str
    colour: str
    """#rrggbb"""
    threshold: float | None = None
    """Kept for `mgcl.predict`; the page has one for all."""


class Change(NamedTuple):
    """What one action of the user did; undone and done again as one."""

    patches: list[Patch]
    before: list[Class]
    after: list[Class]


class Project:
    """Classes and marks of a folder of pictures. All methods may be called from any thread."""

    def __init__(self, folder: Path, paths: Mapping[str, Path], constants: dict[str, Any]) -> None:
        """Open or start a project; until `close` no other process can.

        Args:
            folder: of the project.
            paths: of the pictures, by key; without one no folder is made.
            constants: options of `mgcl.predict` that are kept with the supports.

        Raises:
            ValueError: another page has it open, or its file is damaged.
            PermissionError: `folder` cannot be written to.
        """
        self.folder, self.paths = folder, paths
        self._held = lock(folder / ".lock") if paths or folder.exists() else None
        self.lock = threading.RLock()
        remove_leftovers(folder)
        self.marks = Marks(folder / LABELS)
        self.classes: list[Class] = []
        self.threshold = 0.5
        self.constants = constants
        self._undone: list[Change] = []
        self._done: list[Change] = []
        self._marked: dict[str, set[int]] = {}  # ids in each picture's marks
        self.revision = 0
        """Grows with every change of marks or classes."""
        self.said: list[str] = []
        """What of the saved project could not be used."""
        self._load()

    def close(self) -> None:
        """Let other processes open it."""
        if self._held:
            self._held.release()

    def _load(self) -> None:
        path = self.folder / FILE
        if path.exists():
            try:
                known = Supports(**tomllib.loads(read_text(path)))
            except ValueError as error:  # tomllib's and pydantic's, too
                raise ValueError(f"{path} is no project of the page: {error}") from None
            self.classes = [
                Class(c.label_id or n, c.name, c.colour or _hex(n), c.threshold)
                for n, c in enumerate(known.classes, start=1)
            ]
            self.threshold = float(known.constants.get("threshold", self.threshold))
        for key in self.marks.found():
            if key not in self.paths:
                self.said.append(f"{self.marks.path(key)}: marks of a picture that is not here")
                continue
            try:
                self._marked[key] = self._ids(key)
            except ValueError as error:
                self.said.append(str(error))
        numbers = {c.number for c in self.classes}
        for number in sorted({i % NOT for ids in self._marked.values() for i in ids} - numbers):
            self.classes.append(Class(number, f"class {number}", _hex(number)))
        if self.classes:
            self.save()

    def _ids(self, key: str) -> set[int]:
        plane = self.marks.plane(key)
        return set() if plane is None else set(ids_of(plane)) - {0}

    def save(self) -> None:
        """Write the file of the project."""
        write_supports(self.folder / FILE, self.supports())

    def supports(self) -> Supports:
        """All classes with what is marked, as `mgcl.predict` takes them; the empty ones, too."""
        with self.lock:
            classes = []
            for c in self.classes:
                supports, negatives = (
                    [
                        Given(image=self.paths[key], label=self.marks.path(key), label_id=number)
                        for key, ids in sorted(self._marked.items())
                        if number in ids
                    ]
                    for number in (c.number, c.number + NOT)
                )
                classes.append(
                    ClassOf(
                        name=c.name,
                        colour=c.colour,
                        label_id=c.number,
                        threshold=c.threshold,
                        supports=supports,
                        negatives=negatives,
                    )
                )
            constants = self.constants | {"threshold": round(self.threshold, 4)}
            return Supports(classes=classes, constants=constants)

    def counts(self) -> dict[int, tuple[int, int]]:
        """Pictures in which each class is marked, and in which "not this class" is."""
        with self.lock:
            ids = self._marked.values()
            return {
                c.number: (sum(c.number in i for i in ids), sum(c.number + NOT in i for i in ids))
                for c in self.classes
            }

    def marked(self) -> dict[str, list[int]]:
        """Ids in the marks of each picture that has some."""
        with self.lock:
            return {key: sorted(ids) for key, ids in self._marked.items() if ids}

    # ---- classes

    def add_class(self, name: str, colour: str | None = None) -> Class:
        """A further class.

        Raises:
            ValueError: no name, one that is taken, or too many classes.
        """
        with self.lock:
            number = min(set(range(1, MOST_CLASSES + 2)) - {c.number for c in self.classes})
            if number > MOST_CLASSES:
                raise ValueError(f"there may be {MOST_CLASSES} classes")
            made = Class(number, self._free(name), colour or _hex(number))
            self._do(Change([], self.classes, [*self.classes, made]))
            return made

    def edit_class(
        self, number: int, *, name: str | None = None, colour: str | None = None
    ) -> None:
        """Another name or colour.

        Raises:
            ValueError: no such class, or a name that is taken.
        """
        with self.lock:
            old = self.class_of(number)
            new = old._replace(
                name=old.name if name is None else self._free(name, but=number),
                colour=colour or old.colour,
            )
            after = [new if c.number == number else c for c in self.classes]
            self._do(Change([], self.classes, after))

    def remove_class(self, number: int) -> None:
        """Take a class away with all its marks.

        Raises:
            ValueError: no such class.
        """
        with self.lock:
            self.class_of(number)
            gone = (number, number + NOT)
            patches = []
            for key, ids in self._marked.items():
                plane = self.marks.plane(key)
                if plane is not None and ids & set(gone):
                    left = np.where(np.isin(plane, gone), 0, plane).astype(np.uint8)
                    patches.append(Patch(key, (0, 0), plane, left))
            self.marks.apply(patches)
            after = [c for c in self.classes if c.number != number]
            self._do(Change(patches, self.classes, after))

    def class_of(self, number: int) -> Class:
        """The class of a number.

        Raises:
            ValueError: there is none.
        """
        for c in self.classes:
            if c.number == number:
                return c
        raise ValueError(f"there is no class {number}")

    def _free(self, name: str, but: int = 0) -> str:
        name = " ".join(name.split())[:60]
        taken = [c.name.casefold() for c in self.classes if c.number != but]
        if not name or not name.isprintable():
            raise ValueError("a class needs a name")
        if name.casefold() in taken:
            raise ValueError(f"there is a class {name} already")
        return name

    # ---- marks

    def mark(
        self,
        key: str,
        size: tuple[int, int],
        corner: tuple[int, int],
        where: np.ndarray,
        value: int | Callable[[np.ndarray], np.ndarray],
    ) -> bool:
        """Mark pixels of a picture, see `Marks.change`; whether that changed anything."""
        with self.lock:
            patch = self.marks.change(key, size, corner, where, value)
            if patch is not None:
                self._do(Change([patch], self.classes, self.classes))
            return patch is not None

    def undo(self) -> list[str] | None:
        """Take back the last change; the pictures whose marks changed, None if there is none."""
        return self._step(self._done, self._undone, back=True)

    def redo(self) -> list[str] | None:
        """Do again what was undone last, as `undo`."""
        return self._step(self._undone, self._done, back=False)

    def _step(self, taken: list[Change], given: list[Change], *, back: bool) -> list[str] | None:
        with self.lock:
            if not taken:
                return None
            change = taken.pop()
            given.append(change)
            self.marks.apply(change.patches, back=back)
            return self._settle(change, change.before if back else change.after)

    @property
    def undoable(self) -> tuple[int, int]:
        """Changes that can be undone, and done again."""
        return len(self._done), len(self._undone)

    def set_threshold(self, threshold: float) -> None:
        """Foreground is over this.

        Raises:
            ValueError: not between 0 and 1.
        """
        if not 0 < threshold < 1:
            raise ValueError(f"a threshold of {threshold}: need one between 0 and 1")
        with self.lock:
            self.threshold = threshold
            self.save()

    def _do(self, change: Change) -> None:
        self._done = [*self._done, change][-UNDONE:]
        self._undone = []
        self._settle(change, change.after)

    def _settle(self, change: Change, classes: list[Class]) -> list[str]:
        self.classes = classes
        self.revision += 1
        keys = list({patch.key for patch in change.patches})
        for key in keys:
            self._marked[key] = self._ids(key)
        self.save()
        return keys


def _hex(number: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour_of(number))


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written to, before anything is marked.

    Raises:
        PermissionError: so it is; the message says what to do.
    """
    try:
        write_text(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        raise PermissionError(
            f"{folder.absolute()} cannot be written to ({error.strerror}), and marks are kept "
            "there: give another place with --project DIR"
        ) from None
