"""What was found, in words and in one picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mgcl.predict.maps import Colour
from mgcl.predict.support import Example
from mgcl.visualize.overlays import enlarge, mask_overlay, outlined, readable
from mgcl.visualize.tiles import INK, PAPER, Tile, compose, font

WIDTH = 1000  # of the picture, about
SHOWN = 12  # queries, and supports, in it
LINE = 30  # height of a line of the legend


def sentence(record: Mapping[str, Any]) -> str:
    """What was found in one query: "P1: 3 ships, 250 m²; no harbour"."""
    parts = [
        f"{name}: {amount(count, record['area'][name], record['unit'])}"
        for name, count in record["objects"].items()
    ]
    return f"{record['name']}: {'; '.join(parts) or 'segmented'}"


def amount(count: int, area: float, unit: str) -> str:
    """Number and area of the objects of a class."""
    if not count:
        return "none"
    return f"{count:,} object{'s' * (count != 1)}, {_area(area, unit)}"


def _area(area: float, unit: str) -> str:
    if unit == "m²" and area >= 1e6:
        return f"{area / 1e6:,.2f} km²"
    return f"{area:,.0f} {unit}" if area >= 10 else f"{area:.2g} {unit}"


def totals(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, str]:
    """What was found of each class in all queries; places on earth and plain images apart."""
    found = {}
    for name in names:
        parts = []
        for unit in ("m²", "pixels"):
            chosen = [r for r in records if r["unit"] == unit and name in r["objects"]]
            count = sum(r["objects"][name] for r in chosen)
            if count:
                parts.append(amount(count, sum(r["area"][name] for r in chosen), unit))
        found[name] = " and ".join(parts) or "none"
    return found


def thumbnail(
    picture: np.ndarray, classes: np.ndarray, colours: Sequence[Colour], *, side: int = WIDTH
) -> np.ndarray:
    """A picture with its classes, at most `side` pixels long: (h, w, 3) uint8.

    Args:
        picture: (H, W, 3) uint8.
        classes: (H, W) uint8, 1 + the place of the class, 0 = none.
        colours: of the classes.
        side: pixels.
    """
    side = min(side, max(256, *picture.shape[:2]))
    small = enlarge(picture, smooth=True, side=side)
    for number, colour in enumerate(colours, start=1):
        found = (classes == number).astype(np.uint8)
        marked = enlarge(255 * found, smooth=True, side=side) > 64  # small objects keep some
        small = outlined(small, marked.astype(np.uint8), colour)
    return small


def overview(
    examples: Mapping[str, Sequence[Example]],
    pool: Mapping[str, Sequence[Example]],
    tiles: Mapping[str, np.ndarray],
    found: Mapping[str, str],
    colours: Sequence[Colour],
    title: str,
) -> np.ndarray:
    """Supports, results and a legend with what was found, about 1,000 pixels wide.

    Args:
        examples: by class; the first of each are shown with their masks.
        pool: by class, windows of queries that were taken in.
        tiles: small pictures of the queries, by name.
        found: by class, in words.
        colours: of the classes.
        title: a line above.
    """
    shown = dict(list(tiles.items())[:SHOWN])
    across = min(len(shown), 1 if len(shown) == 1 else 2 if len(shown) <= 4 else 3)
    side = (WIDTH - 10 * (across + 1)) // max(1, across)
    results = [Tile(_fit(tile, side), [(name, INK)]) for name, tile in shown.items()]
    rows: list[list[Tile]] = [results[i : i + across] for i in range(0, len(results), across)]
    supports = _support_tiles(examples, colours, (WIDTH - 50) // 4)
    rows += [supports[i : i + 4] for i in range(0, len(supports), 4)]
    found_there = [
        Tile(_marked(one, (WIDTH - 60) // 5, colour), [("taken in", INK), (name, readable(colour))])
        for (name, taken), colour in zip(pool.items(), colours, strict=False)
        for one in taken
    ]
    rows += [found_there[i : i + 5] for i in range(0, len(found_there), 5)]
    return compose([[Tile(legend(found, colours), [("found", INK)])], *rows], title).picture


def _fit(tile: np.ndarray, side: int) -> np.ndarray:
    return enlarge(tile, smooth=True, side=side) if max(tile.shape[:2]) != side else tile


def _marked(example: Example, side: int, colour: Colour) -> np.ndarray:
    image = enlarge(example.image, smooth=True, side=side)
    return outlined(image, enlarge(example.label, side=side), colour)


def _support_tiles(
    examples: Mapping[str, Sequence[Example]], colours: Sequence[Colour], side: int
) -> list[Tile]:
    tiles: list[Tile] = []
    each = max(1, SHOWN // 2 // max(1, len(examples)))
    for (name, shown), colour in zip(examples.items(), colours, strict=True):
        for number, example in enumerate(shown[:each], start=1):
            of = f" of {len(shown)}" if len(shown) > each else ""  # else all are here
            words = [(f"support {number}{of}", INK), (name, readable(colour))]
            tiles.append(Tile(_marked(example, side, colour), words))
            masks = enlarge(example.mask_map, side=side)
            image = enlarge(example.image, smooth=True, side=side)
            tiles.append(Tile(mask_overlay(image, masks), [(f"masks of support {number}", INK)]))
    return tiles[: 2 * SHOWN]


def legend(found: Mapping[str, str], colours: Sequence[Colour]) -> np.ndarray:
    """A line a class: its colour, its name, what was found of it; (h, w, 3) uint8."""
    paper = Image.new("RGB", (WIDTH - 20, LINE * len(found) + 6), PAPER)
    draw = ImageDraw.Draw(paper)
    names = max((draw.textlength(name, font(18, bold=True)) for name in found), default=0)
    column = 42 + min(int(names), WIDTH // 2)
    for number, ((name, words), colour) in enumerate(zip(found.items(), colours, strict=True)):
        middle = LINE * number + LINE // 2
        draw.rectangle((2, middle - 10, 28, middle + 10), fill=colour, outline=INK)
        draw.text((40, middle), name, INK, font(18, bold=True), anchor="lm")
        draw.text((column + 16, middle), words, INK, font(18), anchor="lm")
    return np.asarray(paper)
