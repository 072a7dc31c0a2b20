"""Segment Anything's masks: this project's generator beside the library's, in one run.

    python -m benchmarks.masks [--model vit_b] [--points 16] [--rounds 3] [--kept 0.5 1]

Random weights, a 256 x 256 image, float32 on the CPU, each program at its own batch sizes. Random
weights know no good masks, so the threshold of the predicted IoU is set to let a chosen share of
the predictions pass (1: the filter is off). Prints seconds an image (median of the rounds, the two
in turn), the ratio and its range, how many pixels of the maps differ, the share of each stage here,
and the peak memory of each program in a process of its own. With --keep-freed both run with the
allocator that main_0_extract_masks.py sets, otherwise with the system's, as the library's users do.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator, sam_model_registry
from segment_anything.modeling import Sam

from benchmarks.clock import timed
from mgcl.device import keep_freed_memory
from mgcl.masks import sam_decoder
from mgcl.masks.mask_map import merge_masks
from mgcl.masks.sam import SamMaskGenerator, SamSettings

PROGRAMS = ("library", "ours")
Spent = defaultdict[str, float]


def random_sam(model: str) -> Sam:
    """A published architecture with random weights whose positions are not all zero.

    The predicted IoUs are shifted over 0, below which the library filters nothing.
    """
    torch.manual_seed(0)
    sam = sam_model_registry[model]().eval()
    with torch.no_grad():
        for name, parameter in sam.image_encoder.named_parameters():
            if "pos" in name:
                parameter.normal_(std=0.02)
        sam.mask_decoder.iou_prediction_head.layers[-1].bias += 1.0
    return sam


def picture() -> np.ndarray:
    """(256, 256, 3) uint8: soft random blobs."""
    coarse = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_CUBIC)


def thresholds_keeping(sam: Sam, shares: list[float], points: int) -> list[float]:
    """Predicted IoUs over which about those shares of the predictions lie."""
    generator = SamMaskGenerator(sam, SamSettings(points_per_side=points))
    with torch.inference_mode():
        embedding = sam.image_encoder(generator._to_input(picture()))
        side = sam_decoder.image_side(sam, embedding)
        quality = sam_decoder.predict(sam, side, generator._grid((256, 256))[::8]).quality
    return [float(quality.quantile(1 - share)) if share < 1 else 1e-6 for share in shares]


def program(name: str, sam: Sam, points: int, threshold: float, spent: Spent) -> Callable[[], Any]:
    """A generator on the picture, to its mask map; ours notes the seconds of its stages."""
    # random logits are small, so the offset of the stability score is; random boxes are all alike,
    # so at 0.7 one mask would be left to compare
    settings = SamSettings(points, threshold, 0.5, 0.001, 1.0)
    image = picture()
    if name == "ours":
        ours = SamMaskGenerator(sam, settings)

        def by_us() -> np.ndarray:
            with watched(ours, spent):
                return ours(image)

        return by_us
    library = SamAutomaticMaskGenerator(
        sam,
        points_per_side=settings.points_per_side,
        pred_iou_thresh=settings.pred_iou_thresh,
        stability_score_thresh=settings.stability_score_thresh,
        stability_score_offset=settings.stability_score_offset,
        box_nms_thresh=settings.box_nms_thresh,
    )

    def by_library() -> np.ndarray:
        masks = [record["segmentation"] for record in library.generate(image)]
        return merge_masks(np.array(masks, dtype=bool).reshape(-1, *image.shape[:2]))

    return by_library


@contextmanager
def watched(generator: SamMaskGenerator, spent: Spent) -> Iterator[None]:
    """Add the seconds of the generator's parts to `spent`."""

    def clocked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*inputs: Any) -> Any:
            start = time.perf_counter()
            result = function(*inputs)
            spent[name] += time.perf_counter() - start
            return result

        return run

    parts = [(generator, "_encode"), (generator, "_propose")]
    parts += [(sam_decoder, name) for name in ("image_side", "predict", "draw")]
    with ExitStack() as stack:
        for owner, name in parts:
            stack.enter_context(mock.patch.object(owner, name, clocked(name, getattr(owner, name))))
        start = time.perf_counter()
        yield
        spent["all"] += time.perf_counter() - start


def stages(spent: Spent) -> dict[str, float]:
    """Share of each stage."""
    decoded = spent["predict"] + spent["draw"]
    seconds = {
        "encoder": spent["_encode"],
        "decoder to the predicted IoU": spent["image_side"] + spent["predict"],
        "drawing": spent["draw"],
        "upsampling, stability, boxes": spent["_propose"] - decoded,
        "suppression, painting, rest": spent["all"] - spent["_encode"] - spent["_propose"],
    }
    return {name: value / spent["all"] for name, value in seconds.items()}


def measure(sam: Sam, words: argparse.Namespace, share: float, threshold: float) -> None:
    """Both programs in turn at one threshold, and print."""
    spent: Spent = defaultdict(float)
    runs = {name: program(name, sam, words.points, threshold, spent) for name in PROGRAMS}
    maps: dict[str, np.ndarray] = {}
    wall: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    cpu: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(words.rounds):
        for name, run in runs.items():
            seconds = timed(lambda name=name, run=run: maps.update({name: run()}))
            wall[name].append(seconds[0])
            cpu[name].append(seconds[1])
    print(f"\n{share:.0%} of the predictions pass")
    for name in PROGRAMS:
        print(
            f"  {name}: {statistics.median(wall[name]):.1f} s an image "
            f"({min(wall[name]):.1f} to {max(wall[name]):.1f}), "
            f"CPU time {statistics.median(cpu[name]):.1f} s"
        )
    ratios = [a / b for a, b in zip(wall["library"], wall["ours"], strict=True)]
    of_cpu = statistics.median(cpu["library"]) / statistics.median(cpu["ours"])
    print(
        f"  images a second, ours over the library's: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f} by round; by CPU time {of_cpu:.2f})"
    )
    differ, masks = (maps["ours"] != maps["library"]).mean(), len(np.unique(maps["ours"])) - 1
    print(f"  pixels that differ: {differ:.4%} of a map of {masks} masks")
    shares = ", ".join(f"{name} {part:.1%}" for name, part in stages(spent).items())
    print(f"  stages of ours: {shares}", flush=True)


def peak_mib(name: str, words: argparse.Namespace, threshold: float) -> float:
    """MiB at the peak of one image, above the loaded model, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.masks", "--peak", name]
    command += ["--threshold", repr(threshold)]
    for option in ("model", "points", "threads"):
        command += [f"--{option}", str(getattr(words, option))]
    command += ["--keep-freed"] * words.keep_freed
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def _print_peak(run: Callable[[], object]) -> None:
    def status(key: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))

    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    run()
    print(f"{status('VmHWM') - before:.0f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_b", choices=["vit_b", "vit_l", "vit_h"])
    parser.add_argument("--points", type=int, default=16, help="points a side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--kept", type=float, nargs="+", default=[0.5, 1.0], help="shares of predictions that pass"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep-freed", action="store_true", help="see mgcl.allocator")
    parser.add_argument("--peak", choices=PROGRAMS, help="only the memory of one program")
    parser.add_argument("--threshold", type=float, default=1e-6, help="for --peak")
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    if words.keep_freed:
        keep_freed_memory()
    sam = random_sam(words.model)
    if words.peak:
        spent: Spent = defaultdict(float)
        _print_peak(program(words.peak, sam, words.points, words.threshold, spent))
        return
    print(f"{words.model}, {words.points} points a side, {words.threads} threads")
    thresholds = thresholds_keeping(sam, words.kept, words.points)
    for share, threshold in zip(words.kept, thresholds, strict=True):
        measure(sam, words, share, threshold)
    peaks = [f"{name} {peak_mib(name, words, min(thresholds)):.0f} MiB" for name in PROGRAMS]
    print(f"\npeak memory above the loaded model, {max(words.kept):.0%} pass: {', '.join(peaks)}")


if __name__ == "__main__":
    main()
