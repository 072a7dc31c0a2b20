"""Finished bands of a picture, kept on disk until its results are whole.

A band is what a row of windows finishes. Each is a file of its own with checksums, so that a run
that was killed goes on behind its last band, and several processes work on one picture.
"""

import json
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mgcl.files import atomic_write, read_text, write_json
from mgcl.model.network import votes_needed
from mgcl.predict.finder import Band, Finder, Source
from mgcl.predict.votes import Votes, count_votes, decide

IN_MEMORY = 1 << 24  # pixels of pictures whose bands are not worth a file
NO_DATA = 255
_FACTS = "facts.json"


class BandStore:
    """Bands by the number of their row of windows."""

    def __init__(self, folder: Path | None, facts: Mapping[str, Any]) -> None:
        """Open a folder, or keep everything in memory.

        Args:
            folder: None: in memory. One that holds bands of other facts is emptied.
            facts: all that the bands depend on, as JSON values.
        """
        self.folder = folder
        self._held: dict[int, dict[str, np.ndarray]] = {}
        if folder is not None and not _same(folder / _FACTS, facts):
            shutil.rmtree(folder, ignore_errors=True)
            write_json(folder / _FACTS, facts)

    def missing(self, rows: Iterable[int]) -> list[int]:
        """Those rows whose band is not there, or not whole."""
        return [row for row in rows if row not in self._held and not self._whole(row)]

    def write(self, row: int, **arrays: np.ndarray) -> None:
        """Keep a band."""
        if self.folder is None:
            self._held[row] = arrays
            return
        with (
            atomic_write(self._path(row)) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        ):
            for name, array in arrays.items():
                with file.open(name, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.ascontiguousarray(array))

    def read(self, row: int, *names: str) -> dict[str, np.ndarray]:
        """Arrays of a band; those of the names that it has.

        Raises:
            ValueError: it is damaged.
        """
        if self.folder is None:
            return {n: a for n, a in self._held[row].items() if n in names}
        try:
            with zipfile.ZipFile(self._path(row)) as file:
                held = set(file.namelist())
                return {n: _read_array(file, n) for n in names if n in held}
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise ValueError(f"{self._path(row)} is damaged ({error}): start again") from None

    def remove(self) -> None:
        """Delete all bands."""
        self._held.clear()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, row: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{row:06d}.band"

    def _whole(self, row: int) -> bool:
        if self.folder is None or not self._path(row).exists():
            return False
        try:
            with zipfile.ZipFile(self._path(row)) as file:
                return file.testzip() is None
        except (zipfile.BadZipFile, OSError, EOFError):
            return False


def _same(path: Path, facts: Mapping[str, Any]) -> bool:
    try:
        return json.loads(read_text(path)) == json.loads(json.dumps(facts))
    except (OSError, ValueError):
        return False


def _read_array(file: zipfile.ZipFile, name: str) -> np.ndarray:
    with file.open(name) as member:
        return np.lib.format.read_array(member)  # no pickles


def make_bands(
    finder: Finder,
    source: Source,
    store: BandStore,
    rows: Sequence[int],
    *,
    window: int,
    thresholds: Sequence[float],
    step: int,
    keep_all: bool = False,
    **how: Any,
) -> None:
    """Make the bands of some rows of windows that are not there yet.

    Args:
        finder: with its supports.
        source: the picture.
        store: where they are kept.
        rows: numbers of the rows of windows.
        window: pixels of the picture that a window spans.
        thresholds: of each class: a support votes where its probability is over this.
        step: every so many pixels one is kept for the quick-look.
        keep_all: keep the probabilities of all classes, not of the found one alone.
        how: further arguments of `Finder.bands`.
    """
    for run in _runs(store.missing(rows)):
        for band in finder.bands(source, window, rows=run, **how):
            votes = count_votes(band.margins, thresholds)
            arrays = {"valid": np.packbits(band.valid, axis=1), "look": _look(band, step)}
            if all(len(margins) == 1 for margins in band.margins):  # what needs no other band
                arrays["classes"], arrays["level"] = decide(
                    votes, [1] * len(votes.counts), thresholds
                )
                arrays |= {"levels": votes.levels} if keep_all else {}
            else:
                arrays |= {"counts": votes.counts, "levels": votes.levels}
            store.write(band.row, most=votes.counts.max(axis=(1, 2)), **arrays)


def _look(band: Band, step: int) -> np.ndarray:
    return band.image[-band.top % step :: step, ::step]


def _runs(rows: Sequence[int]) -> Iterator[range]:
    """Numbers without gaps."""
    first = 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i] != rows[i - 1] + 1:
            yield range(rows[first], rows[i - 1] + 1)
            first = i


class Finished(NamedTuple):
    """Rows of a result."""

    classes: np.ndarray
    """(h, W) uint8: 1 + the place of the class, 0 = none, 255 = no data."""
    level: np.ndarray
    """(h, W) uint16: probability * 65535 of that class."""
    levels: np.ndarray | None
    """(C, h, W) uint16 of all classes, where they were kept."""
    look: np.ndarray
    """(h', w', 3) uint8: some of the pixels."""
    valid: np.ndarray
    """(h, W) bool."""


def finish(
    store: BandStore,
    rows: int,
    width: int,
    vote_share: float,
    thresholds: Sequence[float] = (),
) -> Iterator[Finished]:
    """The results of a picture from top to bottom.

    Args:
        store: with all bands.
        rows: of windows.
        width: pixels.
        vote_share: of the largest vote of the class in the picture, which a pixel needs.
        thresholds: see `decide`.
    """
    most = np.max([store.read(row, "most")["most"] for row in range(rows)], axis=0)
    needed = [votes_needed(max(1, int(m)), vote_share) for m in most]
    for row in range(rows):
        band = store.read(row, "classes", "level", "counts", "levels", "look", "valid")
        valid = np.unpackbits(band["valid"], axis=1, count=width).astype(bool)
        if "counts" in band:
            classes, level = decide(Votes(band["counts"], band["levels"]), needed, thresholds)
        else:
            classes, level = band["classes"], band["level"]
        classes = np.where(valid, classes, NO_DATA).astype(np.uint8)
        yield Finished(classes, level, band.get("levels"), band["look"], valid)
