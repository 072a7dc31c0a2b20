"""Segment Anything's masks: this project's generator beside the library's, in one run.

    python -m benchmarks.masks [--model vit_b] [--points 16] [--rounds 3] [--kept 0.5] [--threads 2]

Random weights, a 256 x 256 image, float32 on the CPU. Random weights know no good masks, so the
threshold of the predicted IoU is set to let a chosen share of the predictions pass. Prints seconds
an image (median of the rounds, the two in turn) and the ratio, how many pixels of the maps differ,
the share of each stage, and the peak memory of each in a process of its own.
"""

import argparse
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator, sam_model_registry
from segment_anything.modeling import Sam

from benchmarks.clock import alternate
from mgcl.masks import sam as sam_module
from mgcl.masks import sam_decoder
from mgcl.masks.mask_map import merge_masks
from mgcl.masks.sam import SamMaskGenerator, SamSettings


def random_sam(model: str) -> Sam:
    """A published architecture with random weights whose positions are not all zero."""
    torch.manual_seed(0)
    sam = sam_model_registry[model]().eval()
    with torch.no_grad():
        for name, parameter in sam.image_encoder.named_parameters():
            if "pos" in name:
                parameter.normal_(std=0.02)
    return sam


def picture() -> np.ndarray:
    """(256, 256, 3) uint8: soft random blobs."""
    coarse = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_CUBIC)


def settings_keeping(sam: Sam, share: float, points: int) -> SamSettings:
    """Settings under which about `share` of the predictions pass the filter of quality.

    All predicted IoUs are shifted over 0, below which the library filters nothing.
    """
    image = picture()
    generator = SamMaskGenerator(sam, SamSettings(points_per_side=points))
    with torch.inference_mode():
        embedding = sam.image_encoder(generator._to_input(image))
        side = sam_decoder.image_side(sam, embedding)
        quality = sam_decoder.predict(sam, side, generator._grid((256, 256))[::8]).quality
        sam.mask_decoder.iou_prediction_head.layers[-1].bias += 1.0
    threshold = float((quality + 1).quantile(1 - share)) if share < 1 else 1e-6
    # random logits are small, so the offset of the stability score is; random boxes are all alike,
    # so at 0.7 one mask would be left to compare
    return SamSettings(points, threshold, 0.5, 0.001, 1.0)


def programs(sam: Sam, settings: SamSettings) -> dict[str, Callable[[], np.ndarray]]:
    """Both generators on the same picture."""
    ours = SamMaskGenerator(sam, settings)
    library = SamAutomaticMaskGenerator(
        sam,
        points_per_side=settings.points_per_side,
        pred_iou_thresh=settings.pred_iou_thresh,
        stability_score_thresh=settings.stability_score_thresh,
        stability_score_offset=settings.stability_score_offset,
        box_nms_thresh=settings.box_nms_thresh,
    )
    image = picture()

    def by_library() -> np.ndarray:
        masks = [record["segmentation"] for record in library.generate(image)]
        return merge_masks(np.array(masks, dtype=bool).reshape(-1, *image.shape[:2]))

    return {"ours": lambda: ours(image), "library": by_library}


def stage_shares(sam: Sam, settings: SamSettings) -> dict[str, float]:
    """Seconds of each stage of one image of ours."""
    spent: dict[str, float] = defaultdict(float)
    generator: Any = SamMaskGenerator(sam, settings)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*inputs: Any) -> Any:
            start = time.perf_counter()
            result = function(*inputs)
            spent[name] += time.perf_counter() - start
            return result

        return run

    originals = {name: getattr(sam_decoder, name) for name in ("image_side", "predict", "draw")}
    generator._encode = timed("encoder", generator._encode)
    generator._propose = timed("propose", generator._propose)
    for name, function in originals.items():
        setattr(sam_module.sam_decoder, name, timed(name, function))
    try:
        timed("all", generator)(picture())
    finally:
        for name, function in originals.items():
            setattr(sam_module.sam_decoder, name, function)
    decoded = spent["predict"] + spent["draw"]
    return {
        "encoder": spent["encoder"],
        "decoder, tokens": spent["predict"] + spent["image_side"],
        "decoder, drawing": spent["draw"],
        "upsampling and filters": spent["propose"] - decoded,
        "suppression, painting, rest": spent["all"] - spent["encoder"] - spent["propose"],
    }


def peak_mib(program: str, words: argparse.Namespace) -> float:
    """MiB at the peak of one image, above the loaded model, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.masks", "--peak", program]
    for name in ("model", "points", "kept", "threads"):
        command += [f"--{name}", str(getattr(words, name))]
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


def _keep(maps: dict[str, np.ndarray], name: str, run: Callable[[], np.ndarray]) -> None:
    maps[name] = run()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_b", choices=["vit_b", "vit_l", "vit_h"])
    parser.add_argument("--points", type=int, default=16, help="points a side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kept", type=float, default=0.5, help="share of predictions that pass")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", choices=["ours", "library"], help="only the memory of one")
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    sam = random_sam(words.model)
    settings = settings_keeping(sam, words.kept, words.points)
    runs = programs(sam, settings)
    if words.peak:
        _print_peak(runs[words.peak])
        return
    maps: dict[str, np.ndarray] = {}
    times = alternate(
        {name: partial(_keep, maps, name, run) for name, run in runs.items()}, words.rounds
    )
    print(f"pixels that differ: {(maps['ours'] != maps['library']).mean():.4%}")
    print(f"masks in the map: {len(np.unique(maps['ours'])) - 1}")
    for name, timing in times.items():
        print(f"{name}: {timing.median:.2f} s an image ({timing.low:.2f} to {timing.high:.2f})")
        print(f"  CPU time {timing.cpu:.2f} s")
    ratio = times["library"].median / times["ours"].median
    ratio_cpu = times["library"].cpu / times["ours"].cpu
    print(f"images a second, ours over the library's: {ratio:.2f} (by CPU time {ratio_cpu:.2f})")
    for name in runs:
        print(f"{name}: peak memory {peak_mib(name, words):.0f} MiB", flush=True)
    shares = stage_shares(sam, settings)
    total = sum(shares.values())
    for name, seconds in shares.items():
        print(f"  {name}: {seconds / total:.0%}")


if __name__ == "__main__":
    main()
