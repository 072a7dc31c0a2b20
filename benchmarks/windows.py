"""How many windows of a scene are searched in a second, by the matcher without a checkpoint.

python -m benchmarks.windows [--pixels N] [--threads N]
"""

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch

from mgcl.datasets.synthetic.scenes import paint_scene
from mgcl.predict.finder import Finder, InMemory
from mgcl.predict.load import load_network
from mgcl.predict.support import cut_example

SIDE = 256  # pixels of a window; windows overlap by half


def main(argv: Sequence[str]) -> int:
    """Print windows a second with masks given and with superpixels cut on the way."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.windows", description=__doc__)
    parser.add_argument("--pixels", type=int, default=1536, help="side of the scene (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    words = parser.parse_args(argv)
    loaded = load_network(None, device="cpu")
    torch.set_num_threads(words.threads)
    scene, _ = paint_scene(words.pixels, 0, 1, 0)
    image, label = paint_scene(SIDE, 0, 2, 0)
    assert loaded.mask_generator is not None
    masks = np.zeros(scene.shape[:2], np.uint8)
    for y in range(0, words.pixels, SIDE // 2):
        for x in range(0, words.pixels, SIDE // 2):
            cut = (slice(y, y + SIDE // 2), slice(x, x + SIDE // 2))
            masks[cut] = loaded.mask_generator(scene[cut])
    for name, mask_map in (("masks given", masks), ("superpixels cut on the way", None)):
        finder = Finder(
            loaded.model, loaded.mask_generator, image_size=loaded.image_size, setup=loaded.setup
        )
        example = cut_example(
            image, (label == 1).astype(np.uint8), None, SIDE, finder.mask_generator
        )
        finder.learn({"object": [example]})
        found = InMemory(scene)
        down, across = finder.grid(*scene.shape[:2], SIDE)
        count, seconds = len(down) * len(across), []
        for _ in range(3):
            began = time.perf_counter()
            for _band in finder.bands(found, SIDE, mask_map=mask_map, keep_present=0.7):
                pass
            seconds.append(time.perf_counter() - began)
        print(f"{name}: {count / min(seconds):.1f} windows a second ({count} windows)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
