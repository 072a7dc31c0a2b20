"""From the config to the episodes of training, validation, calibration and test."""

import dataclasses
import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from mgcl.config import Config
from mgcl.datasets import lists
from mgcl.datasets.absent import AbsentPlan, classes_shown
from mgcl.datasets.benchmarks import Benchmark, find_benchmark
from mgcl.datasets.episodes import (
    CyclePlan,
    EpisodeDataset,
    EpisodeSpec,
    ListPlan,
    ManifestPlan,
    ShuffledPlan,
)
from mgcl.datasets.fingerprint import data_facts
from mgcl.datasets.lists import Entry
from mgcl.datasets.manifest import read_manifest
from mgcl.datasets.pool import PoolDataset, choose_images
from mgcl.datasets.samples import ImageSource, MaskSource, with_min_object, without_classes

POOL_IMAGES = 60  # of each class; more tell little more
VALIDATION_SEED = 20_240  # of the fixed validation and calibration episodes, whatever train.seed


class EpisodeSet(NamedTuple):
    """Episodes to go through, and the classes that they are scored on."""

    dataset: EpisodeDataset
    ids: Sequence[int]
    class_ids: tuple[int, ...]
    source: str
    """What they are drawn from, in words for the report."""
    absent: tuple[int, ...] = ()
    """Further classes that no episode asks for: they have no score and no part in the mean."""


class Source(ImageSource):
    """The configured images with their lists: files and labels are read once for all sets."""

    def __init__(self, config: Config, store: MaskSource | None) -> None:
        """Read nothing yet."""
        super().__init__(
            benchmark(config),
            config.data.root,
            store,
            config.data.image_size,
            cache_bytes=int(config.data.cache_gib * 2**30),
        )
        self._config = config
        self._published = config.data.lists == "published"
        self._usable: dict[str, list[Entry]] = {}

    @functools.cached_property
    def test(self) -> list[Entry]:
        """Entries of the tested fold."""
        config, fold = self._config, self._config.data.fold
        return lists.test_entries(self.benchmark, config.lists_dir, fold, published=self._published)

    @functools.cached_property
    def trained(self) -> tuple[list[Entry], list[Entry]]:
        """Entries to train on, and those of the training classes that are held out."""
        data, where = self._config.data, self._config.lists_dir
        training = lists.training_entries(
            self.benchmark, where, data.fold, published=self._published
        )
        held = lists.heldout_entries(
            self.benchmark, where, data.fold, published=self._published, used=training + self.test
        )
        if held:
            return training, held
        return lists.split_holdout(training, data.holdout, VALIDATION_SEED, exclude=self.test)

    def usable(self, part: str) -> list[Entry]:
        """The entries of "training", "heldout" or "test" that count, looked at once.

        "choosing" are those of the classes that `train.validation = "heldout_classes"` leaves out
        of the training and of the calibration.
        """
        if part not in self._usable:
            entries = self.test if part == "test" else self.trained[part != "training"]
            if part != "test":
                left_out = heldout_class_ids(self._config)
                entries = [e for e in entries if (e.class_id in left_out) == (part == "choosing")]
            if part == "training" and self._config.data.novel_pixels == "drop":
                novel = self.benchmark.test_class_ids(self._config.data.fold)
                entries = without_classes(entries, self, novel)
            self._usable[part] = _usable(self._config, self, entries)
        return self._usable[part]

    def facts_if_there(self) -> dict[str, str]:
        """`facts`, or what of them is known where the training's files are not all there."""
        try:
            return self.facts()
        except (OSError, ValueError):
            return {"classes": " ".join(self.benchmark.class_names)}

    def facts(self) -> dict[str, str]:
        """What a training on them learns from, see `fingerprint.data_facts`."""
        return data_facts(self.benchmark, self.root, [e for part in self.trained for e in part])


def build_source(config: Config) -> Source:
    """Images, labels and mask maps of the configured data set.

    Raises:
        ValueError: the mask maps are missing or of other settings: main_0 comes first.
    """
    from mgcl.masks.store import MaskStore

    if config.masks.generator == "none":
        store = None
    elif not config.masks_dir.is_dir():
        raise ValueError(
            f"no mask maps in {config.masks_dir.absolute()}: run main_0_extract_masks.py with the "
            "same --config first"
        )
    else:
        store = MaskStore(config.masks_dir)
    return Source(config, store)


def benchmark(config: Config) -> Benchmark:
    """The configured benchmark's facts."""
    return find_benchmark(config.data.benchmark, config.data.root)


def heldout_class_ids(config: Config) -> tuple[int, ...]:
    """Every third training class, if the best epoch is chosen on classes left out of training."""
    if config.train.validation != "heldout_classes":
        return ()
    return benchmark(config).train_class_ids(config.data.fold)[1::3]


def trained_class_ids(config: Config) -> tuple[int, ...]:
    """The classes that are trained on, 0-based."""
    left_out = heldout_class_ids(config)
    classes = benchmark(config).train_class_ids(config.data.fold)
    return tuple(c for c in classes if c not in left_out)


def build_training(config: Config, source: Source) -> EpisodeSet:
    """The training episodes of the run; ids count on over the epochs."""
    entries = source.usable("training")
    plan_type = CyclePlan if source.benchmark.cycle_classes else ShuffledPlan
    plan = plan_type(source.benchmark, entries, seed=config.train.seed)
    episodes = config.train.episodes_per_epoch or len(plan)
    ids = range(config.train.epochs * episodes)
    classes = trained_class_ids(config)
    return EpisodeSet(EpisodeDataset(source, plan), ids, classes, f"{len(entries)} list entries")


def build_heldout(config: Config, source: Source) -> EpisodeSet:
    """1-shot episodes of the training classes on images that are neither trained on nor tested."""
    entries = source.usable("heldout")
    words = "held-out images of the training classes"
    if not entries:
        entries = source.usable("training")
        words = "training images of the training classes (data.holdout is 0)"
    entries = lists.drawable(entries)
    plan = ListPlan(source.benchmark, entries, seed=VALIDATION_SEED, shots=1)
    ids = spread(len(entries), config.train.calibration_episodes)
    classes = trained_class_ids(config)
    words = f"{len(ids)} episodes on {words}"
    return with_present(EpisodeSet(EpisodeDataset(source, plan), ids, classes, words))


def of_shots(part: EpisodeSet, shots: int) -> EpisodeSet:
    """The same queries with that many supports each, less classes with too few images."""
    plan = part.dataset.plan
    assert isinstance(plan, ListPlan)
    entries = lists.drawable([plan.entries[i] for i in part.ids], shots + 1, among=plan.entries)
    if not entries:
        return part._replace(ids=[])
    drawn = dataclasses.replace(plan, entries=lists.drawable(plan.entries, shots + 1), shots=shots)
    places = {entry: i for i, entry in enumerate(drawn.entries)}
    ids = [places[entry] for entry in entries]
    return part._replace(dataset=EpisodeDataset(part.dataset.source, drawn), ids=ids)


def build_validation(config: Config, source: Source, heldout: EpisodeSet) -> EpisodeSet:
    """The fixed 1-shot episodes that choose the best epoch: of the test fold, or `heldout`."""
    if config.train.validation == "train_classes":
        return heldout
    if config.train.validation == "heldout_classes":
        entries = lists.drawable(source.usable("choosing"))
        plan = ListPlan(source.benchmark, entries, seed=VALIDATION_SEED, shots=1)
        ids = spread(len(entries), config.train.validation_episodes)
        words = f"{len(ids)} episodes of training classes left out of the training"
        dataset = EpisodeDataset(source, plan)
        return with_present(EpisodeSet(dataset, ids, heldout_class_ids(config), words))
    episodes = build_fold(config, source, shots=1, seed=VALIDATION_SEED)
    ids = spread(len(episodes.ids), config.train.validation_episodes)
    words = f"{len(ids)} episodes of the test fold's list"
    return with_present(episodes._replace(ids=ids, source=words))


def validation_class_ids(config: Config) -> tuple[int, ...]:
    """The classes that `build_validation` scores, 0-based, without reading a list."""
    bench = benchmark(config)
    if config.train.validation == "test_fold":
        return bench.test_class_ids(config.data.fold)
    return heldout_class_ids(config) or bench.train_class_ids(config.data.fold)


def build_test(config: Config, source: Source, shots: int) -> EpisodeSet:
    """The test episodes: the fold's list, or a manifest.

    Raises:
        ValueError: as `read_episodes`.
    """
    if config.test.episodes is None:
        episodes = build_fold(config, source, shots=shots, seed=config.test.seed)
        ids = spread(len(episodes.ids), config.test.max_episodes)
        return with_present(episodes._replace(ids=ids))
    specs = read_episodes(config, config.test.episodes, source.benchmark, shots)
    source.reserve(entry for spec in specs for entry in (spec.query, *spec.supports))
    classes = source.benchmark.test_class_ids(config.data.fold)
    dataset = EpisodeDataset(source, ManifestPlan(specs))
    words = str(config.test.episodes)
    return with_present(EpisodeSet(dataset, range(len(specs)), classes, words))


def with_present(part: EpisodeSet) -> EpisodeSet:
    """The set, scored on the classes that its episodes ask for; the others are absent."""
    plan = part.dataset.plan
    if isinstance(plan, ListPlan):  # the class of an episode is known before its supports are
        asked = {plan.entries[i].class_id for i in part.ids}
    else:
        asked = {plan(i).class_id for i in part.ids}
    return part._replace(
        class_ids=tuple(c for c in part.class_ids if c in asked),
        absent=tuple(c for c in (*part.class_ids, *part.absent) if c not in asked),
    )


def build_absent(config: Config, part: EpisodeSet) -> EpisodeSet:
    """The same supports with queries that do not show the class; no ids where all images do."""
    source, plan = part.dataset.source, part.dataset.plan
    if isinstance(plan, ListPlan):
        entries = list(plan.entries)
    else:
        entries = [e for i in part.ids for e in (plan(i).query, *plan(i).supports)]
    absent = AbsentPlan(plan, classes_shown(source, entries), seed=config.test.seed)
    ids = [i for i in part.ids if absent.lacking(plan(i).class_id)]
    words = "images of the list that do not show the class"
    return EpisodeSet(EpisodeDataset(source, absent), ids, part.class_ids, words)


def build_pool(source: Source) -> PoolDataset:
    """Training images of all training classes, to learn from what an image may show."""
    return PoolDataset(
        source, choose_images(source.usable("training"), POOL_IMAGES, VALIDATION_SEED)
    )


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


def build_fold(config: Config, source: Source, *, shots: int, seed: int) -> EpisodeSet:
    """Every entry of the fold's test list once as the query."""
    bench, fold = source.benchmark, config.data.fold
    entries = source.usable("test")
    plan = ListPlan(bench, entries, seed=seed, shots=shots, supports=config.test.supports)
    dataset = EpisodeDataset(source, plan)
    return EpisodeSet(dataset, range(len(plan)), bench.test_class_ids(fold), "the fold's test list")


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
        stale = _stale(source, entries)
        if stale:
            raise ValueError(
                f"{len(stale)} of {len(keys)} listed images have changed since their masks were "
                f"cut, {stale[0]} for one: run main_0_extract_masks.py with the same --config "
                "first, it cuts them anew"
            )
    source.reserve(entries)
    return entries


def _stale(source: ImageSource, entries: Sequence[Entry]) -> list[Path]:
    """The images that are no longer those that their masks were cut from."""
    bench, store = source.benchmark, source.store
    assert store is not None
    names = dict.fromkeys((entry.split, entry.name) for entry in entries)
    paths = [bench.image_path(source.root, *name) for name in names]
    keys = [bench.mask_key(*name) for name in names]
    with ThreadPoolExecutor(8) as pool:
        stale = pool.map(store.is_stale, keys, paths)
        return [path for path, old in zip(paths, stale, strict=True) if old]
