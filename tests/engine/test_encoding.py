"""Images encoded once: the same numbers whatever is kept, grouped, batched or shared."""

from dataclasses import replace

import pytest
import torch

from mgcl.datasets.episodes import EpisodeDataset, EpisodeSpec, ListPlan
from mgcl.datasets.lists import Entry
from mgcl.datasets.samples import Sample
from mgcl.engine.encoding import EncodedLoader, by_class, encode_parts
from mgcl.engine.evaluation import Evaluation, evaluate
from mgcl.engine.features import FeatureStore, Recent
from mgcl.engine.forward import Setup
from mgcl.model.baselines import CosinePrototypes
from mgcl.model.network import MGCL, SegmentationHead
from mgcl.model.pretrained import build_backbone
from mgcl.model.residual import ResidualMGCL
from mgcl.train.parallel import Comparing
from tests.model.test_network import tiny_networks

SIDE, IMAGES = 64, 12
CPU = torch.device("cpu")


class Memory:
    """A source of random images, which counts what is loaded of it."""

    image_size = SIDE

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(0)
        self.planes = torch.randint(0, 256, (IMAGES, 5, 8, 8), generator=g, dtype=torch.uint8)
        self.planes = self.planes.repeat_interleave(8, -1).repeat_interleave(8, -2)
        self.loaded: list[str] = []

    def load(self, entry: Entry) -> Sample:
        self.loaded.append(entry.name)
        planes = self.planes[int(entry.name)]
        return Sample(planes[:3], self.load_label(entry), planes[4] % 30)

    def load_label(self, entry: Entry) -> torch.Tensor:
        return (self.planes[int(entry.name), 3] % 3 == entry.class_id).to(torch.uint8)


class Benchmark:
    class_names = ("a", "b")


def episodes(shots: int = 2) -> tuple[EpisodeDataset, Memory]:
    """Every image once as the query; of two classes, in turn."""
    source = Memory()
    entries = [Entry("val", str(i), i % 2) for i in range(IMAGES)]
    return EpisodeDataset(source, ListPlan(Benchmark(), entries, seed=0, shots=shots)), source


def run(dataset, model, setup, *, batch_size: int = 2) -> Evaluation:
    ids = range(IMAGES)
    batches = by_class(dataset, ids, batch_size)
    loader = EncodedLoader(model, dataset, batches, setup=setup, workers=0)
    assert len(loader) == -(-IMAGES // batch_size)
    return evaluate(model, loader, ids, (0, 1), setup=setup)


def size(model: MGCL) -> int:
    blank = torch.zeros(1, 4, SIDE, SIDE, dtype=torch.uint8)
    return model.encode(blank[:, :3], blank[:, 3]).nbytes


@pytest.mark.parametrize("room", [0, 1, 5, 7, 100])
def test_the_counts_are_the_same_to_the_pixel_however_many_images_are_kept(room):
    model = tiny_networks()[0]
    dataset, source = episodes()
    nothing = run(dataset, model, Setup(CPU))
    assert len(source.loaded) > 2 * IMAGES
    source.loaded.clear()
    kept = run(dataset, model, Setup(CPU, features=FeatureStore(room * size(model))))
    assert torch.equal(kept.counts, nothing.counts)
    if room >= IMAGES / 2:  # a class at a time
        assert sorted(source.loaded) == sorted(str(i) for i in range(IMAGES))


def test_logits_of_kept_images_are_those_of_all_encoded_anew_to_the_bit():
    model, (dataset, _) = tiny_networks()[0], episodes()
    batches = by_class(dataset, range(IMAGES), 2)
    given = {"network": model, "dataset": dataset, "batches": batches}
    found = []
    with torch.inference_mode():
        for limit in (0, 3 * size(model), 2**30):
            setup = Setup(CPU, features=FeatureStore(limit))
            loader = EncodedLoader(**given, setup=setup, workers=0)
            batches = list(loader) + list(loader)
            found.append([setup.compare(model, *b[:2], b[2].supports, (64, 64)) for b in batches])
    for nothing, some, everything in zip(*found, strict=True):
        assert torch.equal(nothing, some) and torch.equal(nothing, everything)


def test_memory_stays_within_the_limit():
    model, (dataset, _) = tiny_networks()[0], episodes()
    store = FeatureStore(5 * size(model) + 1)
    batches, setup = by_class(dataset, range(IMAGES), 2), Setup(CPU, features=store)
    for _ in EncodedLoader(model, dataset, batches, setup=setup, workers=0):
        assert 0 < store.total <= store.limit


def test_networks_with_the_same_backbone_and_other_shots_share_what_is_kept():
    model = tiny_networks()[0]
    setup = Setup(CPU, features=FeatureStore(2**30))
    dataset, source = episodes()
    run(dataset, model, setup)
    source.loaded.clear()
    with torch.no_grad():
        next(model.segmentation_head.parameters()).add_(1)  # another head, the same backbone
    run(dataset, model, setup)
    run(dataset, CosinePrototypes(model.backbone), setup)
    more = EpisodeDataset(source, replace(dataset.plan, shots=4))
    run(more, model, setup)
    assert source.loaded == []
    with torch.no_grad():
        next(model.backbone.parameters()).mul_(2)
    run(dataset, model, setup)
    assert len(source.loaded) == IMAGES


def test_two_sources_never_share_an_image():
    model = tiny_networks()[0]
    setup = Setup(CPU, features=FeatureStore(2**30))
    run(episodes()[0], model, setup)
    other, source = episodes()
    source.planes = 255 - source.planes
    assert torch.equal(run(other, model, setup).counts, run(other, model, Setup(CPU)).counts)


def test_an_images_features_depend_neither_on_its_neighbours_nor_on_its_place():
    from mgcl.model.pretrained import build_backbone

    torch.manual_seed(0)
    backbone = build_backbone("efficientnet_lite0", "none").eval()
    images = torch.randint(0, 256, (16, 3, SIDE, SIDE), dtype=torch.uint8)
    order = torch.randperm(16)
    with torch.inference_mode():
        plain = [backbone(group) for group in images.split(8)]
        mixed = [backbone(group) for group in images[order].split(8)]
    for level in range(3):
        a, b = (torch.cat([group[level] for group in groups]) for groups in (plain, mixed))
        assert torch.equal(a[order], b)


def test_what_is_used_least_recently_goes_first():
    kept: Recent[int] = Recent(6, int)
    kept.use({"a": 2, "b": 2, "c": 2})
    kept.use({"a": 2})
    seen = kept.sizes()
    kept.use({"d": 3})
    assert [key in kept for key in "abcd"] == [True, False, False, True] and kept.total == 5
    assert "b" in seen and seen.total == 6
    kept.use({"e": 7})
    assert kept.total == 0 and "e" not in kept


def test_a_query_may_be_a_support_of_its_batch():
    model, (_, source) = tiny_networks()[0], episodes()
    one, two = Entry("val", "0", 0), Entry("val", "2", 0)
    specs = [EpisodeSpec(one, (two, two)), EpisodeSpec(two, (one, one))]
    dataset = EpisodeDataset(source, specs.__getitem__)
    (batch,) = EncodedLoader(model, dataset, [[0, 1]], setup=Setup(CPU), workers=0)
    assert sorted(source.loaded) == ["0", "2"]
    assert torch.equal(batch.query.levels[0].flip(0), batch.supports[1].levels[0])


def test_rounded_features_take_half_the_memory_and_are_the_same_kept_or_not():
    model, (dataset, _) = tiny_networks()[0], episodes()
    batches, found, total = by_class(dataset, range(IMAGES), 2), [], []
    for limit, half in (2**30, False), (2**30, True), (0, True):
        setup = Setup(CPU, features=FeatureStore(limit, half=half))
        loaded = [*EncodedLoader(model, dataset, batches, setup=setup, workers=0)]
        found.append(torch.cat([batch.query.levels[0] for batch in loaded]))
        total.append(setup.features.total)
    exact, kept, anew = found
    maps = IMAGES * SIDE**2
    assert 2 * (total[1] - maps) == total[0] - maps and total[2] == 0
    assert kept.dtype == torch.float32 and torch.equal(kept, anew)
    assert torch.equal(kept, exact.half().float()) and not torch.equal(kept, exact)


def test_an_epoch_of_frozen_training_decodes_each_image_once():
    model, (dataset, source) = tiny_networks()[0], episodes(shots=1)
    setup = Setup(CPU, features=FeatureStore(2**30))
    for _ in range(2):
        for batch in encode_parts(model, dataset, [[3, 1, 0], [7]], setup=setup, workers=0):
            assert not batch.query.levels[0].is_inference()
    wanted = {
        e.name for i in (0, 1, 3, 7) for e in (dataset.plan(i).query, *dataset.plan(i).supports)
    }
    assert sorted(source.loaded) == sorted(wanted)


def test_what_the_matcher_says_of_an_episode_is_the_same_to_the_bit_beside_any_others():
    network = ResidualMGCL(
        build_backbone("efficientnet_lite0", "none"), SegmentationHead(), turns=1
    )
    dataset, setup = episodes(shots=1)[0], Setup(CPU, features=FeatureStore(2**30))
    model, batches = Comparing(network.train()), [[3, 1, 0], [7, 5], [4]]
    given = {"network": network, "dataset": dataset, "setup": setup, "workers": 0}
    found = [*encode_parts(batches=batches, **given)]
    for number, batch in enumerate(found):
        (alone,) = encode_parts(batches=[batches[number]], **given)  # as after an interruption
        assert torch.equal(batch.matched, alone.matched)
        assert torch.equal(batch.part(0, 1).matched, alone.matched[:1])
    plain = setup.forward(model, found[0]._replace(matched=None))
    torch.testing.assert_close(setup.forward(model, found[0]), plain)


def test_networks_whose_features_are_among_those_kept_encode_nothing_and_get_their_own():
    network = ResidualMGCL(
        build_backbone("efficientnet_lite0", "none"), SegmentationHead(), turns=1
    )
    (dataset, _), setup = episodes(), Setup(CPU, features=FeatureStore(2**30))
    given = {"dataset": dataset, "batches": by_class(dataset, range(IMAGES), 4), "workers": 0}
    assert len([*EncodedLoader(network.eval(), setup=setup, **given)]) == len(given["batches"])
    for part in network.matcher, CosinePrototypes(network.backbone):
        loader = EncodedLoader(part.eval(), setup=setup, **given)
        assert loader.count() == 0
        alone = EncodedLoader(part, setup=Setup(CPU, features=FeatureStore(2**30)), **given)
        for batch, own in zip(loader, alone, strict=True):
            assert len(batch.query.levels) == len(own.query.levels)
            pairs = zip(batch.query.levels, own.query.levels, strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)
