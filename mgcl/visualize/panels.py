"""Pictures of episodes, as in the field's figures: what the network saw, gave and missed.

    python -m mgcl.visualize --config configs/demo.toml --episode 7 --to episode7.png

draws an episode of the test list with the features and correlations of each level, before and after
mask guidance (the paper's Fig. 7).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mgcl.visualize.overlays import (
    FALSE_ALARM,
    HIT,
    LABEL,
    MISS,
    PREDICTED,
    enlarge,
    errors,
    heat,
    mask_overlay,
    outlined,
    readable,
)
from mgcl.visualize.tiles import INK, Tile, compose

if TYPE_CHECKING:
    from mgcl.datasets.episodes import Episode


def episode_panel(
    episode: "Episode", probability: Any, prediction: Any, *, title: str
) -> np.ndarray:
    """One episode as a grid of captioned tiles, see `episode_tiles`.

    Returns:
        (h, w, 3) uint8; every tile's long side is 256 pixels, whatever the image's size.
    """
    return compose(episode_tiles(episode, probability, prediction), title).picture


def episode_tiles(episode: "Episode", probability: Any, prediction: Any) -> list[list[Tile]]:
    """The pictures of one episode, in rows.

    Supports with their label and masks, query and its masks, probability, truth, prediction, and
    the errors: hits green, false alarms red, misses blue, pixels that do not count grey. With one
    support the upper row holds what the network is given and the lower what it makes of it; with
    more, the supports stand above the query.

    Args:
        episode: without a batch dimension, any number of supports.
        probability: (H, W) foreground probability in [0, 1].
        prediction: (H, W), foreground where not 0.
    """
    supports = _support_tiles(episode)
    given, made = _query_tiles(episode, np.asarray(probability), np.asarray(prediction))
    if len(supports) == 1:
        return [[*supports[0], *given], made]
    images, masks = zip(*supports, strict=True)
    return [list(images), list(masks), [*given, *made]]


def guidance_panel(
    episode: "Episode",
    probability: Any,
    prediction: Any,
    levels: Sequence[Sequence[Tile]],
    *,
    title: str,
) -> np.ndarray:
    """An episode, its first support alone, and below it a row of tiles for each level.

    Args:
        episode: without a batch dimension, any number of supports.
        probability: (H, W) foreground probability in [0, 1].
        prediction: (H, W), foreground where not 0.
        levels: from `guidance.level_tiles`.
        title: a line above the tiles.

    Returns:
        (h, w, 3) uint8.
    """
    given, made = _query_tiles(episode, np.asarray(probability), np.asarray(prediction))
    first = [*_support_tiles(episode)[0], *given, made[0], made[-1]]
    return compose([first, *levels], title).picture


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
