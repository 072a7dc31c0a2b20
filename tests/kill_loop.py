"""A small training, killed at random moments and started again until it is done.

    python -m tests.kill_loop --kills 20

Killed or not, it must end with the same weights to the bit and the same log. With `--processes 2`
the training runs under torchrun, and all of its processes are killed together.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import main_1_mgcl_train as main_1
import mgcl.train.run  # imported once, for all the processes that are forked
from mgcl import checkpoint
from mgcl.datasets.synthetic.command import write_synthetic
from tests.small_run import REPOSITORY, TRAIN, records, words

JOB = {  # three epochs of five steps, of which the last is the smaller
    "masks_generator": "none",
    "train_epochs": 3,
    "train_episodes_per_epoch": 9,
    "train_log_every": 3,
    "train_save_every": 2,
    "train_resume": "auto",
}
SPEEDS = {"images_per_second"}


def start(root: Path, folder: Path, processes: int = 1, frozen: bool = False) -> int:
    """Start the training; the id of its process, or of its group under torchrun."""
    line = words(root, root, folder, **JOB, train_freeze_backbone=str(frozen).lower())
    if processes == 1:
        return fork(lambda: main_1.main(line))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
    return subprocess.Popen(
        [*torchrun, TRAIN, *line],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ).pid


def fork(program: Callable[[], int]) -> int:
    """Run a program in a silent process of its own, which starts with all imports made."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        status = program()
    finally:
        os._exit(status)


def ended(pid: int) -> int | None:
    """Exit status of a process, None while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def wait(pid: int, seconds: float) -> int | None:
    """As `ended`, after waiting for at most some seconds."""
    deadline = time.monotonic() + seconds
    while (status := ended(pid)) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return status


def kill(pid: int) -> None:
    """SIGKILL a process with its workers; under torchrun the training processes as well."""
    for group in (pid, *children(pid)):
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    os.waitpid(pid, 0)


def children(pid: int) -> list[int]:
    """Processes that lead a group of their own and were started by `pid`, as torchrun does."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            _, parent, group, *_ = path.read_text().rpartition(")")[2].split()
            if int(parent) == pid and group == path.parent.name:
                found.append(int(group))
    return found


def run_killed(root: Path, folder: Path, *, span: float, moments: random.Random, **how: Any) -> int:
    """Run the training to its end, killing it at random moments of its first `span` seconds.

    Returns:
        how often it was killed.
    """
    kills = 0
    while True:
        pid = start(root, folder, **how)
        status = wait(pid, moments.uniform(0, span))
        if status is not None:
            assert status == 0, f"the training ended with status {status}"
            return kills
        kill(pid)
        kills += 1


def left_behind(folder: Path) -> dict[str, Any]:
    """All that a training leaves, but for its speeds."""
    last, best = (checkpoint.load(folder / name) for name in ("last.pt", "best.pt"))
    for saved in last, best:
        del saved["config"]
    log = [{k: v for k, v in r.items() if k not in SPEEDS} for r in records(folder)]
    return {"last": last, "best": best, "log": log, "curves": curves(folder)}


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """TensorBoard's curves, step by step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    board.Reload()
    tags = [tag for tag in board.Tags()["scalars"] if not tag.startswith("speed/")]
    return {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in tags}


def differences(first: Any, second: Any, path: str = "") -> list[str]:
    """Places at which two nested values differ by a bit or more."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return [d for k, v in first.items() for d in differences(v, second[k], f"{path}/{k}")]
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{path}/{i}")]
    if isinstance(first, torch.Tensor):
        return [] if torch.equal(first, second) else [path]
    return [] if first == second else [f"{path}: {first!r:.300} and {second!r:.300}"]


def main() -> int:
    """Kill as often as asked, in as many trainings as that takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--frozen", action="store_true", help="train from kept features")
    parser.add_argument("--data", type=Path, help="a synthetic benchmark; left out: a new one")
    options = parser.parse_args()
    kills, rounds, moments = 0, 0, random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        root = options.data or write_synthetic(
            Path(folder) / "isaid", train_images=60, val_images=90, size=64, processes=1
        )
        began = time.monotonic()
        how = {"processes": options.processes, "frozen": options.frozen}
        pid = start(root, runs / "whole", **how)
        assert wait(pid, 600) == 0
        span = time.monotonic() - began
        print(f"undisturbed: {span:.1f} s")
        whole = left_behind(runs / "whole")
        while kills < options.kills:
            rounds += 1
            killed = runs / f"killed{rounds}"
            kills += run_killed(root, killed, span=span / 2, moments=moments, **how)
            found = differences(whole, left_behind(killed))
            found += [str(path) for path in killed.rglob("*.tmp")]
            print(f"training {rounds}: {kills} kills in all, {len(found)} differences", flush=True)
            if found:
                print("\n".join(found))
                return 1
    print(f"{kills} kills in {rounds} trainings: each ended as the undisturbed one, to the bit")
    return 0


if __name__ == "__main__":
    assert mgcl.train.run  # the import is the point
    sys.exit(main())
