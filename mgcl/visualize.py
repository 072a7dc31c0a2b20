"""Pictures of episodes, as in the field's figures: what the network saw, gave and missed."""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mgcl.files import atomic_write
from mgcl.paint import (
    FALSE_ALARM,
    HIT,
    LABEL,
    MISS,
    PREDICTED,
    Colour,
    enlarge,
    errors,
    heat,
    mask_overlay,
    outlined,
    readable,
)
from mgcl.plots import learning_curve, threshold_plot

if TYPE_CHECKING:
    from PIL import ImageFont

    from mgcl.datasets.episodes import Episode

__all__ = ["episode_panel", "learning_curve", "mask_overlay", "threshold_plot", "write_png"]

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


def episode_panel(
    episode: "Episode", probability: Any, prediction: Any, *, title: str
) -> np.ndarray:
    """One episode as a grid of captioned tiles.

    Supports with their label and masks, query and its masks, probability, truth, prediction, and
    the errors: hits green, false alarms red, misses blue, pixels that do not count grey. With one
    support the upper row holds what the network is given and the lower what it makes of it; with
    more, the supports stand above the query.

    Args:
        episode: without a batch dimension, any number of supports.
        probability: (H, W) foreground probability in [0, 1].
        prediction: (H, W), foreground where not 0.
        title: a line above the tiles.

    Returns:
        (h, w, 3) uint8; every tile's long side is 256 pixels, whatever the image's size.
    """
    supports = _support_tiles(episode)
    given, made = _query_tiles(episode, np.asarray(probability), np.asarray(prediction))
    if len(supports) == 1:
        rows = [[*supports[0], *given], made]
    else:
        images, masks = zip(*supports, strict=True)
        rows = [list(images), list(masks), [*given, *made]]
    return _compose(rows, title)


def write_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 picture atomically."""
    from PIL import Image

    with atomic_write(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


def _support_tiles(episode: "Episode") -> list[tuple[Tile, Tile]]:
    tiles = []
    count = len(episode.support_images)
    for k in range(count):
        number = f" {k + 1}" if count > 1 else ""
        image = _picture(episode.support_images[k])
        label = enlarge(np.asarray(episode.support_labels[k]))
        words = [(f"support{number}", INK), ("label", readable(LABEL))]
        marked = Tile(outlined(image, label, LABEL), words)
        tiles.append((marked, _mask_tile(image, episode.support_mask_maps[k], words[0][0])))
    return tiles


def _mask_tile(image: np.ndarray, mask_map: Any, of: str) -> Tile:
    masks = enlarge(np.asarray(mask_map))
    return Tile(mask_overlay(image, masks), [(f"{'' if masks.any() else 'no '}masks of {of}", INK)])


def _query_tiles(
    episode: "Episode", probability: np.ndarray, prediction: np.ndarray
) -> tuple[list[Tile], list[Tile]]:
    """Tiles of what the network is given, and of what it makes of it."""
    image = _picture(episode.query_image)
    label = enlarge(np.asarray(episode.query_label))
    guess = enlarge((prediction != 0).astype(np.uint8))
    given = [Tile(image, [("query", INK)]), _mask_tile(image, episode.query_mask_map, "query")]
    kinds = [("hit", HIT), ("false alarm", FALSE_ALARM), ("miss", MISS)]
    made = [
        Tile(heat(enlarge(probability, smooth=True)), [("probability", INK)], scale=True),
        Tile(outlined(image, guess, PREDICTED), [("prediction", readable(PREDICTED))]),
        Tile(outlined(image, label, LABEL), [("truth", readable(LABEL))]),
        Tile(errors(image, guess, label), [(word, readable(c)) for word, c in kinds]),
    ]
    return given, made


def _picture(image: Any) -> np.ndarray:
    """(3, H, W) uint8 -> (h, w, 3) at the tile's size."""
    return enlarge(np.asarray(image).transpose(1, 2, 0), smooth=True)


def _compose(rows: Sequence[Sequence[Tile]], title: str) -> np.ndarray:
    """Lay the tiles on white paper with their captions and the title."""
    from PIL import Image, ImageDraw

    height, width = rows[0][0].image.shape[:2]
    columns = max(map(len, rows))
    across = GAP + columns * (width + GAP)
    down = TITLE + len(rows) * (CAPTION + height + GAP)
    paper = Image.new("RGB", (across, down), PAPER)
    draw = ImageDraw.Draw(paper)
    font = _font(19, bold=True)
    title = title.replace("_", " ")
    while title and draw.textlength(title, font) > across - 2 * GAP:
        title = title[:-2].rstrip() + "…"
    draw.text((GAP, TITLE // 2 + 2), title, INK, font, anchor="lm")
    for r, row in enumerate(rows):
        for c, tile in enumerate(row):
            corner = (GAP + c * (width + GAP), TITLE + r * (CAPTION + height + GAP))
            end = _caption(draw, tile.words, corner)
            if tile.scale:
                _scale(paper, draw, (end, corner[1] + CAPTION // 2))
            paper.paste(Image.fromarray(tile.image), (corner[0], corner[1] + CAPTION))
    return np.asarray(paper)


def _caption(draw: Any, words: Sequence[tuple[str, Colour]], corner: tuple[int, int]) -> int:
    """Write the words above a tile; returns where they end."""
    x, y = corner[0], corner[1] + CAPTION // 2
    for word, colour in words:
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
