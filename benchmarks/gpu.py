"""What this program does on a GPU: the same numbers as the CPU's, and how fast.

    python -m benchmarks.gpu [--to FOLDER] [--seconds 280] [--only speed query ...]

Writes gpu.json and gpu.md: the device; logits, loss and gradients against the CPU; training steps
and inference at several batches in float32, TF32 and bfloat16, compiled or not; peak memory; one
query by a kept support; the share of the loader; host syncs of a step; NCCL with one process;
deterministic training twice; mask extraction. Random weights, ResNet-50, 256 px. What fails or
finds no time any more says so. Exit status: 0 done, 1 a number is wrong, 2 there is no GPU.
"""

import argparse
import copy
import os
import platform
import socket
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from benchmarks import one_query
from benchmarks.inputs import Inputs, episodes
from benchmarks.loading import loaders, write_tree
from benchmarks.masks import picture, random_sam
from mgcl import console
from mgcl.datasets.episodes import Episode
from mgcl.device import make_reproducible
from mgcl.engine.forward import Setup
from mgcl.engine.meter import EpochMeter
from mgcl.engine.optim import build_optimizer
from mgcl.engine.training import add_gradients
from mgcl.files import write_json, write_text
from mgcl.masks.sam import SamMaskGenerator, SamSettings
from mgcl.model.network import MGCL, build_model

BATCHES = (1, 8, 16, 64)
COMPILED = 16  # the batch that is also compiled
PRECISIONS = ("float32", "tf32", "bf16")
TOLERANCE = 1e-4  # relative, of float32 without TF32, against the CPU
CPU = torch.device("cpu")


class Row(NamedTuple):
    """One figure."""

    what: str
    value: float | str
    unit: str = ""
    right: bool = True
    """False where it had to be another."""


class Case(NamedTuple):
    """What is measured on."""

    device: torch.device
    backbone: str = "resnet50"
    size: int = 256
    repeats: int = 10


@contextmanager
def arithmetic(precision: str) -> Iterator[str]:
    """TF32 on for "tf32", off otherwise; gives the precision of the set-up."""
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = precision == "tf32"
    try:
        yield "bf16" if precision == "bf16" else "float32"
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def batch_of(inputs: Inputs) -> Episode:
    """A batch of 1-shot episodes of the loader's form."""
    numbers = torch.arange(len(inputs.query))
    return Episode(
        inputs.query, inputs.query_label, inputs.query_map, inputs.supports, inputs.labels,
        inputs.maps, numbers % 3, numbers,
    )  # fmt: skip


def network(case: Case, device: torch.device | None = None) -> MGCL:
    """The same random weights each time."""
    torch.manual_seed(0)
    return build_model(case.backbone, "none").to(device or case.device).train()


def training_step(case: Case, model: Any, batch: Episode, precision: str) -> Callable[[], Any]:
    """A step as `train_one_epoch` does it, but for the looks at the loss."""
    setup = Setup(case.device, precision)
    optimizer = build_optimizer("sgd", model, lr=1e-6, momentum=0.9, weight_decay=5e-4)
    meter = EpochMeter((0, 1, 2), case.device)

    def step() -> None:
        moved = setup.move(batch)
        optimizer.zero_grad(set_to_none=True)
        loss, margin = add_gradients(model, moved, setup=setup, loss="ce", passes=1)
        optimizer.step()
        labels = moved.labels
        meter.add(loss, margin, labels.query, labels.class_ids, batch.labels.episode_ids)

    return step


def seconds(case: Case, run: Callable[[], Any]) -> float:
    """Median of some calls, after three that warm up."""
    for _ in range(3):
        run()
    times = []
    for _ in range(case.repeats):
        synchronize(case.device)
        began = time.perf_counter()
        run()
        synchronize(case.device)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_rows(case: Case) -> Iterator[Row]:
    """Device and versions."""
    if case.device.type == "cuda":
        card = torch.cuda.get_device_properties(case.device)
        yield Row("device", card.name)
        yield Row("memory", card.total_memory / 2**30, "GiB")
        yield Row("capability", f"{card.major}.{card.minor}, {card.multi_processor_count} units")
    yield Row("torch", f"{torch.__version__}, CUDA {torch.version.cuda}, {platform.platform()}")


def agreement_rows(case: Case, batch: int = 2) -> Iterator[Row]:
    """Logits, loss and gradients of one batch, relative to the CPU's (norms)."""
    episode = batch_of(episodes(batch, 1, case.size))
    expected = outcome(case, CPU, episode, "float32")
    for precision in PRECISIONS:
        with arithmetic(precision) as of_setup:
            found = outcome(case, case.device, episode, of_setup)
        for name, one, other in zip(("logits", "loss", "gradients"), found, expected, strict=True):
            off = float((one - other).norm() / other.norm())
            right = precision != "float32" or off <= TOLERANCE
            yield Row(f"{name}, {precision}, against the CPU", off, "relative", right)


def outcome(
    case: Case, device: torch.device, episode: Episode, precision: str
) -> tuple[torch.Tensor, ...]:
    """Margins, loss and gradients of a batch, on the CPU in float64."""
    model, setup = network(case, device), Setup(device, precision)
    loss, margin = add_gradients(model, setup.move(episode), setup=setup, loss="ce", passes=1)
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return tuple(x.detach().double().cpu() for x in (margin, loss, torch.cat(gradients)))


def speed_rows(
    case: Case, batches: Sequence[int] = BATCHES, compile_it: bool = False
) -> Iterator[Row]:
    """Training steps and inference, and the peak memory of each."""
    for batch in batches:
        episode = batch_of(episodes(batch, 1, case.size))
        for precision in PRECISIONS:
            words = f"batch {batch}, {precision}{', compiled' * compile_it}"
            with arithmetic(precision) as of_setup:
                yield from measured(case, words, episode, of_setup, compile_it)


def compiled_rows(case: Case) -> Iterator[Row]:
    """The same with `train.compile`, which takes a minute each."""
    return speed_rows(case, [COMPILED], compile_it=True)


def measured(
    case: Case, words: str, episode: Episode, precision: str, compile_it: bool
) -> Iterator[Row]:
    """One training step and one inference of a batch."""
    model: Any = network(case)
    run: Any = torch.compile(model, dynamic=False) if compile_it else model
    setup, moved = Setup(case.device, precision), Setup(case.device).move(episode)
    count = len(episode.query_image)

    @torch.inference_mode()
    def infer() -> None:
        setup.forward(run, moved)

    programs = {"training step": training_step(case, run, episode, precision), "inference": infer}
    for name, program in programs.items():
        if case.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(case.device)
        try:
            took = seconds(case, program)
        except torch.cuda.OutOfMemoryError:
            yield Row(f"{name}, {words}", "the memory is full")
            continue
        yield Row(f"{name}, {words}", 1000 * took, "ms")
        yield Row(f"{name}, {words}", count / took, "episodes/s")
        if case.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(case.device) / 2**30
            yield Row(f"{name}, {words}, peak memory", peak, "GiB")


def query_rows(case: Case) -> Iterator[Row]:
    """One query by a kept support: how long, and how far the logits are from the CPU's."""
    inputs = episodes(1, 1, case.size)
    here = Inputs(*(x.to(case.device) for x in inputs))
    for name, model in one_query.networks(case.backbone).items():
        expected = one_query.candidates(copy.deepcopy(model), inputs)["kept"]()
        with arithmetic("float32"):
            kept = one_query.candidates(copy.deepcopy(model).to(case.device), here)["kept"]
            off = float((kept().cpu() - expected).norm() / expected.norm())
            yield Row(f"one query, {name}, against the CPU", off, "relative", off <= TOLERANCE)
            yield Row(f"one query, {name}", 1000 * seconds(case, kept), "ms")


def loader_rows(case: Case, batch: int = 16, images: int = 64, workers: int = 4) -> Iterator[Row]:
    """Seconds of the loader beside those of the step that it feeds."""
    with tempfile.TemporaryDirectory() as folder:
        tree = write_tree(Path(folder), images=images, size=case.size)
        how = {"batch": batch, "episodes": images, "workers": workers, "size": case.size}
        for cached, epoch in ((False, "first epoch"), (True, "later epochs")):
            load = loaders(tree, cached=cached, **how)["ours"]
            load()
            began = time.perf_counter()
            load()
            each = (time.perf_counter() - began) / images
            step = training_step(
                case, network(case), batch_of(episodes(batch, 1, case.size)), "float32"
            )
            share = each / (seconds(case, step) / batch)
            yield Row(f"loader, {workers} workers, {epoch}: an episode", 1000 * each, "ms")
            yield Row(f"loader, {epoch}: of the step's time", 100 * share, "%")


def sync_rows(case: Case, batch: int = 4) -> Iterator[Row]:
    """How often the host waits for the device in a training step; it must not."""
    step = training_step(case, network(case), batch_of(episodes(batch, 1, case.size)), "float32")
    step()
    synchronize(case.device)
    if case.device.type == "cuda":
        torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            step()
    finally:
        if case.device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    count = sum("synchroniz" in str(warning.message) for warning in said)
    yield Row("host syncs in a training step", count, "", right=count == 0)


def group_rows(case: Case) -> Iterator[Row]:
    """A process group of one (NCCL on a GPU): a sum comes back as it went."""
    backend = "nccl" if case.device.type == "cuda" else "gloo"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dist.init_process_group(backend, init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    try:
        values = torch.arange(1024, dtype=torch.float32, device=case.device)
        summed = values.clone()
        dist.all_reduce(summed)
        same = torch.equal(summed, values)
    finally:
        dist.destroy_process_group()
    yield Row(f"{backend}, one process", "the same" if same else "not the same", right=same)


def deterministic_rows(case: Case, batch: int = 4, steps: int = 5) -> Iterator[Row]:
    """Two seeded trainings with `train.deterministic`: the same weights to the bit."""
    found = []
    for _ in range(2):
        make_reproducible(0, deterministic=True)
        model = network(case)
        step = training_step(case, model, batch_of(episodes(batch, 1, case.size)), "float32")
        for _ in range(steps):
            step()
        found.append(torch.cat([p.detach().flatten().cpu() for p in model.parameters()]))
    make_reproducible(0)
    same = torch.equal(*found)
    yield Row("deterministic training, twice", "the same" if same else "not the same", right=same)


def mask_rows(
    case: Case,
    models: Sequence[str] = ("vit_b", "vit_h"),
    batches: Sequence[int] = (1, 4, 8),
    points: int = 32,
) -> Iterator[Row]:
    """Images a second of Segment Anything with random weights, half of whose masks pass."""
    for model in models:
        sam = random_sam(model).to(case.device)
        for precision in ("float32", "bf16"):
            for batch in batches:
                settings = SamSettings(points, 1e-6, 0.5, 0.001, 1.0)
                generator = SamMaskGenerator(sam, settings, precision=precision, image_batch=batch)
                images = [picture()] * batch
                generator.many(images)
                synchronize(case.device)
                began = time.perf_counter()
                generator.many(images)
                synchronize(case.device)
                speed = batch / (time.perf_counter() - began)
                yield Row(f"masks, {model}, {precision}, batch {batch}", speed, "images/s")


SECTIONS: dict[str, Callable[[Case], Iterator[Row]]] = {
    "device": device_rows,
    "agreement": agreement_rows,
    "syncs": sync_rows,
    "group": group_rows,
    "deterministic": deterministic_rows,
    "query": query_rows,
    "speed": speed_rows,
    "loader": loader_rows,
    "masks": mask_rows,
    "compiled": compiled_rows,
}


def measure(case: Case, limit: float, sections: Sequence[str] = (*SECTIONS,)) -> Iterator[Row]:
    """The rows of all sections; after `limit` seconds no further one is begun.

    A section that raises ends with a row that says so, and the next begins.
    """
    until = time.monotonic() + limit
    for name in sections:
        rows = SECTIONS[name](case)
        while time.monotonic() < until:
            try:
                row = next(rows, None)
            except Exception as error:
                traceback.print_exc()
                row = Row(f"the rest of {name}", f"{type(error).__name__}: {error}", right=False)
            if row is None:
                break
            yield row
        else:
            yield Row(f"the rest of {name}", "not measured: the time is over")


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    lines = ["| | | |", "|---|---|---|"]
    for row in rows:
        value = " ".join(row.value.split()) if isinstance(row.value, str) else f"{row.value:.4g}"
        lines.append(f"| {row.what} | {value}{'' if row.right else ' **(wrong)**'} | {row.unit} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--to", type=Path, default=Path("runs/gpu"), help="folder to write")
    parser.add_argument("--seconds", type=float, default=280, help="no row is begun after these")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=[*SECTIONS], help="parts")
    options = parser.parse_args(argv)
    if not torch.cuda.is_available():
        console.fail("PyTorch finds no CUDA device here: nothing was measured")
        return console.USAGE
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first product
    rows = []
    for row in measure(Case(torch.device("cuda", 0)), options.seconds, options.only):
        rows.append(row)
        console.say(markdown([row]).splitlines()[-1])
    options.to.mkdir(parents=True, exist_ok=True)
    write_json(options.to / "gpu.json", {"rows": [row._asdict() for row in rows]})
    write_text(options.to / "gpu.md", markdown(rows))
    console.say(f"wrote {options.to / 'gpu.json'} and gpu.md")
    return console.DONE if all(row.right for row in rows) else console.WRONG


if __name__ == "__main__":
    sys.exit(console.run(main))
