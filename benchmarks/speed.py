"""Times and memory of this program beside the definitional version, measured in alternation.

    python -m benchmarks.speed [--json FILE] [--quick] [--rounds N] [--only WORD]

Rows with a floor give the time of the library's backbone alone, in channels-last layout, on the
same images. All of them run with the allocator that this program sets (`mgcl.allocator`).
The logits of both programs are compared before anything is timed.
"""

import argparse
import itertools
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import programs
from benchmarks.clock import Timing, alternate
from benchmarks.inputs import Inputs, episodes
from benchmarks.loading import cores, disk_bytes, loaders, write_tree
from benchmarks.memory import peak_mib
from benchmarks.networks import Pair, backbone_step, build_floor, build_pair, training_steps
from mgcl.device import keep_freed_memory
from mgcl.files import write_json

TOLERANCE = 1e-5  # relative difference of norms of the logits


class Row(NamedTuple):
    """One line of the table; the smaller number is the better one."""

    name: str
    unit: str
    reference: Timing
    ours: Timing
    floor: Timing | None = None


def check_same(pair: Pair, inputs: Inputs) -> float:
    """Relative difference of the norms of both programs' logits; too large an one is an error."""
    with torch.inference_mode():
        ours, reference = pair.ours(*inputs.ours()), pair.reference(*inputs.reference())
    difference = float((ours - reference).norm() / reference.norm())
    if not difference <= TOLERANCE:
        raise SystemExit(f"the logits differ by {difference:.1e}, more than {TOLERANCE}")
    return difference


def inferring(run: Callable[..., object], *args: Any) -> Callable[[], object]:
    """`run(*args)` in inference mode."""

    def call() -> object:
        with torch.inference_mode():
            return run(*args)

    return call


def inference_row(pair: Pair, name: str, inputs: Inputs, rounds: int) -> Row:
    """K-shot inference and, as its floor, the backbone on query and supports."""
    shots = inputs.supports.transpose(0, 1).flatten(0, 1)
    images = torch.cat([inputs.query, shots])
    times = alternate(
        {
            "reference": inferring(pair.reference, *inputs.reference()),
            "ours": inferring(pair.ours, *inputs.ours()),
            "floor": inferring(build_floor(pair), images),
        },
        rounds,
    )
    return Row(name, "s", times["reference"], times["ours"], times["floor"])


def training_row(pair: Pair, name: str, inputs: Inputs, rounds: int) -> Row:
    """A training step and, as its floor, the backbone's forward and backward."""
    ours, reference = training_steps(pair, inputs)
    floor = backbone_step(build_floor(pair), inputs)
    times = alternate({"reference": reference, "ours": ours, "floor": floor}, rounds)
    return Row(name, "s", times["reference"], times["ours"], times["floor"])


def head_rows(pair: Pair, name: str, inputs: Inputs, rounds: int) -> Iterator[Row]:
    """The head alone on fixed features: forward, and forward and backward."""
    with torch.no_grad():
        feats = pair.ours.backbone(torch.cat([inputs.query, inputs.supports[:, 0]]))
    query, support = zip(*(f.split(len(inputs.query)) for f in feats), strict=True)
    plain = [[f.contiguous() for f in side] for side in (query, support)]
    _, query_masks, _, labels, masks = inputs.reference()
    sides: dict[str, tuple[Any, tuple]] = {
        "reference": (
            pair.reference.segmentation_head,
            (*plain, labels[:, 0], query_masks, masks[:, 0]),
        ),
        "ours": (
            pair.ours.segmentation_head,
            (query, support, labels[:, 0], inputs.query_map, inputs.maps[:, 0]),
        ),
    }
    forward = {k: inferring(head, *args) for k, (head, args) in sides.items()}
    times = alternate(forward, rounds)
    yield Row(f"{name}, forward", "s", times["reference"], times["ours"])
    both = {k: _forward_backward(head, args) for k, (head, args) in sides.items()}
    times = alternate(both, rounds)
    yield Row(f"{name}, forward and backward", "s", times["reference"], times["ours"])


def _forward_backward(head: torch.nn.Module, args: tuple) -> Callable[[], object]:
    leaves = [[f.detach().clone().requires_grad_() for f in side] for side in args[:2]]

    def call() -> None:
        head.zero_grad()
        for leaf in (*leaves[0], *leaves[1]):
            leaf.grad = None
        head(*leaves, *args[2:]).square().mean().backward()

    return call


def loader_rows(batch: int, count: int, rounds: int) -> Iterator[Row]:
    """Seconds an episode of the loader, and bytes an image of the mask store."""
    with tempfile.TemporaryDirectory() as folder:
        tree = write_tree(Path(folder), images=count)
        for workers, cached in itertools.product((0, 2), (False, True)):
            runs = loaders(tree, batch=batch, episodes=count, workers=workers, cached=cached)
            times = alternate(runs, rounds, seconds=0)
            each = {k: Timing(*(x / count for x in t)) for k, t in times.items()}
            epoch = "a later epoch" if cached else "the first epoch"
            name = f"loader, {workers} workers, an episode of {epoch}"
            yield Row(name, "s", each["reference"], each["ours"])
        ours, reference = disk_bytes(tree)
        yield Row("masks on disk, an image", "bytes", _exact(reference), _exact(ours))


def program_rows(rounds: int, *, images: int = 48, count: int = 8) -> Iterator[Row]:
    """Whole tests of a fold with as many images as episodes, and a step of the demo's training.

    Seconds an episode; the reference is given the first `count` alone, as it takes minutes.
    """
    for backbone, size, shots in [
        ("resnet50", 256, 5),
        ("resnet50", 256, 1),
        ("efficientnet_lite0", 256, 5),
        ("efficientnet_lite0", 256, 1),
    ]:
        with tempfile.TemporaryDirectory() as folder:
            fold = programs.Fold(write_tree(Path(folder), images=images, size=size), shots, size)
            pair = build_pair(backbone)
            found = [programs.seconds_each(pair, fold, count) for _ in range(rounds)]
        reference, ours, off = zip(*found, strict=True)
        name = f"test, {shots}-shot, {backbone}, {size} px, {images} episodes of {images} images"
        print(f"{name}: an episode's IoU differs by {max(off):.1e} at most", file=sys.stderr)
        yield Row(name, "s an episode", _summary(reference), _summary(ours))
    with tempfile.TemporaryDirectory() as folder:
        steps = programs.frozen_steps(write_tree(Path(folder), images=images, size=128))
        for _ in range(images // 8 + 1):  # all images are encoded, and decoded, once
            for run in steps.values():
                next(run)
        runs = {name: partial(next, run) for name, run in steps.items()}
        times = alternate(runs, 10 * rounds, seconds=0)
        yield Row("demo training step (reference: images)", "s", times["anew"], times["kept"])


def _summary(values: Sequence[float]) -> Timing:
    return Timing(statistics.median(values), min(values), max(values), 0.0)


def memory_row(backbone: str, batch: int, size: int) -> Row:
    """Peak memory of a training step, each program in its own process."""
    reference, ours = (peak_mib(p, backbone, batch, size) for p in ("reference", "ours"))
    name = f"training step, peak memory, {backbone}, batch {batch}, {size} px"
    return Row(name, "MiB", _exact(reference), _exact(ours))


def _exact(value: float) -> Timing:
    return Timing(value, value, value, value)


def network_rows(backbone: str, batch: int, size: int, rounds: int) -> Iterator[Row]:
    """Everything that runs a network of one backbone at one image size."""
    pair = build_pair(backbone)
    what = f"{backbone}, batch {batch}, {size} px"
    inputs = episodes(batch, 1, size)
    print(f"{what}: logits differ by {check_same(pair, inputs):.1e}", file=sys.stderr)
    yield from head_rows(pair, f"head alone, {what}", inputs, rounds)
    yield inference_row(pair, f"1-shot, {what}", inputs, rounds)
    yield inference_row(pair, f"5-shot, {what}", episodes(batch, 5, size), rounds)
    if batch > 1:
        yield training_row(pair, f"training step, {what}", inputs, rounds)


def all_rows(quick: bool, only: str, rounds: int) -> Iterator[Row]:
    """The whole table; `quick` keeps one small case of each kind."""
    cases = [("resnet50", 8, 256), ("resnet50", 1, 256)]
    cases += [("efficientnet_lite0", 8, 256), ("efficientnet_lite0", 8, 128)]
    cases += [("efficientnet_lite0", 1, 256)]
    for backbone, batch, size in [("resnet50", 2, 128)] if quick else cases:
        if only in f"{backbone} {batch} {size}":
            yield from network_rows(backbone, batch, size, rounds)
    if only in "programs":
        yield from program_rows(rounds, **({"images": 32, "count": 2} if quick else {}))
    if only in "memory":
        yield memory_row("resnet50", *((2, 128) if quick else (8, 256)))
    if only in "loader":
        yield from loader_rows(batch=8, count=16 if quick else 64, rounds=rounds)


def line(row: Row) -> str:
    """A row as Markdown: medians, ratio, spread (lowest to highest), floor."""
    digits = "{:.4g}".format
    spread = "; ".join(f"{digits(t.low)}–{digits(t.high)}" for t in (row.reference, row.ours))
    floor = (
        f"{digits(row.floor.median)} | {row.ours.median / row.floor.median:.2f}×"
        if row.floor
        else " | "
    )
    ratio = row.reference.median / row.ours.median
    return (
        f"| {row.name} ({row.unit}) | {digits(row.reference.median)} | "
        f"{digits(row.ours.median)} | **{ratio:.2f}×** | {spread} | {floor} |"
    )


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--quick", action="store_true", help="one small case of each kind")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each case")
    parser.add_argument("--only", default="", help="part of a case, as programs or loader")
    options = parser.parse_args()
    keep_freed_memory()
    machine = f"{cores()} cores ({platform.machine()}), torch {torch.__version__}, "
    machine += f"{torch.get_num_threads()} threads, float32"
    print(f"{machine}\n")
    print("| | reference | ours | ratio | spread (reference; ours) | floor | ours / floor |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for row in all_rows(options.quick, options.only, 1 if options.quick else options.rounds):
        print(line(row), flush=True)
        rows.append(row)
    if options.json:
        figures = [
            {k: v._asdict() if isinstance(v, Timing) else v for k, v in row._asdict().items()}
            for row in rows
        ]
        write_json(options.json, {"machine": machine, "rows": figures})


if __name__ == "__main__":
    main()
