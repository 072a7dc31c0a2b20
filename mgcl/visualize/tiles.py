"""Captioned tiles on white paper: what the panels and overviews are composed of."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mgcl.visualize.overlays import Colour, heat

if TYPE_CHECKING:
    from PIL import ImageFont


GAP = 10  # between tiles
CAPTION = 24  # height of the line above a tile
TITLE, LINE = 38, 26  # height of the title, and of each further line of it
PAPER, INK, FAINT = (255, 255, 255), (28, 30, 34), (150, 154, 162)


Box = tuple[int, int, int, int]


class Tile(NamedTuple):
    """One picture of a panel and the words above it, each with its colour."""

    image: np.ndarray  # (H, W, 3) uint8
    words: Sequence[tuple[str, Colour]]
    scale: bool = False
    """Whether a colour scale from 0 to 1 stands behind the words."""


class Sheet(NamedTuple):
    """Tiles laid out on paper."""

    picture: np.ndarray  # (h, w, 3) uint8
    boxes: tuple[tuple[Box, ...], ...]
    """Left, top, right and bottom of each tile with its caption, row by row."""


def compose(rows: Sequence[Sequence[Tile]], title: str) -> Sheet:
    """Lay the tiles on white paper with their captions and the title.

    The tiles of a row stand in cells of one size, that of the largest. A title that is wider than
    the tiles goes over several lines.
    """
    from PIL import Image, ImageDraw

    cells = [np.max([tile.image.shape[:2] for tile in row], axis=0).tolist() for row in rows]
    across = GAP + max(len(row) * (w + GAP) for row, (_, w) in zip(rows, cells, strict=True))
    lines = _wrapped(title, font(19, bold=True), across - 2 * GAP)
    top = TITLE + LINE * (len(lines) - 1)
    down = top + sum(CAPTION + height + GAP for height, _ in cells)
    paper = Image.new("RGB", (across, down), PAPER)
    draw = ImageDraw.Draw(paper)
    for number, line in enumerate(lines):
        middle = TITLE // 2 + 2 + LINE * number
        draw.text((GAP, middle), line, INK, font(19, bold=True), anchor="lm")
    boxes = []
    for row, (height, width) in zip(rows, cells, strict=True):
        places = [(GAP + column * (width + GAP), top) for column in range(len(row))]
        for tile, corner in zip(row, places, strict=True):
            end = _caption(draw, tile.words, corner, width)
            if tile.scale:
                _scale(paper, draw, (end, top + CAPTION // 2))
            paper.paste(Image.fromarray(tile.image), (corner[0], top + CAPTION))
        boxes.append(tuple((x, y, x + width, y + CAPTION + height) for x, y in places))
        top += CAPTION + height + GAP
    return Sheet(np.asarray(paper), tuple(boxes))


def _wrapped(text: str, font: "ImageFont.FreeTypeFont", width: int) -> list[str]:
    """The text in lines that fit; a word that is wider than one is broken."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        lines += [""] * bool(lines[-1])
        for character in word:
            if font.getlength(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines


def _shortened(text: str, font: "ImageFont.FreeTypeFont", width: int) -> str:
    """The text without its middle, if it is wider than that: names differ at their ends."""
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, -1, -1):
        short = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
        if font.getlength(short) <= width:
            return short
    return ""


def _caption(
    draw: Any, words: Sequence[tuple[str, Colour]], corner: tuple[int, int], width: int
) -> int:
    """Write the words above a tile of some width; returns where they end."""
    x, y = corner[0], corner[1] + CAPTION // 2
    for word, colour in words:
        word = _shortened(word, font(15), corner[0] + width - x)
        draw.text((x, y), word, colour, font(15), anchor="lm")
        x += round(draw.textlength(word, font(15))) + 12
    return x


def _scale(paper: Any, draw: Any, start: tuple[int, int]) -> None:
    """A small scale of the heat map's colours, from 0 to 1."""
    from PIL import Image

    x, y = start
    bar = heat(np.linspace(0, 1, 64)[None].repeat(10, axis=0))  # (10, 64, 3)
    draw.text((x, y), "0", FAINT, font(13), anchor="lm")
    paper.paste(Image.fromarray(bar), (x + 13, y - 5))
    draw.text((x + 82, y), "1", FAINT, font(13), anchor="lm")


@lru_cache(maxsize=8)
def font(size: int, *, bold: bool = False) -> "ImageFont.FreeTypeFont":
    """DejaVu Sans, which comes with matplotlib."""
    from importlib.util import find_spec

    from PIL import ImageFont

    spec = find_spec("matplotlib")  # found only: its import takes a fifth of a second
    assert spec is not None and spec.origin is not None
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / name, size)
