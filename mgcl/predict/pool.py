"""A folder helps itself: what is surely found in a run's queries has a say in the rest.

A first look, at windows side by side, takes in those that show each class most surely, with what
was found there. They are supports that nobody gave: they may only say that another window does not
show the class after all (`Voters.cap`), as maps that learn from their own finds are no better for
it. How many, how sure and how they count was chosen on held-out classes (docs/predict.md).
"""

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mgcl.files import atomic_write
from mgcl.images import windows
from mgcl.images.base import Raster
from mgcl.images.raster import open_raster
from mgcl.images.resize import resize_image, resize_nearest
from mgcl.model.network import logit
from mgcl.predict.cutting import Corner
from mgcl.predict.finder import Finder
from mgcl.predict.inputs import StoredMaps
from mgcl.predict.memory import check_memory
from mgcl.predict.results import WORK, Results
from mgcl.predict.support import Example, make_mask_maps

MOST = 5  # windows of a class that are taken in
SURE = 0.3  # of the windows that show a class, the share that is as sure
CLEAR = 0.5  # log-odds over the threshold from which a pixel counts as the class
PAUSE = 0.2  # seconds between two looks for what the first part took in
SHARE = 0.05  # of a window's pixels, the likeliest, whose mean is over the threshold


class Taken(NamedTuple):
    """A window that a class was surely found in."""

    query: str
    corner: Corner
    """(y, x) of its first pixel."""
    presence: float
    """Log-odds that it shows the class."""
    example: Example
    """At the network's resolution; what is neither surely the class nor surely not is 255."""


class Look:
    """The first look at all queries."""

    def __init__(
        self,
        finder: Finder,
        window: Callable[[Raster], int],
        thresholds: Sequence[float],
        *,
        known: Collection[Path] = (),
        bands: tuple[int, ...] | None = None,
        maps: StoredMaps | None = None,
        on_windows: Callable[[int], object] = lambda count: None,
    ) -> None:
        """Nothing is computed yet; arguments as those of `Run`.

        Args:
            finder: with the supports.
            window: side of a window in an image, pixels.
            thresholds: of the classes.
            known: images of the supports: one of a single window has nothing more to say.
            bands: of the images.
            maps: mask maps made beforehand.
            on_windows: called with numbers of windows as they are finished.

        Raises:
            ValueError: the network does not tell whether a class is there.
        """
        if not finder.model.pools or finder.model.tells() is None:
            raise ValueError(
                "--pool: this network does not tell whether a class is there, so that nothing is "
                "surely found: leave --checkpoint out, the matcher does"
            )
        self.finder, self.window, self.thresholds = finder, window, thresholds
        self.bands, self.maps, self.on_windows = bands, maps, on_windows
        self.known = {path.resolve() for path in known}

    def all(self, queries: Mapping[str, Path]) -> dict[str, list[Taken]]:
        """The surest windows of each class, the surest first; of equals those that come first."""
        best: dict[str, list[Taken]] = {name: [] for name in self.finder.names}
        for name, path in queries.items():
            try:
                for chosen in self._one(name, path):
                    for of_class, taken in chosen.items():
                        ranked = sorted([*best[of_class], *taken], key=lambda t: -t.presence)
                        best[of_class] = ranked[:MOST]
            except (ValueError, OSError):
                continue  # it is named when its turn comes
        return best

    def _one(self, name: str, path: Path) -> Iterator[dict[str, list[Taken]]]:
        """What each batch of windows of a query offers."""
        with open_raster(path, self.bands) as raster:
            side = self.window(raster)
            check_memory(self.finder, raster, side)
            if path.resolve() in self.known and max(raster.height, raster.width) <= side:
                return
            whole = self.maps.load(path) if self.maps else None
            tops, lefts = (windows.starts(n, side, 0) for n in (raster.height, raster.width))
            places = list(product(tops, lefts))
            for first in range(0, len(places), self.finder.batch_size):
                corners = places[first : first + self.finder.batch_size]
                parts = [_read(raster, corner, side) for corner in corners]
                if whole is None:
                    made = make_mask_maps(self.finder.mask_generator, parts)
                else:
                    made = [windows.cut(whole, y, x, side) for y, x in corners]
                yield self._surest(name, corners, parts, made)
                self.on_windows(len(corners))

    def _surest(
        self,
        name: str,
        corners: Sequence[Corner],
        parts: list[np.ndarray],
        maps: list[np.ndarray],
    ) -> dict[str, list[Taken]]:
        size = self.finder.image_size
        answers = self.finder.answers(self.finder.encode(parts, maps), size, presence=True)
        found: dict[str, list[Taken]] = {}
        pairs = zip(self.finder.names, answers, self.thresholds, strict=True)
        for of_class, (margins, presence), threshold in pairs:
            assert presence is not None
            over = margins[:, 0] - logit(threshold)  # (B, S, S)
            likeliest = over.flatten(1).topk(max(1, round(SHARE * size**2)), dim=1).values
            sure = presence > self.finder.least(of_class, SURE)
            for i in (sure & (likeliest.mean(dim=1) > 0)).nonzero()[:, 0].tolist():
                label = np.full((size, size), 255, np.uint8)
                label[(over[i] < 0).cpu().numpy()] = 0
                label[(over[i] > CLEAR).cpu().numpy()] = 1
                shown = resize_image(parts[i], size), label, resize_nearest(maps[i], size)
                taken = Taken(name, corners[i], float(presence[i]), Example(*shown))
                found.setdefault(of_class, []).append(taken)
        return found


def _read(raster: Raster, corner: Corner, side: int) -> np.ndarray:
    y, x = corner
    inside = min(side, raster.height - y), min(side, raster.width - x)
    return windows.cut(raster.read((y, x, *inside)), 0, 0, side)


def choose(
    results: Results,
    facts: dict[str, Any],
    queries: Mapping[str, Path],
    look: Look,
    share: tuple[int, int],
    *,
    apart: bool,
) -> tuple[dict[str, list[Taken]], int]:
    """What all parts of a run take in; `facts` get to know of it, and the results are begun.

    The first part looks; a run that goes on, and the other parts, find what it took in on disk.

    Args:
        results: not yet begun.
        facts: what makes them, so far.
        queries: of all parts.
        look: with the supports.
        share: (i, n): this process makes the i-th of n parts.
        apart: the parts were started one by one: none waits for another.

    Returns:
        the windows of each class, and how many queries' results were deleted.

    Raises:
        ValueError: nobody has looked yet, and it is not up to this part.
    """
    path, key = results.folder / WORK / "pool.npz", _key(facts, queries)
    first = share[0] == 0
    pool = _load(path, key)
    while pool is None and not first and not apart:  # where the first part fails, torchrun ends all
        time.sleep(PAUSE)
        pool = _load(path, key)
    if pool is None and not first:
        raise ValueError(
            f"--pool: nobody has looked at all images yet: start --shard 0/{share[1]} first, and "
            "the others once it says what it takes in"
        )
    pool = look.all(queries) if pool is None else pool
    facts["pool"] = {
        name: [
            {"source": "pool", "query": t.query, "corner": t.corner, "presence": t.presence}
            for t in taken
        ]
        for name, taken in pool.items()
    }
    deleted = results.begin(facts)
    if first:
        _save(path, key, pool)
    return pool, deleted


def said(pool: Mapping[str, Sequence[Taken]]) -> Iterator[str]:
    """What was taken in, a line a class."""
    for name, taken in pool.items():
        places = ", ".join(f"{t.query} at {t.corner[1]}, {t.corner[0]}" for t in taken)
        windows_of = f"{len(taken)} window{'s' * (len(taken) != 1)} of the images: {places}"
        yield f"{name}: surely in {windows_of if taken else 'none of the images'}"


def _key(facts: Mapping[str, Any], queries: Mapping[str, Path]) -> str:
    """What a pool depends on: all that makes the results, and the queries as they are now."""
    stamps = []
    for name, path in queries.items():
        there = path.stat() if path.exists() else None
        stamps.append([name, there and [there.st_size, there.st_mtime_ns]])
    return hashlib.sha256(json.dumps([facts, stamps], sort_keys=True).encode()).hexdigest()


def _save(path: Path, key: str, pool: Mapping[str, Sequence[Taken]]) -> None:
    """Keep what was taken in, so that a run that goes on, or its other parts, need not look."""
    held = [(name, taken) for name, several in pool.items() for taken in several]
    rows = [[name, t.query, t.corner, t.presence] for name, t in held]
    arrays = {f"{i}_{k}": a for i, (_, t) in enumerate(held) for k, a in enumerate(t.example)}
    text = json.dumps({"key": key, "classes": list(pool), "rows": rows})
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, about=np.frombuffer(text.encode(), np.uint8), **arrays)  # type: ignore[arg-type]


def _load(path: Path, key: str) -> dict[str, list[Taken]] | None:
    """What was taken in; None where that is not known, or was something else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            if about["key"] != key:
                return None
            pool: dict[str, list[Taken]] = {name: [] for name in about["classes"]}
            for i, (name, query, (y, x), presence) in enumerate(about["rows"]):
                example = Example(*(file[f"{i}_{k}"] for k in range(3)))
                pool[name].append(Taken(query, (y, x), presence, example))
            return pool
    except (OSError, ValueError, KeyError):
        return None
