"""Make a benchmark's tree from what can be downloaded, or from one's own images.

    python -m mgcl.datasets.prepare isaid --images DIR --labels DIR --to data/isaid
    python -m mgcl.datasets.prepare dlrsd --images DIR --labels DIR --to data/dlrsd
    python -m mgcl.datasets.prepare own --images DIR --labels DIR --classes FILE --to data/own
    python -m mgcl.datasets.prepare lists --root DIR    # of a tree that is there, by benchmark.json

A tile (or a UC Merced image) is listed for each class that it shows with at least `--min-pixels`
pixels. Run it again after an interruption: it makes what is missing. `--dry-run` counts only.
"""

import argparse
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mgcl import console
from mgcl.datasets.benchmarks import BENCHMARKS, SPLITS, Benchmark, write_benchmark
from mgcl.datasets.labels import read_label
from mgcl.datasets.lists import Entry, write_lists
from mgcl.datasets.prepare import classes
from mgcl.datasets.prepare.classes import (
    ClassTable,
    make_benchmark,
    read_classes,
    split_by_choice,
    split_by_name,
)
from mgcl.datasets.prepare.listing import write_lists_of
from mgcl.datasets.prepare.look import tell_counts, tell_labels
from mgcl.datasets.prepare.pairing import find_pictures, split_of_folder
from mgcl.datasets.prepare.tiles import (
    Cut,
    Picture,
    class_pixels,
    count_tiles,
    cut_picture,
    sizes_differ,
)
from mgcl.files import write_bytes
from mgcl.images.read import UnreadableImage, image_size, read_image
from mgcl.workers import in_processes, processes_for

MIN_PIXELS = 1024  # of a class that list an image for it: 32 x 32, four places at stride 16
BYTES_A_PIXEL = 2.5  # of a tile with its label as PNG, measured on aerial images
BYTES_IN_MEMORY = 40  # a pixel of a large image: RGB, its label's colours, codes and ids
UC_MERCED = 2100  # images


class Made(NamedTuple):
    """What became of one picture: its split, and class id -> pixels of each tile, or an error."""

    split: str
    tiles: dict[str, dict[int, int]]
    error: str | None


class Plan(NamedTuple):
    """What is about to be made."""

    benchmark: Benchmark
    pictures: list[Picture]
    make: Callable[[Picture], Made]
    cut: Cut | None
    """None: nothing is cut, files are copied."""
    left_out: list[str]
    table: ClassTable | None = None
    """What the values of one's own labels mean."""


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns 0, or 1 if anything could not be prepared."""
    args = _parser().parse_args(argv)
    console.set_quiet(args.quiet)
    try:
        if args.benchmark == "lists":
            to = args.lists_dir or args.root / "splits"
            how = {"min_pixels": args.min_pixels, "dry_run": args.dry_run}
            return write_lists_of(args.root, to, **how)
        return _prepare(args)
    except (ValueError, OSError) as error:
        console.fail(error)
        return console.WRONG


def _prepare(args: argparse.Namespace) -> int:
    plan = _plan(args)
    largest = _tell_plan(args, plan)
    processes = processes_for(len(plan.pictures), largest * BYTES_IN_MEMORY)
    if args.dry_run and not plan.table:
        return console.DONE
    if plan.table and args.dry_run:
        return tell_labels(plan.pictures, plan.benchmark, plan.table, processes=processes)
    if plan.table:
        write_benchmark(args.to, plan.benchmark)
    work = in_processes(plan.make, plan.pictures, processes=processes)
    made = list(console.progress(work, total=len(plan.pictures), unit="image"))
    entries = _entries(made, args.min_pixels)
    if args.benchmark == "dlrsd":
        entries = [entry._replace(split=split) for split in SPLITS for entry in entries]
    write_lists(plan.benchmark, args.to / "splits", entries)
    _tell_result(made, entries, plan.benchmark, args.min_pixels)
    errors = [picture.error for picture in made if picture.error]
    for error in errors:
        console.fail(error)
    return console.WRONG if errors else console.DONE


def _plan(args: argparse.Namespace) -> Plan:
    if args.benchmark == "dlrsd":
        found = find_pictures(args.images, args.labels, lambda path: "train")
        make = partial(_lay_out, root=args.to)
        return Plan(BENCHMARKS["dlrsd"], found.pictures, make, None, found.left_out)
    if args.stride < 1 or args.size < 1:
        raise ValueError(f"--size {args.size} --stride {args.stride}: both must be at least 1")
    cut = Cut(args.size, args.stride)
    if args.benchmark == "isaid":
        table, benchmark = None, BENCHMARKS["isaid"]
        found = find_pictures(args.images, args.labels, split_of_folder)
        read_ids: Callable[[Path], np.ndarray] = partial(read_label, benchmark=benchmark)
    else:
        table = read_classes(args.classes)
        benchmark = make_benchmark(table, args.folds)
        split_of: Callable[[Path], str] = partial(split_by_name, val_share=args.val_share)
        if args.val:
            split_of = split_by_choice(args.images, args.val)
        found = find_pictures(args.images, args.labels, split_of, tree=True)
        cut = cut._replace(meaning=hashlib.sha256(repr(table).encode()).hexdigest()[:16])
        read_ids = partial(classes.read_ids, table=table)
    make = partial(_cut, benchmark=benchmark, root=args.to, cut=cut, read_ids=read_ids)
    return Plan(benchmark, found.pictures, make, cut, found.left_out, table)


def _cut(picture: Picture, **how: object) -> Made:
    try:
        return Made(picture.split, cut_picture(picture, **how), None)  # type: ignore[arg-type]
    except (ValueError, OSError) as error:
        return Made(picture.split, {}, str(error))


def _lay_out(picture: Picture, *, root: Path) -> Made:
    """Check a UC Merced image with its DLRSD label and copy both to their places."""
    dlrsd, name = BENCHMARKS["dlrsd"], picture.name
    try:
        image, ids = read_image(picture.image), read_label(picture.label, dlrsd)
        if image.shape[:2] != ids.shape:
            raise ValueError(sizes_differ(picture, image, ids))
        for source, target in (
            (picture.image, dlrsd.image_path(root, "train", name)),
            (picture.label, dlrsd.label_path(root, "train", name)),
        ):
            if source.suffix.lower() != target.suffix:
                raise ValueError(f"{source} must be a {target.suffix} file")
            data = source.read_bytes()
            if not (target.exists() and target.read_bytes() == data):
                write_bytes(target, data)
    except (ValueError, OSError) as error:
        return Made("train", {}, str(error))
    classes = range(len(dlrsd.class_names))
    pixels = {c: n for c, n in class_pixels(ids).items() if c in classes}
    return Made("train", {name: pixels}, None)


def _entries(made: list[Made], min_pixels: int) -> list[Entry]:
    return [
        Entry(picture.split, name, class_id)
        for picture in made
        for name, pixels in picture.tiles.items()
        for class_id, count in pixels.items()
        if count >= min_pixels
    ]


def _tell_plan(args: argparse.Namespace, plan: Plan) -> int:
    """Counts and disk use; returns the pixels of the largest image."""
    splits = Counter(picture.split for picture in plan.pictures)
    counts = ", ".join(f"{n} {split}" for split, n in splits.items())
    console.say(f"{len(plan.pictures)} images: {counts}")
    for words in plan.left_out:
        console.say(f"left out: {words}")
    bar = console.progress(plan.pictures, desc="headers", unit="image")
    sizes = [_size(picture.image) for picture in bar]
    if plan.cut is None:
        size = sum(p.image.stat().st_size + p.label.stat().st_size for p in plan.pictures)
        if len(sizes) != UC_MERCED:
            console.warn(f"UC Merced has {UC_MERCED} images, here are {len(sizes)}")
    else:
        tiles = sum(count_tiles(width, height, plan.cut) for height, width in sizes)
        size = round(tiles * plan.cut.size**2 * BYTES_A_PIXEL)
        console.say(f"at most {tiles} tiles of {plan.cut.size} px, every {plan.cut.stride} px")
    console.say(f"listed for a class: images with at least {args.min_pixels} pixels of it")
    to = args.to.absolute()
    free = shutil.disk_usage(next(p for p in (to, *to.parents) if p.exists())).free
    console.say(f"at most {size / 1e6:.0f} MB in {args.to}, where {free / 1e6:.0f} MB are free")
    if size > free:
        console.warn("this may not fit")
    return max(height * width for height, width in sizes)


def _size(path: Path) -> tuple[int, int]:
    try:
        return image_size(path)
    except UnreadableImage:
        return 0, 0  # it is named when its turn comes


def _tell_result(
    made: list[Made], entries: list[Entry], benchmark: Benchmark, min_pixels: int
) -> None:
    tiles = [pixels for picture in made for pixels in picture.tiles.values()]
    shown = [max(pixels.values()) for pixels in tiles if pixels]
    empty, small = len(tiles) - len(shown), sum(most < min_pixels for most in shown)
    console.say(f"{len(shown)} images with a class, {empty} of background alone")
    if small:
        console.say(f"{small} of them are in no list: under {min_pixels} pixels of every class")
    tell_counts(entries, benchmark)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=console.called("python -m mgcl.datasets.prepare"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(dest="benchmark", required=True)
    words = {
        "isaid": "cut the iSAID / DOTA images and semantic PNGs (folders with train/ and val/)",
        "dlrsd": "check and lay out the UC Merced images and the DLRSD labels",
        "own": "cut any folder of images and labels into a benchmark of its own",
    }
    for name, help_text in words.items():
        kind = kinds.add_parser(name, help=help_text, description=help_text)
        kind.add_argument("--images", type=Path, required=True, help="folder with the images")
        kind.add_argument("--labels", type=Path, required=True, help="folder with the label PNGs")
        kind.add_argument("--to", type=Path, required=True, help="data root to write")
        _add_common(kind)
        if name != "dlrsd":
            kind.add_argument("--size", type=int, default=256, help="side of a tile (%(default)s)")
            text = "pixels between two tiles (%(default)s)"
            kind.add_argument("--stride", type=int, default=206, help=text)
    kind = kinds.choices["own"]
    text = "text file, a line an id or #colour and a name: '1 road', '#ff0000 roof', '255 ignore'"
    kind.add_argument("--classes", type=Path, required=True, help=text)
    kind.add_argument("--folds", type=int, default=3, help="folds of classes (%(default)s)")
    text = "share of the images for validation and test (%(default)s)"
    kind.add_argument("--val-share", type=float, default=0.3, help=text)
    text = "which images these are: a folder in --images, or a file with a line for each name"
    kind.add_argument("--val", type=Path, help=text)
    text = "write the lists of a tree that is there and whose benchmark.json says what it is"
    kind = kinds.add_parser("lists", help=text, description=text)
    kind.add_argument("--root", type=Path, required=True, help="data root, with benchmark.json")
    kind.add_argument("--lists-dir", type=Path, help="where the lists go (<root>/splits)")
    _add_common(kind)
    return parser


def _add_common(kind: argparse.ArgumentParser) -> None:
    text = "pixels of a class that list an image for it (%(default)s)"
    kind.add_argument("--min-pixels", type=int, default=MIN_PIXELS, help=text)
    kind.add_argument("--dry-run", action="store_true", help="count, write nothing")
    console.add_quiet(kind)
