r"""Segment by example on the command line: a class marked in a few images, found in others.

    python -m mgcl.predict --checkpoint runs/demo/best.pt \
        --support image.png label.png --query folder/ another.tif 'more/*.png' --to out/

writes out/masks/NAME.png (0 and 255), out/overlays/NAME.png, out/overview.png and, of what made
them, out/predict.json. No label is needed for the queries, and images may have any size. Exit
status: 0 all is done, 1 some queries could not be read (they are named), 2 a mistake in what is
asked for.
"""

import argparse
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgcl import console, old_names
from mgcl.predict.load import WINDOW, load_predictor

if TYPE_CHECKING:
    from mgcl.predict.inputs import StoredMaps
    from mgcl.predict.predictor import Predictor
    from mgcl.predict.results import Results
    from mgcl.visualize.tiles import Tile

SHOWN = 12  # queries in the overview
GENERATORS = ("", "superpixels", "sam", "sam2", "none")  # of --masks; else it is a folder


def main(argv: Sequence[str] | None = None) -> int:
    """Segment what the command line names; returns the exit status."""
    argv = old_names.in_words(sys.argv[1:] if argv is None else argv, old_names.OPTIONS)
    words = _parser().parse_args(argv)
    console.set_quiet(words.quiet)
    try:
        return _segment(words)
    except (ValueError, OSError) as error:
        console.fail(error)
        return console.USAGE


def _segment(words: argparse.Namespace) -> int:
    from mgcl.predict.inputs import StoredMaps, find_queries, set_support
    from mgcl.predict.results import Results

    pairs = _pairs(words.support)
    queries = find_queries(words.query, results=words.to)
    results = Results(words.to, probabilities=words.probabilities)
    results.refuse_overwriting(queries, [*queries.values(), *itertools.chain(*pairs)])
    maps = None if words.masks in GENERATORS else StoredMaps(Path(words.masks))
    predictor = load_predictor(
        words.checkpoint,
        config=words.config,
        masks="none" if maps else words.masks,
        threshold=words.threshold,
        window=words.window,
        overlap=words.overlap,
        device=words.device,
    )
    set_support(predictor, pairs, words.label_id, maps)
    results.write_facts(**_facts(predictor, words))
    tiles, unreadable = _predict_all(predictor, queries, results, maps)
    _write_overview(words, predictor, tiles)
    console.say(f"{len(queries) - unreadable} of {len(queries)} images segmented: {words.to}")
    return console.WRONG if unreadable else console.DONE


def _pairs(words: Sequence[Path]) -> list[tuple[Path, Path]]:
    if len(words) % 2:
        raise ValueError(f"--support: {len(words)} files, need pairs IMAGE LABEL [IMAGE LABEL ...]")
    return list(zip(words[::2], words[1::2], strict=True))


def _predict_all(
    predictor: "Predictor",
    queries: Mapping[str, Path],
    results: "Results",
    maps: "StoredMaps | None",
) -> tuple[list["Tile"], int]:
    """Segment and write every query: tiles of the first few, number of those left out."""
    from mgcl.predict.inputs import count_windows, predict_file
    from mgcl.visualize.panels import found_side, found_tile

    tiles: list[Tile] = []
    unreadable, side = 0, found_side(len(queries))
    total = count_windows(predictor, queries.values())
    with console.progress(total=total, unit="window") as bar:
        for name, path in queries.items():
            try:
                image, prediction = predict_file(predictor, path, maps, bar.update)
            except ValueError as error:
                console.warn(f"left out: {error}")
                unreadable += 1
                continue
            results.write(name, image, prediction)
            if len(tiles) < SHOWN:
                tiles.append(found_tile(name, image, prediction.mask, side=side))
    return tiles, unreadable


def _facts(predictor: "Predictor", words: argparse.Namespace) -> dict[str, Any]:
    generator = predictor.finder.mask_generator
    return {
        "checkpoint": str(words.checkpoint),
        "supports": [[str(path) for path in pair] for pair in _pairs(words.support)],
        "label_id": words.label_id,
        "threshold": predictor.threshold,
        "vote_share": predictor.vote_share,
        "window": predictor.window,
        "image_size": predictor.finder.image_size,
        "overlap": predictor.finder.overlap,
        "masks": generator.spec if generator else words.masks or "none",
    }


def _write_overview(
    words: argparse.Namespace, predictor: "Predictor", tiles: Sequence["Tile"]
) -> None:
    from mgcl.images.write import write_png
    from mgcl.predict.results import OVERVIEW
    from mgcl.visualize.panels import overview

    shots = len(predictor.examples)
    title = f"{shots} support{'s' * (shots > 1)}, threshold {predictor.threshold:.2f}"
    title += f", {words.checkpoint}"
    write_png(words.to / OVERVIEW, overview(predictor.examples, tiles, title))


def _threshold(word: str) -> float | str:
    return word if word == "calibrated" else float(word)


def _label_id(word: str) -> int | str:
    if not re.fullmatch(r"\d+|#[0-9a-fA-F]{6}|all", word):
        raise argparse.ArgumentTypeError(f"{word!r} is neither an id such as 7, #rrggbb nor all")
    return int(word) if word.isdecimal() else word


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=console.called("python -m mgcl.predict"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, metavar="FILE", help="weights")
    text = "pairs of an image and its label PNG; each support votes"
    add(
        "--support", type=Path, nargs="+", action="extend", required=True, metavar="FILE", help=text
    )
    text = "images, folders and quoted patterns"
    add("--query", nargs="+", action="extend", required=True, metavar="PATH", help=text)
    add("--to", type=Path, required=True, metavar="FOLDER", help="folder to write into")
    text = "the class in the labels: an id (255 is ignored), '#rrggbb' or all (left out: the one)"
    add("--label-id", type=_label_id, metavar="N", help=text)
    text = "foreground is over this probability, or 'calibrated' (left out: as in training)"
    add("--threshold", type=_threshold, metavar="X", help=text)
    add("--probabilities", action="store_true", help="also write 16-bit PNGs, probability * 65535")
    kinds = ", ".join(filter(None, GENERATORS))
    text = f"{kinds}, or a folder of mask maps (left out: as in training)"
    add("--masks", default="", metavar="KIND", help=text)
    text = "pixels of the image that a window spans: the side of the training's tiles (%(default)s)"
    add("--window", type=int, default=WINDOW, metavar="PIXELS", help=text)
    text = "least share of a window that the next one covers again; less is faster (%(default)s)"
    add("--overlap", type=float, default=0.5, metavar="SHARE", help=text)
    text = "constants, for a checkpoint that holds none (the authors'), or other ones"
    add("--config", type=Path, metavar="FILE", help=text)
    add("--device", choices=("auto", "cuda", "cpu"), default="auto", help="(%(default)s)")
    console.add_quiet(parser)
    return parser
