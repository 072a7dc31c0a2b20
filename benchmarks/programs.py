"""Whole programs: the test of a fold, from files to counts, and a step of a frozen training."""

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from benchmarks.loading import ISAID, ReferenceEpisodes, Tree
from benchmarks.networks import Pair
from mgcl.datasets.episodes import EpisodeDataset, ListPlan
from mgcl.datasets.loader import in_batches, load_batches
from mgcl.datasets.samples import ImageSource
from mgcl.engine.encoding import EncodedLoader, by_class, encode_parts
from mgcl.engine.evaluation import Evaluation, evaluate
from mgcl.engine.features import FeatureStore
from mgcl.engine.forward import Setup
from mgcl.engine.optim import build_optimizer
from mgcl.engine.training import add_gradients
from mgcl.metrics import count_pixels
from mgcl.model.network import SegmentationHead
from mgcl.model.pretrained import build_backbone
from mgcl.model.residual import ResidualMGCL
from mgcl.train.parallel import Comparing
from tests import oracle

CPU = torch.device("cpu")
ROOM = 4 * 2**30  # bytes of encoded images


class Fold(NamedTuple):
    """A list of episodes of painted scenes, every image once as the query."""

    tree: Tree
    shots: int
    size: int

    @property
    def plan(self) -> ListPlan:
        """Which images an episode holds."""
        return ListPlan(ISAID, self.tree.entries, seed=0, shots=self.shots)

    def dataset(self) -> EpisodeDataset:
        """Read anew: nothing is in memory yet."""
        source = ImageSource(ISAID, self.tree.root, self.tree.store, self.size)
        return EpisodeDataset(source, self.plan)


def our_test(pair: Pair, fold: Fold, batch: int = 8) -> Evaluation:
    """The test of all episodes, at the threshold 0.5 alone, as the published program's."""
    dataset, ids = fold.dataset(), range(len(fold.tree.entries))
    setup = Setup(CPU, features=FeatureStore(ROOM))
    batches = by_class(dataset, ids, batch)
    loader = EncodedLoader(pair.ours.eval(), dataset, batches, setup=setup, workers=0)
    return evaluate(pair.ours, loader, ids, range(4), setup=setup, thresholds=[0.5])


@torch.inference_mode()
def reference_test(pair: Pair, fold: Fold, ids: Sequence[int], batch: int = 8) -> torch.Tensor:
    """The test of some episodes, run lengths decoded and K passes each: counts (N, 4)."""
    counts = []
    files = ReferenceEpisodes(fold.tree, fold.plan, fold.size)
    for some in in_batches(ids, batch):
        specs = [fold.plan(i) for i in some]
        queries = _stacked([files._sample(spec.query) for spec in specs])
        shots = [_stacked([*map(files._sample, spec.supports)]) for spec in specs]
        supports, labels, masks = _stacked(shots)
        logits = pair.reference(queries[0], queries[2].float(), supports, labels, masks.float())
        counts.append(count_pixels(oracle.vote(logits.argmax(2)), queries[1]))
    return torch.cat(counts)


def _stacked(rows: Sequence[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
    return [torch.stack(column) for column in zip(*rows, strict=True)]


def seconds_each(pair: Pair, fold: Fold, episodes: int) -> tuple[float, float, float]:
    """Seconds an episode of the reference, of which `episodes` are run, and of ours, of all.

    Also the largest difference of an episode's IoU, 0..1.
    """
    ids = by_class(fold.dataset(), range(len(fold.tree.entries)), episodes)[0]
    began = time.perf_counter()
    expected = reference_test(pair, fold, ids)
    middle = time.perf_counter()
    found = our_test(pair, fold)
    ended = time.perf_counter()
    a, b = (c[:, 0] / c[:, 1].clamp_min(1) for c in (expected, found.counts[ids, 0]))
    ours = (ended - middle) / len(fold.tree.entries)
    return (middle - began) / len(ids), ours, float((a - b).abs().max())


def frozen_steps(tree: Tree, size: int = 128, batch: int = 8) -> dict[str, Iterator[None]]:
    """Steps of the demo's training without end: images encoded in each, and read once kept."""
    fold = Fold(tree, shots=1, size=size)
    ids = in_batches(range(len(tree.entries)), batch)
    found = {}
    for name in ("anew", "kept"):
        torch.manual_seed(0)
        backbone = build_backbone("efficientnet_lite0", "none")
        network = ResidualMGCL(backbone, SegmentationHead(), turns=1).train()
        found[name] = _steps(network, fold, ids, keep=name == "kept")
    return found


def _steps(
    network: ResidualMGCL, fold: Fold, ids: list[list[int]], *, keep: bool
) -> Iterator[None]:
    source = ImageSource(ISAID, fold.tree.root, fold.tree.store, fold.size, cache_bytes=2**30)
    source.reserve(fold.tree.entries)
    dataset = EpisodeDataset(source, fold.plan)
    setup = Setup(CPU, features=FeatureStore(ROOM))
    optimizer = build_optimizer("adam", network, lr=1e-6, momentum=0.9, weight_decay=5e-4)
    model = Comparing(network) if keep else network
    for _ in itertools.count():
        batches = (
            encode_parts(network, dataset, ids, setup=setup, workers=0)
            if keep
            else load_batches(dataset, ids, workers=0, pin_memory=False)
        )
        for loaded in batches:
            optimizer.zero_grad(set_to_none=True)
            add_gradients(model, setup.move(loaded), setup=setup, loss="ce+dice", passes=1)
            optimizer.step()
            yield
