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
TITLE = 38
PAPER, INK, FAINT = (255, 255, 255), (28, 30, 34), (150, 154, 162)


class Tile(NamedTuple):
    """One picture of a panel and the words above it, each with its colour."""

    image: np.ndarray  # (H, W, 3) uint8
    words: Sequence[tuple[str, Colour]]
    scale: bool = False
    """Whether a colour scale from 0 to 1 stands behind the words."""


def compose(rows: Sequence[Sequence[Tile]], title: str) -> np.ndarray:
    """Lay the tiles on white paper with their captions and the title; (h, w, 3) uint8.

    The tiles of a row stand in cells of one size, that of the largest.
    """
    from PIL import Image, ImageDraw

    cells = [np.max([tile.image.shape[:2] for tile in row], axis=0).tolist() for row in rows]
    across = GAP + max(len(row) * (w + GAP) for row, (_, w) in zip(rows, cells, strict=True))
    down = TITLE + sum(CAPTION + height + GAP for height, _ in cells)
    paper = Image.new("RGB", (across, down), PAPER)
    draw = ImageDraw.Draw(paper)
    font = _font(19, bold=True)
    title = _shortened(draw, title, font, across - 2 * GAP)
    draw.text((GAP, TITLE // 2 + 2), title, INK, font, anchor="lm")
    top = TITLE
    for row, (height, width) in zip(rows, cells, strict=True):
        for column, tile in enumerate(row):
            corner = (GAP + column * (width + GAP), top)
            end = _caption(draw, tile.words, corner, width)
            if tile.scale:
                _scale(paper, draw, (end, top + CAPTION // 2))
            paper.paste(Image.fromarray(tile.image), (corner[0], top + CAPTION))
        top += CAPTION + height + GAP
    return np.asarray(paper)


def _shortened(draw: Any, text: str, font: "ImageFont.FreeTypeFont", width: int) -> str:
    """The text with its end cut off, if it is wider than that."""
    while text and draw.textlength(text, font) > width:
        text = text[:-2].rstrip() + "…"
    return text


def _caption(
    draw: Any, words: Sequence[tuple[str, Colour]], corner: tuple[int, int], width: int
) -> int:
    """Write the words above a tile of some width; returns where they end."""
    x, y = corner[0], corner[1] + CAPTION // 2
    for word, colour in words:
        word = _shortened(draw, word, _font(15), corner[0] + width - x)
        draw.text((x, y), word, colour, _font(15), anchor="lm")
        x += round(draw.textlength(word, _font(15))) + 12
    return x


def _scale(paper: Any, draw: Any, start: tuple[int, int]) -> None:
    """A small scale of the heat map's colours, from 0 to 1."""
    from PIL import Image

    x, y = start
    bar = heat(np.linspace(0, 1, 64)[None].repeat(10, axis=0))  # (10, 64, 3)
    draw.text((x, y), "0", FAINT, _font(13), anchor="lm")
    paper.paste(Image.fromarray(bar), (x + 13, y - 5))
    draw.text((x + 82, y), "1", FAINT, _font(13), anchor="lm")


@lru_cache(maxsize=8)
def _font(size: int, *, bold: bool = False) -> "ImageFont.FreeTypeFont":
    """DejaVu Sans, which comes with matplotlib."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
