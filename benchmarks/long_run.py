"""Whether a long training stays as it is: memory, processes, open files, size of its logs.

    python -m benchmarks.long_run --steps 2000

Trains EfficientNet-Lite0 at 64 px on synthetic scenes in a process of its own, with two loader
processes and twenty validations, and looks at it from outside every few seconds.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from mgcl.datasets.synthetic.command import write_synthetic
from mgcl.files import read_records

REPOSITORY = Path(__file__).resolve().parents[1]
EPOCHS, BATCH = 20, 2


class Look(NamedTuple):
    """What a look at the training's process found."""

    step: int
    main_mib: float
    """Resident memory of the training process, without what it shares through files."""
    loaders_mib: float
    processes: int
    files: int
    logs_kib: float


def main() -> int:
    """Print a line for each look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=float, default=4.0, help="seconds between two looks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "runs/long"
        root = write_synthetic(Path(folder) / "isaid", train_images=60, val_images=90, size=64)
        with subprocess.Popen(command(root, run, options.steps), cwd=REPOSITORY) as training:
            looks = list(watch(training, run, options.every))
    if training.returncode:
        return training.returncode
    print("\n| step | training, MiB | loaders, MiB | processes | open files | logs, KiB |")
    print("|---|---|---|---|---|---|")
    for look in looks:
        print(f"| {look.step} | {look.main_mib:.0f} | {look.loaders_mib:.0f} | "
              f"{look.processes} | {look.files} | {look.logs_kib:.0f} |")  # fmt: skip
    return 0


def command(root: Path, run: Path, steps: int) -> list[str]:
    """Command line of the training."""
    words = {
        "run.root": run.parent,
        "run.name": run.name,
        "run.threads": 1,
        "data.root": root,
        "data.image_size": 64,
        "masks.generator": "none",
        "train.epochs": EPOCHS,
        "train.episodes_per_epoch": BATCH * steps // EPOCHS,
        "train.batch_size": BATCH,
        "train.calibration_episodes": 20,
        "train.log_every": 20,
    }
    line = [sys.executable, "main_1_mgcl_train.py", "--config", "configs/demo.toml"]
    return line + [text for key, value in words.items() for text in (f"--{key}", str(value))]


def watch(training: subprocess.Popen, run: Path, every: float):
    """Looks at a training until it ends."""
    while training.poll() is None:
        steps = [record["step"] for record in read_records(run / "log.jsonl")]
        if steps:
            try:
                yield look_at(training.pid, run, steps[-1])
            except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
                return
        time.sleep(every)


def look_at(pid: int, run: Path, step: int) -> Look:
    """Memory and files of a process and its children, from /proc."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    logs = sum(p.stat().st_size for p in [run / "log.jsonl", *run.glob("tensorboard/*")])
    return Look(
        step,
        resident_mib(pid),
        sum(resident_mib(int(child)) for child in children),
        1 + len(children),
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        logs / 1024,
    )


def resident_mib(pid: int) -> float:
    """Resident memory that is not backed by a file or shared."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
