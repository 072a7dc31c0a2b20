"""The command line of `mgcl.predict`."""

import argparse
import re
from pathlib import Path

from mgcl import console
from mgcl.predict.defaults import KEEP_PRESENT, LARGEST, SMALLEST
from mgcl.predict.load import WINDOW

GENERATORS = ("", "superpixels", "sam", "sam2", "none")  # of --masks; else it is a folder
OVERLAP = 0.5
SPECK = 8  # pixels that the network sees: what is smaller, as a support, is refused


def parser(description: str | None) -> argparse.ArgumentParser:
    """All options."""
    made = argparse.ArgumentParser(
        prog=console.called("python -m mgcl.predict"),
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _inputs(made.add_argument_group("what is searched, and where"))
    _how(made.add_argument_group("how"))
    _results(made.add_argument_group("what is written"))
    console.add_quiet(made)
    return made


def _inputs(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    text = "pairs of an image and its label: a picture, GeoJSON, GeoPackage, Shapefile, labelme or "
    text += "COCO JSON"
    add("--support", type=Path, nargs="+", action="extend", metavar="FILE", help=text)
    text = "instead: a folder with a subfolder for each class, or a TOML file (docs/predict.md)"
    add("--supports", type=Path, metavar="PATH", help=text)
    text = "images, folders, quoted patterns, and text files with a path a line"
    add("--query", nargs="+", action="extend", required=True, metavar="PATH", help=text)
    text = "the class in label pictures: an id (255 is ignored), '#rrggbb', all (left out: the one)"
    add("--label-id", type=_label_id, metavar="N", help=text)
    text = "attribute of vector files that holds the class (left out: class, label, name, ...)"
    add("--field", metavar="NAME", help=text)
    text = "bands to show as red, green and blue, such as 4,3,2 (left out: as the file says)"
    add("--bands", type=parse_bands, metavar="R,G,B", help=text)
    text = "windows that one support image gives at most (%(default)s)"
    add("--max-windows", type=int, default=16, metavar="N", help=text)


def _how(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    text = "weights (left out: the matcher, which needs no training)"
    add("--checkpoint", type=Path, metavar="FILE", help=text)
    text = "constants, for a checkpoint that holds none (the authors'), or other ones"
    add("--config", type=Path, metavar="FILE", help=text)
    text = "foreground is over this probability, or 'calibrated' (left out: as in training); of "
    text += "classes without one of their own"
    add("--threshold", type=_threshold, metavar="X", help=text)
    text = (
        "of windows that show a class, the share that is taken to show it: less marks less where "
    )
    text += f"there is none; 1: all windows ({KEEP_PRESENT}; of the matcher)"
    add("--keep-present", type=float, metavar="SHARE", help=text)
    text = "let what is surely found in the images say which others show it (of the matcher)"
    add("--pool", action="store_true", help=text)
    kinds = ", ".join(filter(None, GENERATORS))
    text = f"{kinds}, or a folder of mask maps (left out: as in training, else superpixels)"
    add("--masks", metavar="KIND", help=text)
    text = "quarter turns of an image that the matcher averages, without a checkpoint: four find "
    text += "more, in four times the time (%(default)s)"
    add("--turns", type=int, choices=range(1, 5), default=1, metavar="N", help=text)
    text = f"pixels that a window spans (left out: the side of the training's tiles, else {WINDOW})"
    add("--window", type=int, metavar="PIXELS", help=text)
    text = "instead: metres on the ground that a window spans"
    add("--window-metres", type=float, metavar="M", help=text)
    text = f"least share of a window that the next one covers again; less is faster ({OVERLAP})"
    add("--overlap", type=float, metavar="SHARE", help=text)
    text = "make the i-th of n parts (from 0); the last to end writes (torchrun sets it)"
    add("--shard", type=_shard, metavar="I/N", help=text)
    add("--device", choices=("auto", "cuda", "cpu"), default="auto", help="(%(default)s)")


def _results(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--to", type=Path, required=True, metavar="FOLDER", help="folder to write into")
    text = "also write probabilities, times 65535: 16-bit PNG, or COG"
    add("--probabilities", action="store_true", help=text)
    text = "gpkg, geojson or none (left out: gpkg for georeferenced images, geojson for others)"
    kinds = ("gpkg", "geojson", "none")
    add("--objects", choices=kinds, default="", metavar="KIND", help=text)
    add("--smooth", action="store_true", help="outlines of objects without the pixels' stairs")
    text = "drop smaller objects: square metres, or pixels of images without a place (left out: "
    text += f"what is smaller than {SPECK} x {SPECK} pixels as the network sees it; 0: none)"
    add("--min-area", type=_least_area, metavar="AREA", help=text)
    text = "drop objects whose mean probability is lower"
    add("--min-score", type=_probability, default=0.0, metavar="X", help=text)


def check_windows(window: int | None, overlap: float) -> None:
    """Refuse windows that cannot be laid.

    Raises:
        ValueError: too small or large a window, or an overlap that is no share of it.
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"--overlap {overlap}: a share of a window, 0 to below 1")
    if window is not None and not SMALLEST <= window <= LARGEST:
        raise ValueError(f"--window {window}: it may span {SMALLEST} to {LARGEST:,} pixels")


def _threshold(word: str) -> float | str:
    if word != "calibrated" and not 0 < float(word) < 1:
        raise argparse.ArgumentTypeError(f"{word}: a probability between 0 and 1, or calibrated")
    return word if word == "calibrated" else float(word)


def _least_area(word: str) -> float:
    if not 0 <= float(word) < float("inf"):
        raise argparse.ArgumentTypeError(f"{word}: an area, 0 or more")
    return float(word)


def _probability(word: str) -> float:
    if not 0 <= float(word) <= 1:
        raise argparse.ArgumentTypeError(f"{word}: a probability from 0 to 1")
    return float(word)


def _label_id(word: str) -> int | str:
    if not re.fullmatch(r"\d+|#[0-9a-fA-F]{6}|all", word):
        raise argparse.ArgumentTypeError(f"{word!r} is neither an id such as 7, #rrggbb nor all")
    return int(word) if word.isdecimal() else word


def parse_bands(word: str) -> tuple[int, ...]:
    """One band or three, "4,3,2"."""
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*,[1-9]\d*)?", word):
        raise argparse.ArgumentTypeError(f"{word!r}: give one band or three, such as 4,3,2")
    return tuple(int(part) for part in word.split(","))


def _shard(word: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/([1-9]\d*)", word)
    if not match or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"{word!r}: give i/n with i from 0 to n - 1")
    return int(match[1]), int(match[2])
