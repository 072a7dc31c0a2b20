"""Make a benchmark's tree from what can be downloaded, or from one's own images.

    python -m mgcl.datasets.prepare isaid --images DIR --labels DIR --to data/isaid
    python -m mgcl.datasets.prepare dlrsd --images DIR --labels DIR --to data/dlrsd
    python -m mgcl.datasets.prepare own --images DIR --labels DIR --classes FILE --to data/own

A tile (or a UC Merced image) is listed for each class that it shows with at least `--min-pixels`
pixels. Run it again after an interruption: it makes what is missing. `--dry-run` counts only.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from ..files import write_bytes
from ..imagefile import SUFFIXES, read_image
from . import own
from .benchmarks import BENCHMARKS, SPLITS, Benchmark
from .images import read_label
from .lists import Entry, write_lists
from .tiles import LABEL_SUFFIX, Cut, Picture, class_pixels, count_tiles, cut_picture, image_name

BYTES_A_PIXEL = 2.5  # of a tile with its label as PNG, measured on aerial images


class Made(NamedTuple):
    """What became of one picture: its split, and class id -> pixels of each tile, or an error."""

    split: str
    tiles: dict[str, dict[int, int]]
    error: str | None


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns 0, or 1 if anything could not be prepared."""
    args = _parser().parse_args(argv)
    try:
        return _prepare(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _prepare(args: argparse.Namespace) -> int:
    benchmark, make, pictures = _plan(args)
    cut = None if args.benchmark == "dlrsd" else Cut(args.size, args.stride)
    _tell_plan(args.to, pictures, cut)
    if args.dry_run:
        return 0
    if args.benchmark == "own":
        own.write_benchmark(args.to, benchmark)
    made = list(tqdm(_map(make, pictures), total=len(pictures), unit="image", disable=None))
    entries = _entries(made, args.min_pixels)
    if args.benchmark == "dlrsd":
        entries = [entry._replace(split=split) for split in SPLITS for entry in entries]
    write_lists(benchmark, args.to / "splits", entries)
    return _tell_result(made, entries, benchmark)


def _plan(
    args: argparse.Namespace,
) -> tuple[Benchmark, Callable[[Picture], Made], list[Picture]]:
    """The benchmark, what to do with each picture, and the pictures."""
    if args.benchmark == "dlrsd":
        pictures = find_pictures(args.images, args.labels, lambda path: "train")
        return BENCHMARKS["dlrsd"], partial(_lay_out, root=args.to), pictures
    if args.stride < 1 or args.size < 1:
        raise ValueError(f"--size {args.size} --stride {args.stride}: both must be at least 1")
    if args.benchmark == "isaid":
        benchmark = BENCHMARKS["isaid"]
        pictures = find_pictures(args.images, args.labels, split_of_folder)
        read_ids: Callable[[Path], np.ndarray] = partial(read_label, benchmark=benchmark)
    else:
        table = own.read_classes(args.classes)
        benchmark = own.make_benchmark(table, args.folds)
        split_of = partial(own.split_by_name, val_share=args.val_share)
        pictures = find_pictures(args.images, args.labels, split_of)
        read_ids = partial(own.read_ids, table=table)
    cut = Cut(args.size, args.stride)
    make = partial(_cut, benchmark=benchmark, root=args.to, cut=cut, read_ids=read_ids)
    return benchmark, make, pictures


def find_pictures(images: Path, labels: Path, split_of: Callable[[Path], str]) -> list[Picture]:
    """Pair every image below a folder with its label below another, by split and name.

    Raises:
        ValueError: no image, an image without label, or two files of the same split and name.
    """
    suffixed_last = sorted(_files(labels), key=lambda p: p.stem.endswith(LABEL_SUFFIX))
    by_name = {(split_of(p), image_name(p)): p for p in suffixed_last}
    plain = [p for p in _files(images) if p.stem == image_name(p)]
    pictures = [Picture(split_of(p), p.stem, p, Path()) for p in plain]
    if not pictures:
        raise ValueError(f"no image below {images}")
    missing = [p for p in pictures if p[:2] not in by_name]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(pictures)} images have no label below {labels}, the first is "
            f"{missing[0].image}: a label is NAME.png or NAME{LABEL_SUFFIX}.png"
        )
    twice = [key for key, count in Counter(p[:2] for p in pictures).items() if count > 1]
    if twice:
        raise ValueError(f"two images of {twice[0][0]} have the name {twice[0][1]}: rename one")
    return [p._replace(label=by_name[p[:2]]) for p in pictures]


def split_of_folder(path: Path) -> str:
    """The split of a file: the innermost folder named train or val."""
    for part in reversed(path.parts[:-1]):
        if part in SPLITS:
            return part
    raise ValueError(f"{path} lies in no folder train or val: iSAID's images come in these two")


def _files(folder: Path) -> list[Path]:
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    return sorted(p for p in found if not p.stem.endswith("_instance_id_RGB"))


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
            raise ValueError(f"{picture.image} and {picture.label} differ in size")
        for source, target in (
            (picture.image, dlrsd.image_path(root, "train", name)),
            (picture.label, dlrsd.label_path(root, "train", name)),
        ):
            if source.suffix.lower() != target.suffix:
                raise ValueError(f"{source} must be a {target.suffix} file")
            if not (target.exists() and target.stat().st_size == source.stat().st_size):
                write_bytes(target, source.read_bytes())
    except (ValueError, OSError) as error:
        return Made("train", {}, str(error))
    classes = range(len(dlrsd.class_names))
    pixels = {c: n for c, n in class_pixels(ids).items() if c in classes}
    return Made("train", {name: pixels}, None)


def _map(make: Callable[[Picture], Made], pictures: list[Picture]) -> Iterator[Made]:
    processes = min(os.cpu_count() or 1, len(pictures) // 4 + 1)
    if processes == 1:
        yield from map(make, pictures)
        return
    with multiprocessing.Pool(processes, initializer=cv2.setNumThreads, initargs=(0,)) as pool:
        yield from pool.imap(make, pictures)


def _entries(made: list[Made], min_pixels: int) -> list[Entry]:
    return [
        Entry(picture.split, name, class_id)
        for picture in made
        for name, pixels in picture.tiles.items()
        for class_id, count in pixels.items()
        if count >= min_pixels
    ]


def _tell_plan(root: Path, pictures: list[Picture], cut: Cut | None) -> None:
    splits = Counter(picture.split for picture in pictures)
    print(f"{len(pictures)} images: " + ", ".join(f"{n} {split}" for split, n in splits.items()))
    if cut is None:
        size = sum(p.image.stat().st_size + p.label.stat().st_size for p in pictures)
    else:
        tiles = sum(count_tiles(p, cut) for p in tqdm(pictures, unit="header", disable=None))
        size = round(tiles * cut.size**2 * BYTES_A_PIXEL)
        print(f"at most {tiles} tiles of {cut.size} px, every {cut.stride} px")
    existing = next(p for p in (root.absolute(), *root.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    print(f"at most {size / 1e6:.0f} MB in {root}, where {free / 1e6:.0f} MB are free")
    if size > free:
        print("warning: this may not fit", file=sys.stderr)


def _tell_result(made: list[Made], entries: list[Entry], benchmark: Benchmark) -> int:
    tiles = [pixels for picture in made for pixels in picture.tiles.values()]
    empty = sum(not pixels for pixels in tiles)
    print(f"{len(tiles) - empty} images with a class, {empty} of background alone")
    counts = Counter((entry.split, entry.class_id) for entry in entries)
    for class_id, name in enumerate(benchmark.class_names):
        listed = ", ".join(f"{counts[split, class_id]} {split}" for split in SPLITS)
        print(f"  {class_id + 1:3} {name}: {listed}")
    errors = [picture.error for picture in made if picture.error]
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    return 1 if errors else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mgcl.datasets.prepare",
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
        text = "pixels of a class that list an image for it (%(default)s)"
        kind.add_argument("--min-pixels", type=int, default=1024, help=text)
        kind.add_argument("--dry-run", action="store_true", help="count, write nothing")
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
    return parser


if __name__ == "__main__":
    sys.exit(main())
