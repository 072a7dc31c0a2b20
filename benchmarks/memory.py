"""Peak memory of one training step, in a process of its own.

    python -m benchmarks.memory ours|reference [--backbone resnet50] [--batch 8] [--size 256]

Prints MiB of resident memory at the step's peak above what was there before the step.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.inputs import episodes
from benchmarks.networks import build_pair, training_steps
from mgcl.device import keep_freed_memory


def peak_mib(program: str, backbone: str, batch: int, size: int) -> float:
    """Run this module for `program` in a subprocess and return what it prints."""
    command = [sys.executable, "-m", "benchmarks.memory", program, "--backbone", backbone]
    command += ["--batch", str(batch), "--size", str(size)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def resident(key: str) -> float:
    """MiB of a line of Linux' process status: VmRSS is resident now, VmHWM was so at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def main() -> None:
    """Measure one program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", choices=["ours", "reference"])
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    steps = training_steps(build_pair(options.backbone), episodes(options.batch, 1, options.size))
    before = resident("VmRSS")
    if options.program == "ours":  # not before: what building has freed would not be counted
        keep_freed_memory()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    steps[options.program == "reference"]()
    print(f"{resident('VmHWM') - before:.1f}")


if __name__ == "__main__":
    main()
