"""From the config to the episodes of training, validation, calibration and test."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mgcl.config import Config
from mgcl.datasets import lists
from mgcl.datasets.benchmarks import Benchmark, find_benchmark
from mgcl.datasets.episodes import (
    CyclePlan,
    EpisodeDataset,
    EpisodeSpec,
    ListPlan,
    ManifestPlan,
    ShuffledPlan,
)
from mgcl.datasets.lists import Entry
from mgcl.datasets.manifest import read_manifest
from mgcl.datasets.samples import ImageSource, with_min_object

VALIDATION_SEED = 20_240  # of the fixed validation and calibration episodes, whatever train.seed


class EpisodeSet(NamedTuple):
    """Episodes to go through, and the classes that they are scored on."""

    dataset: EpisodeDataset
    ids: Sequence[int]
    class_ids: tuple[int, ...]
    source: str
    """What they are drawn from, in words for the report."""


def build_source(config: Config) -> ImageSource:
    """Images, labels and mask maps of the configured data set.

    Raises:
        ValueError: the mask maps are missing or of other settings: main_0 comes first.
    """
    from mgcl.masks.store import MaskStore

    if config.masks.generator == "none":
        store = None
    elif not config.masks_dir.is_dir():
        raise ValueError(
            f"no mask maps in {config.masks_dir}: run main_0_extract_masks.py with the same "
            "--config first"
        )
    else:
        store = MaskStore(config.masks_dir)
    return ImageSource(
        benchmark(config),
        config.data.root,
        store,
        config.data.image_size,
        cache_bytes=int(config.data.cache_gib * 2**30),
    )


def benchmark(config: Config) -> Benchmark:
    """The configured benchmark's facts."""
    return find_benchmark(config.data.benchmark, config.data.root)


def build_training(config: Config, source: ImageSource) -> EpisodeSet:
    """The training episodes of the run; ids count on over the epochs."""
    entries = _usable(config, source, training_entries(config)[0])
    plan_type = CyclePlan if source.benchmark.cycle_classes else ShuffledPlan
    plan = plan_type(source.benchmark, entries, seed=config.train.seed)
    episodes = config.train.episodes_per_epoch or len(plan)
    ids = range(config.train.epochs * episodes)
    classes = source.benchmark.train_class_ids(config.data.fold)
    return EpisodeSet(EpisodeDataset(source, plan), ids, classes, f"{len(entries)} list entries")


def build_heldout(config: Config, source: ImageSource) -> EpisodeSet:
    """1-shot episodes of the training classes on images that are neither trained on nor tested."""
    entries = _usable(config, source, training_entries(config)[1])
    words = "held-out images of the training classes"
    if not entries:
        entries = _usable(config, source, training_entries(config)[0])
        words = "training images of the training classes (data.holdout is 0)"
    entries = _drawable(entries)
    plan = ListPlan(source.benchmark, entries, seed=VALIDATION_SEED, shots=1)
    ids = spread(len(entries), config.train.calibration_episodes)
    classes = source.benchmark.train_class_ids(config.data.fold)
    return EpisodeSet(EpisodeDataset(source, plan), ids, classes, f"{len(ids)} episodes on {words}")


def of_shots(part: EpisodeSet, shots: int) -> EpisodeSet:
    """The same queries with that many supports each, less classes with too few images."""
    plan = part.dataset.plan
    assert isinstance(plan, ListPlan)
    entries = _drawable([plan.entries[i] for i in part.ids], shots + 1, among=plan.entries)
    drawn = dataclasses.replace(plan, entries=_drawable(plan.entries, shots + 1), shots=shots)
    places = {entry: i for i, entry in enumerate(drawn.entries)}
    ids = [places[entry] for entry in entries]
    return part._replace(dataset=EpisodeDataset(part.dataset.source, drawn), ids=ids)


def build_validation(config: Config, source: ImageSource, heldout: EpisodeSet) -> EpisodeSet:
    """The fixed 1-shot episodes that choose the best epoch: of the test fold, or `heldout`."""
    if config.train.validation == "train_classes":
        return heldout
    episodes = build_fold(config, source, shots=1, seed=VALIDATION_SEED)
    ids = spread(len(episodes.ids), config.train.validation_episodes)
    return episodes._replace(ids=ids, source=f"{len(ids)} episodes of the test fold's list")


def validation_class_ids(config: Config) -> tuple[int, ...]:
    """The classes that `build_validation` scores, 0-based, without reading a list."""
    bench = benchmark(config)
    if config.train.validation == "test_fold":
        return bench.test_class_ids(config.data.fold)
    return bench.train_class_ids(config.data.fold)


def build_test(config: Config, source: ImageSource, shots: int) -> EpisodeSet:
    """The test episodes: the fold's list, or a manifest.

    Raises:
        ValueError: as `read_episodes`.
    """
    if config.test.episodes is None:
        episodes = build_fold(config, source, shots=shots, seed=config.test.seed)
        return episodes._replace(ids=spread(len(episodes.ids), config.test.max_episodes))
    specs = read_episodes(config, config.test.episodes, source.benchmark, shots)
    source.reserve(entry for spec in specs for entry in (spec.query, *spec.supports))
    classes = source.benchmark.test_class_ids(config.data.fold)
    dataset = EpisodeDataset(source, ManifestPlan(specs))
    return EpisodeSet(dataset, range(len(specs)), classes, str(config.test.episodes))


def read_episodes(
    config: Config, path: Path, benchmark: Benchmark, shots: int
) -> list[EpisodeSpec]:
    """The episodes of a manifest, which must suit the fold and the number of shots.

    Raises:
        ValueError: a broken line, another number of supports, or classes of another fold.
    """
    specs = read_manifest(path, benchmark)
    if len(specs[0].supports) != shots:
        raise ValueError(
            f"{path} holds {len(specs[0].supports)}-shot episodes, but test.shots "
            f"asks for {shots}: set --test.shots {len(specs[0].supports)}"
        )
    classes = benchmark.test_class_ids(config.data.fold)
    foreign = sorted({spec.class_id + 1 for spec in specs} - {c + 1 for c in classes})
    if foreign:
        raise ValueError(
            f"{path} holds the class ids {foreign}, which are not novel in fold "
            f"{config.data.fold}: set data.fold to the manifest's"
        )
    return specs


def build_fold(config: Config, source: ImageSource, *, shots: int, seed: int) -> EpisodeSet:
    """Every entry of the fold's test list once as the query."""
    bench, fold = source.benchmark, config.data.fold
    published = config.data.lists == "published"
    entries = lists.test_entries(bench, config.lists_dir, fold, published=published)
    entries = _usable(config, source, entries)
    plan = ListPlan(bench, entries, seed=seed, shots=shots, supports=config.test.supports)
    dataset = EpisodeDataset(source, plan)
    return EpisodeSet(dataset, range(len(plan)), bench.test_class_ids(fold), "the fold's test list")


def training_entries(config: Config) -> tuple[list[Entry], list[Entry]]:
    """List entries to train on, and those of the training classes that are held out."""
    bench, fold = benchmark(config), config.data.fold
    published = config.data.lists == "published"
    entries = lists.training_entries(bench, config.lists_dir, fold, published=published)
    held = lists.heldout_entries(bench, config.lists_dir, fold, published=published)
    if held:
        return entries, held
    test = lists.test_entries(bench, config.lists_dir, fold, published=published)
    return lists.split_holdout(entries, config.data.holdout, VALIDATION_SEED, exclude=test)


def spread(length: int, wanted: int) -> list[int]:
    """`wanted` positions spread evenly over a list; all of them for 0 or more than there are."""
    if not 0 < wanted < length:
        return list(range(length))
    return [i * length // wanted for i in range(wanted)]


def _usable(config: Config, source: ImageSource, entries: Sequence[Entry]) -> list[Entry]:
    """The entries with a large enough object; all must have a mask map, now and not hours later."""
    entries = with_min_object(entries, source, config.data.min_object)
    bench, store = source.benchmark, source.store
    if store is not None:
        keys = dict.fromkeys(bench.mask_key(entry.split, entry.name) for entry in entries)
        missing = [key for key in keys if key not in store]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(keys)} listed images have no mask map in "
                f"{config.masks_dir}, {missing[0]} for one: run main_0_extract_masks.py with the "
                "same --config first"
            )
    source.reserve(entries)
    return entries


def _drawable(
    entries: Sequence[Entry], needed: int = 2, *, among: Sequence[Entry] | None = None
) -> list[Entry]:
    """Without the classes that have too few images (`among` all): no support could be drawn."""
    images: dict[int, set[str]] = {}
    for entry in among or entries:
        images.setdefault(entry.class_id, set()).add(entry.name)
    return [entry for entry in entries if len(images[entry.class_id]) >= needed]
