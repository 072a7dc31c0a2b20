"""What the time of a test follows: the different images, then the comparisons with each support.

    python -m benchmarks.reuse [--size 128] [--backbone resnet50]

Painted scenes, MGCL with random weights; each case is a test of its own that keeps nothing before.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

import torch

from benchmarks.clock import timed
from benchmarks.loading import ISAID, write_tree
from mgcl.datasets.episodes import EpisodeDataset, ListPlan
from mgcl.datasets.samples import ImageSource
from mgcl.device import keep_freed_memory
from mgcl.engine.encoding import EncodedLoader, by_class
from mgcl.engine.evaluation import evaluate
from mgcl.engine.features import FeatureStore
from mgcl.engine.forward import Setup
from mgcl.model.network import build_model

IMAGES, EPISODES, SHOTS = (32, 64), (64, 128), (1, 5)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--backbone", default="resnet50")
    options = parser.parse_args()
    keep_freed_memory()
    model = build_model(options.backbone, "none").eval()
    print("| images | episodes | shots | encoded | s | CPU s | CPU s, nothing kept |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        tree = write_tree(Path(folder), images=max(IMAGES), size=options.size)
        source = ImageSource(ISAID, tree.root, tree.store, options.size)
        for images, count, shots in itertools.product(IMAGES, EPISODES, SHOTS):
            entries = tree.entries[:images] * (count // images)
            plan = ListPlan(ISAID, entries, seed=0, shots=shots)
            dataset, ids = EpisodeDataset(source, plan), range(count)
            found = []
            for limit in (2**32, 0):
                setup = Setup(torch.device("cpu"), features=FeatureStore(limit))
                batches = by_class(dataset, ids, 8)
                loader = EncodedLoader(model, dataset, batches, setup=setup, workers=0)
                encoded = loader.count()
                found.append(
                    (*timed(lambda: evaluate(model, loader, ids, range(4), setup=setup)), encoded)  # noqa: B023
                )
            (wall, cpu, encoded), (_, anew, _) = found
            cells = (images, count, shots, encoded, f"{wall:.1f}", f"{cpu:.1f}", f"{anew:.1f}")
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
