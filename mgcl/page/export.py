"""What was found, as files: the results of `mgcl.predict`, written from the maps of the page."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mgcl import console
from mgcl.images.raster import open_raster
from mgcl.page.pictures import Picture
from mgcl.page.tally import found_at
from mgcl.predict.bands import BandStore
from mgcl.predict.inputs import free_name
from mgcl.predict.layers import write_coco
from mgcl.predict.results import COCO, Results
from mgcl.predict.run import write_query
from mgcl.predict.scene import Style, step_of
from mgcl.predict.supports import write_supports

if TYPE_CHECKING:
    from mgcl.page.session import Session

EXPORT = "export"
ROWS = 256  # of a picture that are handed on together


def export(session: "Session", folder: Path, on_pictures: Callable[[int], object]) -> list[str]:
    """Write class maps, pictures, objects and COCO of all pictures that were searched.

    Returns:
        what was left out, a line each.

    Raises:
        ValueError, OSError: nothing is marked, or the folder cannot be written to.
    """
    project = session.project
    supports = project.supports()
    pairs = zip(project.classes, supports.classes, strict=True)
    classes = [c for c, given in pairs if given.supports]
    if not classes:
        raise ValueError("nothing is marked yet, so nothing is found")
    names = [c.name for c in classes]
    style = Style(names, supports.colours(names))
    numbers = np.zeros(256, np.uint8)  # of a class in the project -> in the results
    for place, c in enumerate(classes, start=1):
        numbers[c.number] = place
    results = Results(folder)
    facts = {
        "made_by": "mgcl.page",
        "network": session.network,
        "supports": [given.name for given in supports.classes],
        "classes": names,
        "colours": style.colours,
        "threshold": project.threshold,
        "maps": session.search.made_by(),
    }
    results.begin(facts)
    said, taken = [], set[str]()
    for number, picture in enumerate(session.pictures.all, start=1):
        if not session.search.is_searched(picture):
            said.append(f"{picture.key}: not searched yet")
            continue
        try:
            name = free_name(Path(picture.key), taken)
            _write(session, results, style, name, picture, numbers)
        except (ValueError, OSError) as error:
            said.append(f"{picture.key}: {error}")
        on_pictures(number)
    plain = {
        record["image"]: (folder / record["files"]["objects"], tuple(record["size"]))
        for record in results.records().values()
        if not record["placed"] and record["files"].get("objects", "").endswith(".geojson")
    }
    if plain:
        write_coco(folder / COCO, plain, names)
    results.close()
    write_supports(folder / "supports.toml", supports)
    return said


def _write(
    session: "Session",
    results: Results,
    style: Style,
    name: str,
    picture: Picture,
    numbers: np.ndarray,
) -> None:
    best, level = session.search.planes(picture)
    threshold = session.project.threshold
    store = BandStore(None, {})
    with open_raster(picture.path, session.pictures.bands) as raster:
        step, rows = step_of(*picture.size), range(0, picture.height, ROWS)
        for row, top in enumerate(rows):
            height = min(ROWS, picture.height - top)
            window = (top, 0, height, picture.width)
            part = slice(top, top + height)
            found = found_at(level[part], threshold)
            arrays: dict[str, Any] = {
                "valid": np.packbits(raster.valid(window), axis=1),
                "look": raster.read(window)[-top % step :: step, ::step],
                "classes": np.where(found, numbers[best[part]], 0).astype(np.uint8),
                "level": level[part].astype(np.uint16) * 257,
            }
            store.write(row, most=np.ones(len(style.names), int), **arrays)
        facts: dict[str, Any] = {"image": str(picture.path.absolute()), "run": results.digest}
        facts["window"] = session.encoder.window
        console.say(write_query(results, style, name, raster, store, len(rows), facts))
