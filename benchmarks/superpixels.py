"""Which superpixels serve best: the IoU that whole regions can reach, and images a second.

    python -m benchmarks.superpixels --root data/isaid256 [--per-class 30]

For an image and a class, regions are added in the order of their share of foreground as long as
the IoU with the label grows: no choice of whole regions does better. The table has the mean a class
over its images, and images a second of one core's time, at 256 x 256.
"""

import argparse
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage.segmentation import slic, watershed

from mgcl.datasets.benchmarks import BENCHMARKS
from mgcl.datasets.lists import test_entries
from mgcl.images.read import read_image
from mgcl.masks.superpixels import SuperpixelMaskGenerator, number_regions

Cut = Callable[[np.ndarray], np.ndarray]


def shrunk(cut: Callable[[np.ndarray], np.ndarray], ratio: float) -> Cut:
    """Cut a smaller image and bring the map back by nearest."""

    def run(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        size = (round(width * ratio), round(height * ratio))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if ratio < 1 else image
        regions = number_regions(cut(small))
        return cv2.resize(regions, (width, height), interpolation=cv2.INTER_NEAREST)

    return run


def by_slic(image: np.ndarray, compactness: float) -> np.ndarray:
    """SLIC with 128 centres."""
    return slic(image, 128, compactness=compactness, start_label=0)


def by_watershed(image: np.ndarray, compactness: float) -> np.ndarray:
    """Watershed of the colour gradient from a grid of 128 seeds."""
    soft = cv2.GaussianBlur(image, (3, 3), 0).astype(np.float32)
    down, right = cv2.Sobel(soft, cv2.CV_32F, 0, 1), cv2.Sobel(soft, cv2.CV_32F, 1, 0)
    gradient = np.hypot(down, right).max(axis=2)
    return watershed(gradient, 128, compactness=compactness) - 1


def candidates() -> Iterator[tuple[str, Cut]]:
    """Name and cut of every algorithm and setting that is compared."""
    default = SuperpixelMaskGenerator()
    settings = [(128, scale, 0.5, 0.0005) for scale in (30, 40, 50, 60, 80)]
    settings += [(128, 50, sigma, 0.0005) for sigma in (0.3, 0.65, 0.8)]
    settings += [(128, 50, 0.5, least) for least in (0.00025, 0.001, 0.002)]
    settings += [(side, 50, sigma, 0.0005) for side, sigma in ((160, 0.65), (256, 1.0))]
    for side, scale, sigma, least in settings:
        cut = SuperpixelMaskGenerator(scale=scale, sigma=sigma, min_size=least, long_side=side)
        name = f"Felzenszwalb, {side} px, scale {scale}, blur {sigma}, least {100 * least:g} %"
        yield f"**{name}** (default)" if cut.spec == default.spec else name, cut
    yield "SLIC, 128 px, compactness 10", shrunk(lambda i: by_slic(i, 10), 0.5)
    yield "SLIC, 256 px, compactness 10", shrunk(lambda i: by_slic(i, 10), 1.0)
    yield "Watershed, 128 px, plain", shrunk(lambda i: by_watershed(i, 0), 0.5)
    yield "Watershed, 128 px, compact", shrunk(lambda i: by_watershed(i, 1), 0.5)


def reachable_iou(mask_map: np.ndarray, foreground: np.ndarray) -> float:
    """Best IoU of a union of regions with `foreground` (H, W) bool."""
    sizes = np.bincount(mask_map.ravel(), minlength=256)
    hits = np.bincount(mask_map[foreground], minlength=256)
    order = np.argsort(-hits / np.maximum(sizes, 1), kind="stable")
    union = foreground.sum() + np.cumsum((sizes - hits)[order])
    return float((np.cumsum(hits[order]) / union).max())


def sample(root: Path, per_class: int) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """(image, foreground, class id) of `per_class` random entries of every class's val list."""
    benchmark, rng, chosen = BENCHMARKS["isaid"], random.Random(0), []
    for fold in range(3):
        entries = test_entries(benchmark, root / "splits", fold, published=False)
        for class_id in benchmark.test_class_ids(fold):
            of_class = [entry for entry in entries if entry.class_id == class_id]
            chosen += rng.sample(of_class, min(per_class, len(of_class)))
    return [
        (
            read_image(benchmark.image_path(root, e.split, e.name)),
            np.asarray(Image.open(benchmark.label_path(root, e.split, e.name))) == e.class_id + 1,
            e.class_id,
        )
        for e in chosen
    ]


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("data/isaid256"))
    parser.add_argument("--per-class", type=int, default=30)
    words = parser.parse_args()
    cv2.setNumThreads(1)
    tiles, names = sample(words.root, words.per_class), BENCHMARKS["isaid"].class_names
    print(f"{len(tiles)} image and class pairs\n")
    print("| | images/s | regions | mean | " + " | ".join(names) + " |")
    print("|---" * (4 + len(names)) + "|")
    for name, cut in candidates():
        scores: dict[int, list[float]] = {}
        start = time.process_time()
        maps = [cut(image) for image, _, _ in tiles]
        speed = len(tiles) / (time.process_time() - start)
        for mask_map, (_, foreground, class_id) in zip(maps, tiles, strict=True):
            scores.setdefault(class_id, []).append(100 * reachable_iou(mask_map, foreground))
        means = [float(np.mean(scores[class_id])) for class_id in sorted(scores)]
        regions = np.mean([len(np.unique(mask_map)) for mask_map in maps])
        cells = " | ".join(f"{mean:.0f}" for mean in means)
        print(
            f"| {name} | {speed:.0f} | {regions:.0f} | {np.mean(means):.1f} | {cells} |", flush=True
        )


if __name__ == "__main__":
    main()
