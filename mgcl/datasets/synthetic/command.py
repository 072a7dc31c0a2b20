"""Procedural aerial scenes in the tree of a real benchmark, for the demo and the tests.

    python -m mgcl.datasets.synthetic --to DIR [--train 450 --val 225 --size 256 --seed 0]

Fifteen kinds of objects (ids and names of iSAID-5i) stand on varied ground among unlabelled
clutter. With `--benchmark dlrsd` the same scenes lie in DLRSD's tree under its ids 1 to 15.
"""

import argparse
import io
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mgcl import console
from mgcl.datasets.benchmarks import BENCHMARKS, SPLITS, Benchmark
from mgcl.datasets.lists import Entry, write_lists
from mgcl.datasets.origin import write_origin
from mgcl.datasets.synthetic.objects import KINDS
from mgcl.datasets.synthetic.scenes import MIN_SHARE, paint_scene
from mgcl.files import write_bytes
from mgcl.images.write import write_png
from mgcl.workers import in_processes, processes_for

_SCENES = (  # the folders of UC Merced
    "agricultural", "airplane", "baseballdiamond", "beach", "buildings", "chaparral",
    "denseresidential", "forest", "freeway", "golfcourse", "harbor", "intersection",
    "mediumresidential", "mobilehomepark", "overpass", "parkinglot", "river", "runway",
    "sparseresidential", "storagetanks", "tenniscourt",
)  # fmt: skip


def write_synthetic(
    root: str | os.PathLike[str],
    *,
    train_images: int,
    val_images: int,
    size: int = 256,
    seed: int = 0,
    benchmark: str = "isaid",
    processes: int | None = None,
) -> Path:
    """Write scenes, labels and lists in a benchmark's tree; returns the root.

    Each class is the subject of every 15th scene. Train and val differ for iSAID; for DLRSD they
    share all images, as there.
    """
    record = BENCHMARKS[benchmark]
    tasks = list(_tasks(Path(root), record, train_images, val_images, size, seed))
    entries: list[Entry] = []
    processes = processes or processes_for(len(tasks) // 2)
    work = in_processes(_write_scene, tasks, processes=processes, at_once=4)
    for found in console.progress(work, total=len(tasks), unit="scene"):
        entries += found
    if benchmark == "dlrsd":
        entries = [entry._replace(split=split) for split in SPLITS for entry in entries]
    write_lists(record, Path(root) / "splits", entries)
    facts = {"train_images": train_images, "val_images": val_images, "size": size, "seed": seed}
    write_origin(root, "synthetic scenes", made_by="mgcl.datasets.synthetic", **facts)
    return Path(root)


_Task = tuple[Path, Benchmark, str, str, int, int, tuple[int, ...]]


def _tasks(
    root: Path, record: Benchmark, train_images: int, val_images: int, size: int, seed: int
) -> Iterator[_Task]:
    for part, (split, count) in enumerate(zip(SPLITS, (train_images, val_images), strict=True)):
        for i in range(count):
            name = _uc_merced_name(part * train_images + i) if record.cycle_classes else (
                _patch_name(i, part, size)
            )  # fmt: skip
            yield root, record, split, name, size, i % len(KINDS), (seed, part, i)


def _patch_name(index: int, part: int, size: int) -> str:
    """Nine overlapping windows of an imagined large image each, as P0003_0_256_206_462."""
    image, window = divmod(index, 9)
    y, x = (size * 206 // 256 * step for step in divmod(window, 3))
    return f"P{2 * image + part:04d}_{y}_{y + size}_{x}_{x + size}"


def _uc_merced_name(index: int) -> str:
    if index >= 100 * len(_SCENES):
        raise ValueError(f"{index + 1} scenes: DLRSD's tree holds at most {100 * len(_SCENES)}")
    return f"{_SCENES[index % len(_SCENES)]}{index // len(_SCENES):02d}"


def _write_scene(task: _Task) -> list[Entry]:
    root, record, split, name, size, class_id, key = task
    image, label = paint_scene(size, class_id, *key)
    image_path = record.image_path(root, split, name)
    if image_path.suffix == ".tif":
        _write_tiff(image_path, image)
    else:
        write_png(image_path, image, level=1, durable=False)
    write_png(record.label_path(root, split, name), label, level=1, durable=False)
    shares = np.bincount(label.ravel(), minlength=len(KINDS) + 1)[1:] / label.size
    return [Entry(split, name, int(c)) for c in np.flatnonzero(shares >= MIN_SHARE)]


def _write_tiff(path: Path, picture: np.ndarray) -> None:
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "TIFF")
    write_bytes(path, encoded.getvalue())


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns 0."""
    parser = argparse.ArgumentParser(
        prog=console.called("python -m mgcl.datasets.synthetic"),
        description=(__doc__ or "").splitlines()[0],
    )
    parser.add_argument("--to", type=Path, required=True, help="folder to write the tree into")
    parser.add_argument("--train", type=int, default=450, help="training scenes (%(default)s)")
    parser.add_argument("--val", type=int, default=225, help="validation scenes (%(default)s)")
    parser.add_argument("--size", type=int, default=256, help="side in pixels (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="other scenes for another seed")
    parser.add_argument("--benchmark", choices=sorted(BENCHMARKS), default="isaid")
    console.add_quiet(parser)
    args = parser.parse_args(argv)
    console.set_quiet(args.quiet)
    started = time.perf_counter()
    write_synthetic(
        args.to,
        train_images=args.train,
        val_images=args.val,
        size=args.size,
        seed=args.seed,
        benchmark=args.benchmark,
    )
    count = args.train + args.val
    console.say(f"{count} scenes in {time.perf_counter() - started:.1f} s: {args.to}")
    return console.DONE
