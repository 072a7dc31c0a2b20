"""All queries of a run, one after the other or shared by several processes."""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mgcl import console
from mgcl.files import DiskFullError, writing_in
from mgcl.images.base import Raster
from mgcl.images.raster import open_raster
from mgcl.images.read import image_size
from mgcl.predict.bands import IN_MEMORY, BandStore, finish, make_bands
from mgcl.predict.finder import Finder
from mgcl.predict.inputs import StoredMaps
from mgcl.predict.memory import check_memory
from mgcl.predict.results import Results
from mgcl.predict.scene import Style, paths_of, quick_look, step_of, write_results
from mgcl.predict.summary import sentence, thumbnail
from mgcl.predict.vectors import Grid

SMALL = 1 << 20  # pixels of a query beside which others are under way
AT_ONCE = 4  # of these: while one is compared, others are read, cut into masks and written
Share = tuple[float, float]  # of the rows of windows, from one to another
Begun = tuple[str, Path, Callable[[], str | None]]  # a query, and what gives its outcome


class Outcome(NamedTuple):
    """How a run ended."""

    failed: list[str]
    """Queries that could not be read or written; each was named."""
    waiting: int
    """Queries of which other processes have to make some bands."""


class Run:
    """What all queries share."""

    def __init__(
        self,
        finder: Finder,
        results: Results,
        style: Style,
        *,
        window: Callable[[Raster], int],
        keep_present: float | None = None,
        bands: tuple[int, ...] | None = None,
        maps: StoredMaps | None = None,
        share: tuple[int, int] = (0, 1),
        on_windows: Callable[[int], object] = lambda count: None,
    ) -> None:
        """Nothing is computed yet.

        Args:
            finder: with its supports.
            results: which were begun.
            style: what is written.
            window: side of a window in an image, pixels.
            keep_present: see `Finder.bands`.
            bands: of the images.
            maps: mask maps made beforehand.
            share: (i, n): this process makes the i-th of n parts of all bands.
            on_windows: called with numbers of windows as they are finished.
        """
        self.finder, self.results, self.style = finder, results, style
        self.window, self.bands, self.maps = window, bands, maps
        self.share, self.on_windows, self.keep_present = share, on_windows, keep_present
        self._writing = threading.Lock()  # what writes vectors changes which warnings are heard

    def all(self, queries: Mapping[str, Path]) -> Outcome:
        """Segment and write every query; one that cannot be read or written is named."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                return self._outcome(self._under_way(pool, queries))
            except BaseException:
                with self.finder.turns.stopped():
                    pool.shutdown(cancel_futures=True)
                raise

    def _outcome(self, under_way: Iterator[Begun]) -> Outcome:
        failed, waiting = [], 0
        for name, path, outcome in under_way:
            try:
                said = outcome()
            except DiskFullError:
                raise
            except (ValueError, OSError) as error:
                named = str(path) in str(error)
                console.warn(f"left out: {'' if named else f'{path}: '}{error}")
                failed.append(name)
            else:
                waiting += said is None
                if said:
                    console.say(said)
        return Outcome(failed, waiting)

    def _under_way(self, pool: ThreadPoolExecutor, queries: Mapping[str, Path]) -> Iterator[Begun]:
        """Queries in their order and what gives their outcome; small ones begin ahead of it."""
        begun: deque[Begun] = deque()
        for name, path, part in _shares(queries, *self.share):
            one = partial(self._one, name, path, part)
            small = 0 < _pixels(path) <= SMALL
            begun.append((name, path, pool.submit(one).result if small else one))
            if len(begun) > AT_ONCE:
                yield begun.popleft()
        yield from begun

    def _one(self, name: str, path: Path, part: Share) -> str | None:
        """What is to be said of a query whose results are written; None: others have a part."""
        facts = {"image": str(path.absolute()), **_stamp(path), "run": self.results.digest}
        known = self.results.record(name)
        if known and known["facts"] == facts:
            return ""
        with writing_in(self.results.folder), open_raster(path, self.bands) as raster:
            window = self.window(raster)
            check_memory(self.finder, raster, window)
            rows = len(self.finder.grid(raster.height, raster.width, window)[0])
            small = raster.height * raster.width <= IN_MEMORY and self.share[1] == 1
            store = BandStore(None if small else self.results.work(name), {**facts, "rows": rows})
            mine = range(round(part[0] * rows), round(part[1] * rows))
            make_bands(
                self.finder,
                raster,
                store,
                mine,
                window=window,
                thresholds=self.style.thresholds,
                step=step_of(raster.height, raster.width),
                keep_all=self.style.found_probabilities,
                keep_present=self.keep_present,
                mask_map=self.maps.load(path) if self.maps else None,
                on_windows=self.on_windows,
            )
            if len(mine) < rows and store.missing(range(rows)):
                return None
            facts |= {"window": window}
            with self._writing:
                said = write_query(self.results, self.style, name, raster, store, rows, facts)
        store.remove()
        return said


def write_query(
    results: Results,
    style: Style,
    name: str,
    raster: Raster,
    store: BandStore,
    rows: int,
    facts: dict[str, Any],
) -> str:
    """Write all results of a query whose bands are finished; what is to be said of them.

    Args:
        results: which were begun.
        style: what is written.
        name: of the query.
        raster: the query.
        store: with the bands of all `rows`.
        rows: of windows.
        facts: what the results depend on; the side of a window among them.
    """
    grid = Grid(raster.height, raster.width, raster.crs, raster.transform)
    files = paths_of(results.folder, name, grid, style)
    written = write_results(store, rows, grid, files, style, window=facts["window"])
    parts = finish(store, rows, grid.width, style.vote_share, style.thresholds)
    tile = thumbnail(*quick_look(parts, grid), style.colours)
    record = {
        "name": name,
        "image": str(raster.path),
        "window": facts.pop("window"),
        "facts": facts,
        "size": [raster.height, raster.width],
        "placed": grid.placed,
        "unit": written.tally.unit,
        "objects": written.tally.objects,
        "area": written.tally.area,
        "files": {k: f.relative_to(results.folder).as_posix() for k, f in written.files.items()},
    }
    results.finish(name, record, tile)
    return sentence(record)


def _stamp(path: Path) -> dict[str, int]:
    facts = path.stat()
    return {"bytes": facts.st_size, "time": facts.st_mtime_ns}


def _shares(
    queries: Mapping[str, Path], number: int, processes: int
) -> Iterator[tuple[str, Path, Share]]:
    """Queries of which a process has to do a part."""
    if processes == 1:
        yield from ((name, path, (0.0, 1.0)) for name, path in queries.items())
        return
    pixels = [max(1, _pixels(path)) for path in queries.values()]
    ends = list(itertools.accumulate(pixels))
    mine = [ends[-1] * i / processes for i in (number, number + 1)]
    for (name, path), size, end in zip(queries.items(), pixels, ends, strict=True):
        first, last = (min(1.0, max(0.0, 1 - (end - at) / size)) for at in mine)
        if last > first:
            yield name, path, (first, last)


def _pixels(path: Path) -> int:
    """0 where nobody knows."""
    try:
        height, width = image_size(path)
    except (ValueError, OSError):  # it is named when its turn comes
        return 0
    return height * width
