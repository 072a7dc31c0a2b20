"""How time and memory of inference grow with shots, image size and batch.

    python -m benchmarks.scaling [--plot FILE.png] [--backbone resnet50]

Every case runs in a process of its own; memory is the resident peak above the loaded network.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.clock import alternate
from benchmarks.inputs import episodes
from benchmarks.memory import resident
from mgcl.device import keep_freed_memory
from mgcl.model.network import build_model

AXES = {"shots": (1, 5, 10, 20), "size": (256, 512, 1024), "batch": (1, 2, 4, 8)}
START = {"shots": 1, "size": 256, "batch": 1}


def measure(backbone: str, shots: int, size: int, batch: int) -> dict[str, float]:
    """Median seconds and MiB of one case, in this process."""
    model, inputs = build_model(backbone, "none").eval(), episodes(batch, shots, size).ours()
    before = resident("VmRSS")
    keep_freed_memory()  # not before: what building has freed would not be counted
    Path("/proc/self/clear_refs").write_text("5")
    with torch.inference_mode():
        seconds = alternate({"ours": lambda: model(*inputs)}, rounds=1, seconds=2)["ours"].median
    return {"seconds": seconds, "mib": resident("VmHWM") - before}


def case(backbone: str, **changed: int) -> dict[str, Any]:
    """`measure` in a subprocess."""
    values = START | changed
    command = [sys.executable, "-m", "benchmarks.scaling", "--backbone", backbone]
    command += ["--case", json.dumps(values)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return values | json.loads(done.stdout)


def plot(path: Path, found: dict[str, list[dict[str, Any]]]) -> None:
    """Seconds over each axis, with the line of strict proportion."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(10, 3), layout="constrained")
    for panel, (axis, cases) in zip(panels, found.items(), strict=True):
        values = [c[axis] for c in cases]
        panel.loglog(values, [c["seconds"] for c in cases], "o-", label="seconds")
        panel.loglog(values, [c["mib"] / 1024 for c in cases], "s--", label="GiB")
        panel.set_xlabel(axis)
        panel.set_xticks(values, [str(v) for v in values], minor=False)
        panel.set_xticks([], minor=True)
        panel.grid(alpha=0.3)
    panels[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure all axes and print a table of each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--plot", type=Path, help="write a plot to this file")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.backbone, **options.case)))
        return
    found = {}
    for axis, values in AXES.items():
        print(f"\n| {axis} | s | MiB |\n|---|---|---|")
        found[axis] = []
        for value in values:
            row = case(options.backbone, **{axis: value})
            found[axis].append(row)
            print(f"| {value} | {row['seconds']:.3f} | {row['mib']:.0f} |", flush=True)
    if options.plot:
        plot(options.plot, found)


if __name__ == "__main__":
    main()
