"""Pictures of episodes, as in the field's figures: what the network saw, gave and missed.

    python -m mgcl.visualize --config configs/demo.toml --episode 7 --to episode7.png

draws an episode of the test list with the features and correlations of each level, before and after
mask guidance (the paper's Fig. 7).
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mgcl import console
from mgcl.files import atomic_write
from mgcl.paint import (
    FALSE_ALARM,
    HIT,
    LABEL,
    MISS,
    PREDICTED,
    TILE,
    enlarge,
    errors,
    heat,
    mask_overlay,
    outlined,
    readable,
)
from mgcl.plots import learning_curve, threshold_plot
from mgcl.sheet import INK, Tile, compose

if TYPE_CHECKING:
    from mgcl.config import Config
    from mgcl.datasets.episodes import Episode
    from mgcl.examples import Example

__all__ = [
    "episode_panel",
    "found_tile",
    "guidance_panel",
    "learning_curve",
    "mask_overlay",
    "overview",
    "threshold_plot",
    "write_png",
]

COLUMNS = 6  # of an overview


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
    return compose(rows, title)


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
    return compose([first, *levels], title)


def overview(examples: Sequence["Example"], found: Sequence[Tile], title: str) -> np.ndarray:
    """The examples that a class was marked in, and what was found of it, six pictures a row.

    Args:
        examples: each is shown with its label, and again with its masks.
        found: from `found_tile`.
        title: a line above the tiles.

    Returns:
        (h, w, 3) uint8.
    """
    shown = []
    for k, example in enumerate(examples, start=1):
        image, label = enlarge(example.image, smooth=True), enlarge(example.label)
        words = [(f"support {k}", INK), ("label", readable(LABEL))]
        shown.append(Tile(outlined(image, label, LABEL), words))
        shown.append(_mask_tile(image, example.mask_map, words[0][0]))
    rows = [part[i : i + COLUMNS] for part in (shown, found) for i in range(0, len(part), COLUMNS)]
    return compose(rows, title)


def found_tile(name: str, image: np.ndarray, mask: np.ndarray, *, side: int = TILE) -> Tile:
    """What was found in an image, at most `side` pixels long, but a tile at least.

    Args:
        name: the words above.
        image: (H, W, 3) uint8.
        mask: (H, W) uint8, 1 = foreground.
        side: long side of the tile, pixels.
    """
    side = max(TILE, min(side, max(image.shape)))
    marked = enlarge(255 * mask, smooth=True, side=side) > 64  # shrunk, small objects keep some
    picture = enlarge(image, smooth=True, side=side)
    tinted = outlined(picture, marked.astype(np.uint8), PREDICTED)
    return Tile(tinted, [(name, readable(PREDICTED))])


def write_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 picture, or one channel (H, W) of 8 or 16 bits, atomically."""
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


def main(argv: Sequence[str] | None = None) -> int:
    """Draw one episode; exit status 0, or 2 for a mistake."""
    from mgcl.config import load, with_values

    words, constants = _parser().parse_known_args(sys.argv[1:] if argv is None else argv)
    try:
        config = load(constants, prog="python -m mgcl.visualize")
        console.set_quiet(config.run.quiet)
        drawn = _draw(with_values(config, test={"max_episodes": 0}), words)
    except (ValueError, OSError) as error:
        console.fail(error)
        return console.USAGE
    console.say(str(drawn))
    return 0


def _draw(config: "Config", words: argparse.Namespace) -> Path:
    """Write the picture; returns its path."""
    from mgcl import distributed, pictures, testing
    from mgcl.build import build_setup, resolve_cut
    from mgcl.datasets.build import build_source, build_test
    from mgcl.model.network import MGCL

    device = distributed.choose_device(config.run.device)
    checkpoint = words.checkpoint or config.run_dir / "best.pt"
    candidate = testing.load_candidate(config, checkpoint, device)
    assert isinstance(candidate.model, MGCL)
    part = build_test(config, build_source(config), words.shots)
    if words.episode not in part.ids:
        raise ValueError(f"--episode {words.episode}: there are the episodes 0 to {part.ids[-1]}")
    panel = pictures.draw_guidance(
        candidate.model,
        part.dataset,
        words.episode,
        setup=build_setup(config, device),
        cut=resolve_cut(config.test.cut, candidate.cut),
        vote_share=config.test.vote_share,
    )
    path = words.to or config.run_dir / f"guidance_{words.shots}shot_{words.episode}.png"
    write_png(path, panel)
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mgcl.visualize",
        usage="%(prog)s --episode N [--shots K] [--checkpoint FILE] [--to FILE.png] "
        "[--config FILE] [--section.key VALUE ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="--config and --section.key are those of main_2_mgcl_test.py, which lists all.",
        allow_abbrev=False,
    )
    text = "number of the test episode, from 0: of the list, or of the manifest --test.episodes"
    parser.add_argument("--episode", type=int, required=True, metavar="N", help=text)
    text = "supports of the episode (%(default)s)"
    parser.add_argument("--shots", type=int, default=1, metavar="K", help=text)
    text = "weights to look at (left out: best.pt of the run)"
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help=text)
    text = "picture to write (left out: guidance_<K>shot_<N>.png in the run's folder)"
    parser.add_argument("--to", type=Path, metavar="FILE.png", help=text)
    return parser


if __name__ == "__main__":
    sys.exit(main())
