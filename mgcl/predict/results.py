"""The folder that `mgcl.predict` writes into: what is there, of which run, and what is not yet."""

import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mgcl.files import lock, read_text, write_json
from mgcl.images.write import write_png

KINDS = ("masks", "overlays", "probabilities", "objects")  # folders of results
OVERVIEW, FACTS, COCO = "overview.png", "predict.json", "coco.json"
WORK = ".work"  # bands of what is not finished, and a record of each query that is
_PATIENCE = 30.0  # seconds that processes which start together wait for each other


def is_result(path: Path) -> bool:
    """Whether a folder or the overview beside a file of facts: written by a run, no picture."""
    return path.name in (*KINDS, OVERVIEW, WORK) and (path.parent / FACTS).exists()


class Results:
    """Results of one run: those of another never stand beside them."""

    def __init__(self, folder: Path) -> None:
        """Write nothing yet.

        Raises:
            ValueError: `folder` is a file, cannot be written to, or holds folders or files of these
                names that were not written as results.
        """
        self.folder = folder
        place = folder.absolute()
        there = next(path for path in (place, *place.parents) if path.exists())
        if not there.is_dir():
            raise ValueError(f"--to {folder}: {there} is a file: give a folder")
        if not os.access(there, os.W_OK):
            raise ValueError(f"--to {folder}: {there} cannot be written to: give another folder")
        foreign = [name for name in (*KINDS, OVERVIEW, COCO) if (folder / name).exists()]
        if foreign and not (folder / FACTS).exists():
            raise ValueError(
                f"{folder / foreign[0]} is there and is no result of this program (there is no "
                f"{FACTS} beside it): give another --to"
            )

    def refuse_overwriting(self, names: Iterable[str], inputs: Iterable[Path]) -> None:
        """Results replace earlier results, but no image or label that is read.

        Raises:
            ValueError: a result would have the path of an input.
        """
        read = {path.resolve() for path in inputs}
        for name in names:
            for kind, suffix in itertools.product(KINDS, (".png", ".tif", ".gpkg", ".geojson")):
                path = self.folder / kind / f"{name}{suffix}"
                if path.resolve() in read:
                    raise ValueError(f"{path} is read and would be overwritten: give another --to")

    def begin(self, facts: Mapping[str, Any]) -> int:
        """Say what makes the results; those that something else made are deleted.

        Args:
            facts: JSON values.

        Returns:
            how many queries' results were deleted.

        Raises:
            ValueError: what is there was made by a version that did not list it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            old = _read(self.folder / FACTS)
            if old and "digest" not in old:
                raise ValueError(
                    f"{self.folder} holds results of an earlier version of this program: delete "
                    "them, or give another --to"
                )
            self.digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
            if old and old["digest"] == self.digest:
                return 0
            deleted = self._delete() if old else 0
            write_json(self.folder / FACTS, {**facts, "digest": self.digest})
            return deleted

    def _alone(self) -> Any:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return lock(self.folder / WORK / "lock")
            except ValueError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def _delete(self) -> int:
        """Delete the results that are recorded, and what was on the way."""
        records = self.records()
        for record in records.values():
            for file in record["files"].values():
                path = self.folder / file
                if path.resolve().is_relative_to(self.folder.resolve()):
                    path.unlink(missing_ok=True)
        for name in (OVERVIEW, COCO):
            (self.folder / name).unlink(missing_ok=True)
        for path in (self.folder / WORK).glob("*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != "lock":
                path.unlink(missing_ok=True)
        return len(records)

    def work(self, name: str) -> Path:
        """Folder of a query's bands; beside it lies its record, as .json, once it is done."""
        short = hashlib.sha256(name.encode()).hexdigest()[:16]
        return self.folder / WORK / short

    def record(self, name: str) -> dict[str, Any] | None:
        """What is said of a finished query, if all its files are still there."""
        found = _read(self.work(name).with_suffix(".json"))
        if not found or not all((self.folder / file).is_file() for file in found["files"].values()):
            return None
        return found

    def finish(self, name: str, record: Mapping[str, Any], tile: np.ndarray) -> None:
        """Keep what is to be said of a query, and a small picture of it, (h, w, 3) uint8."""
        write_png(self.tile(name), tile, level=1)
        write_json(self.work(name).with_suffix(".json"), {"name": name, **record})

    def tile(self, name: str) -> Path:
        """Small picture of a finished query."""
        return self.work(name).with_suffix(".png")

    def records(self) -> dict[str, dict[str, Any]]:
        """Of all finished queries, by name."""
        found = [_read(path) for path in (self.folder / WORK).glob("*.json")]
        return {r["name"]: r for r in sorted((f for f in found if f), key=lambda r: r["name"])}

    def close(self) -> None:
        """Write what was found into the file of facts."""
        facts = _read(self.folder / FACTS)
        kept = ("image", "window", "unit", "objects", "area", "files")
        queries = {n: {k: r[k] for k in kept} for n, r in self.records().items()}
        write_json(self.folder / FACTS, {**facts, "queries": queries})


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
