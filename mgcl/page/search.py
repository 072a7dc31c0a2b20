"""Finding the marked classes in all pictures, in a thread of its own, again after every mark.

What a class's supports find in a picture is kept as a map of levels, so that a threshold only
compares. The pictures that are looked at come first.
"""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mgcl import console
from mgcl.images.base import Raster
from mgcl.page.encoder import Encoder
from mgcl.page.kept import KeptMaps, digest
from mgcl.page.pictures import Picture
from mgcl.page.project import Project
from mgcl.page.rounds import BATCH, Round, Rounds
from mgcl.page.tally import Tally, count_objects, surely, tally

Planes = tuple[np.ndarray, np.ndarray]
"""Number of the likeliest class and its level, (h, w) uint8 each."""


class Status(NamedTuple):
    """How far everything is."""

    encoded: int
    pictures: int
    share: float
    """Of all windows, those that are encoded; that of the pictures, while these are searched."""
    searched: int
    """Pictures that the supports of now have searched."""
    searching: bool
    changes: int
    """Grows with every result."""
    first: float
    """Seconds from the last mark to the first result; 0 before."""
    whole: float
    """Seconds to the last."""
    said: list[str]


class Search:
    """The thread, what it made, and what it is told."""

    def __init__(
        self, project: Project, encoder: Encoder, cache: Path, window: Callable[[Raster], int]
    ) -> None:
        """Start nothing yet.

        Args:
            project: whose supports are searched by.
            encoder: of the pictures that are searched.
            cache: folder for the maps.
            window: side of a support's window.
        """
        self.project, self.encoder, self.pictures = project, encoder, encoder.pictures
        self.kept = KeptMaps(cache)
        self.tallies: list[Tally | None] = [None] * len(self.pictures.items)
        self.said: list[str] = []
        """What of the marks could not be used, and what went wrong."""
        self.rounds = Rounds(encoder, window)
        self._rounds: dict[int, Round] = {}  # by class
        self._before: dict[int, str] = {}  # what found the maps before the last change
        self._encoded: set[int] = set()
        self._broken: set[int] = set()
        self._versions = [0] * len(self.pictures.all)
        self._settled: dict[int, tuple[str, ...]] = {}  # by which maps a picture was counted
        self._looked: list[int] = []
        self._wake = threading.Condition()
        self._asked, self._answered, self._stopped = 1, 0, False
        self._began = self._first = self._whole = 0.0
        self._changes = 0
        self._thread = threading.Thread(target=self._run, name="search", daemon=True)

    # ---- called by other threads

    def start(self) -> None:
        """Begin to encode, and to search by what is marked."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, within a batch."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join()

    def ask(self) -> None:
        """The marks or classes have changed."""
        with self._wake:
            self._asked += 1
            self._began, self._first, self._whole = time.monotonic(), 0.0, 0.0
            self._wake.notify()

    def look_at(self, pictures: Sequence[int]) -> None:
        """Take these first from now on."""
        self._looked = [n for n in dict.fromkeys(pictures) if 0 <= n < len(self.pictures.all)]

    def status(self) -> Status:
        """How far everything is."""
        made = self.made_by()
        searched = sum(by == made for by in list(self._settled.values())) if made else 0
        waits = self._answered != self._asked or self._next() is not None
        return Status(
            len(self._encoded),
            len(self.pictures.all),
            self._share(searched, waits),
            searched,
            waits,
            self._changes,
            self._first,
            self._whole,
            self.said,
        )

    def made_by(self) -> tuple[str, ...]:
        """Names the maps of all classes: changes with their supports."""
        return tuple(one.made_by for _, one in sorted(self._rounds.items()))

    def rounds_of(self) -> dict[int, Round]:
        """What each class is searched by."""
        return dict(self._rounds)

    def numbers(self) -> list[int]:
        """Of the classes that are searched."""
        return sorted(self._rounds)

    def versions(self) -> list[int]:
        """How often the result of each picture has changed."""
        return self._versions

    def is_searched(self, picture: Picture) -> bool:
        """Whether the supports of now have searched a picture."""
        return self._settled.get(picture.number) == self.made_by()

    def _share(self, searched: int, waits: bool) -> float:
        if waits and self._encoded:
            return (searched + self.rounds.part) / len(self._encoded)
        return self.encoder.share()

    def wait(self, seconds: float) -> bool:
        """Whether everything is done within some seconds: for tests."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._idle():
                return True
            time.sleep(0.02)
        return False

    def planes(
        self,
        picture: Picture,
        z: int = 0,
        part: tuple[slice, slice] = (slice(None), slice(None)),
        *,
        before: bool = False,
    ) -> Planes:
        """What is found in a picture, 2^z times smaller; zeros where it was not searched yet.

        Args:
            picture: whose.
            z: level.
            part: rows and columns of that level.
            before: as it was found before the last change.
        """
        made = {number: one.made_by for number, one in self._rounds.items()}
        if before:
            made = {n: self._before.get(n, by) for n, by in made.items()}
        best = level = None
        for number, by in sorted(made.items()):
            found = self._level(by, picture, z, part)
            if found is None:
                continue
            if best is None or level is None:
                best, level = np.full(found.shape, number, np.uint8), found
            else:
                best = np.where(found > level, np.uint8(number), best)
                level = np.maximum(found, level)
        if best is None or level is None:
            height, width = (
                len(range(-(-n // (1 << z)))[p]) for n, p in zip(picture.size, part, strict=True)
            )
            return np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
        return best, level

    def objects(self, threshold: float, stop: Callable[[], bool]) -> dict[int, int] | None:
        """Objects of each class in all pictures; None where it was stopped."""
        counts: dict[int, int] = {}
        for number in list(self._settled):
            if stop():
                return None
            found = count_objects(*self.planes(self.pictures.all[number]), threshold)
            for c, count in found.items():
                counts[c] = counts.get(c, 0) + count
        return counts

    # ---- the thread

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._stopped and self._idle():
                    self._wake.wait()
                if self._stopped:
                    return
            try:
                with torch.inference_mode():
                    self._step()
            except Exception as error:  # whatever it is: the page goes on, and says so
                console.warn(f"the search stopped: {error!r}")
                self.said = [f"the search stopped: {error}"]
                with self._wake:
                    if self._answered == self._asked:
                        self._wake.wait()

    def _idle(self) -> bool:
        all_encoded = len(self._encoded) == len(self.pictures.all)
        return self._answered == self._asked and all_encoded and self._next() is None

    def _changed(self) -> bool:
        return self._answered != self._asked or self._stopped

    def _step(self) -> None:
        """The most urgent piece of work."""
        if self._changed():
            asked = self._asked
            self._learn()
            self._answered = asked
            return
        chosen = self._next()
        if chosen is not None:
            self._search(chosen)
            if self._next() is None and not self._changed() and self._began:
                self._whole = time.monotonic() - self._began
                self._began = 0.0
            return
        waiting = itertools.chain(self._looked, range(len(self.pictures.all)))
        number = next(n for n in waiting if n not in self._encoded)
        picture = self.pictures.all[number]
        try:
            if self.encoder.encode(picture, self._changed):
                self._encoded.add(number)
        except (ValueError, OSError) as error:
            self.pictures.problems[picture.key] = str(error)
            self._encoded.add(number)
            self._broken.add(number)
        self._changes += 1

    def _learn(self) -> None:
        """Cut the supports of all classes; those of another name have changed."""
        rounds, said = {}, []
        given = self.project.supports()
        for c, made in zip(self.project.classes, given.classes, strict=True):
            if made.supports:
                try:
                    rounds[c.number] = self.rounds.cut(made)
                except (ValueError, OSError) as error:
                    said.append(f"{c.name}: {error}")
        old = {number: one.made_by for number, one in self._rounds.items()}
        new = {number: one.made_by for number, one in rounds.items()}
        if old != new:
            self._before = old
        self._rounds, self.said = rounds, said
        self.kept.drop_old([*old.values(), *new.values()])
        self._changes += 1

    def _next(self) -> list[int] | None:
        """Encoded pictures that were not searched yet: a batch of small ones, or a large one."""
        made, chosen = self.made_by(), list[int]()
        for number in dict.fromkeys((*self._looked, *self._encoded)):
            there = number in self._encoded and number not in self._broken
            if not there or self._settled.get(number, ()) == made:
                continue
            if max(self.pictures.all[number].size) > self.encoder.window:
                return chosen or [number]
            chosen.append(number)
            if len(chosen) == BATCH:
                break
        return chosen or None

    def _search(self, numbers: Sequence[int]) -> None:
        """Find every class in some pictures."""
        pictures = [self.pictures.all[n] for n in numbers]
        made = self.made_by()
        for one in self._rounds.values():
            missing = [p for p in pictures if not self.kept.has(one.made_by, _name(p))]
            if not missing:
                continue
            for picture, levels in self.rounds.find(one, missing, self._changed):
                self.kept.keep(one.made_by, _name(picture), levels)
            if self._changed():
                return
        for picture in pictures:
            self._count(picture)
            self._settled[picture.number] = made
            self._versions[picture.number] += 1
        if self._began and not self._first:
            self._first = time.monotonic() - self._began
        self._changes += 1

    def _level(
        self, made_by: str, picture: Picture, z: int, part: tuple[slice, slice]
    ) -> np.ndarray | None:
        try:
            return np.asarray(self.kept.load(made_by, _name(picture), picture.size, z)[part])
        except (OSError, ValueError):
            return None

    def _count(self, picture: Picture) -> None:
        """What is found in each of its items."""
        rounds = dict(self._rounds)
        for item in self.pictures.items_of(picture):
            part = slice(item.y, item.y + item.height), slice(item.x, item.x + item.width)
            score = {}
            for number, one in rounds.items():
                found = self._level(one.made_by, picture, 0, part)
                score[number] = 0.0 if found is None else surely(found)
            before = self.planes(picture, 0, part, before=True) if self._before else None
            now = self.planes(picture, 0, part)
            self.tallies[item.number] = tally(
                sorted(rounds), now, before, self.project.threshold, score
            )


def _name(picture: Picture) -> str:
    return digest(picture.key, picture.stamp)
