"""Episodes: one query and K supports of one class, each a pure function of seed and episode id.

A plan says which images an episode holds and reads none; `EpisodeDataset` loads them. No plan
keeps a random state, so episodes are the same for any worker, batch size, machine and order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch

from mgcl.datasets.benchmarks import Benchmark
from mgcl.datasets.lists import Entry
from mgcl.datasets.samples import ImageSource

Supports = Literal["distinct", "published"]
_TEST, _SHUFFLE, _CYCLE = 1, 2, 3  # keep the plans' random numbers apart


class EpisodeSpec(NamedTuple):
    """Which images an episode holds; all entries are of one class."""

    query: Entry
    supports: tuple[Entry, ...]

    @property
    def class_id(self) -> int:
        """The 0-based class of the episode."""
        return self.query.class_id


class Episode(NamedTuple):
    """One episode, uint8 throughout; the loader puts a batch dimension in front of all."""

    query_image: torch.Tensor  # (3, H, W) RGB
    query_label: torch.Tensor  # (H, W) in {0, 1, 255}
    query_mask_map: torch.Tensor  # (H, W)
    support_images: torch.Tensor  # (K, 3, H, W)
    support_labels: torch.Tensor  # (K, H, W)
    support_mask_maps: torch.Tensor  # (K, H, W)
    class_id: int | torch.Tensor  # 0-based
    episode_id: int | torch.Tensor

    @property
    def labels(self) -> "Labels":
        """What a batch holds beside its images."""
        ids = torch.as_tensor(self.class_id), torch.as_tensor(self.episode_id)
        return Labels(self.query_label, self.support_labels, *ids)

    def part(self, start: int, stop: int) -> "Episode":
        """Some episodes of a batch, none where there are none."""
        return Episode(*(torch.as_tensor(t)[start:stop] for t in self))


class Images(NamedTuple):
    """Images to encode, uint8."""

    images: torch.Tensor  # (N, 3, H, W) RGB
    mask_maps: torch.Tensor  # (N, H, W)


class Labels(NamedTuple):
    """What a batch of episodes holds beside its images."""

    query: torch.Tensor  # (B, H, W) uint8 in {0, 1, 255}
    supports: torch.Tensor  # (B, K, H, W) likewise
    class_ids: torch.Tensor  # (B,) 0-based
    episode_ids: torch.Tensor  # (B,)


class EpisodeDataset(torch.utils.data.Dataset[Episode]):
    """Loads the episodes of a plan: `dataset[episode_id]` is a pure function of the id."""

    def __init__(self, source: ImageSource, plan: Callable[[int], EpisodeSpec]) -> None:
        """Read nothing yet; `plan` says which images an episode id stands for."""
        self.source = source
        self.plan = plan

    def __getitem__(self, episode_id: int) -> Episode:
        """Load the query and the supports of an episode."""
        spec = self.plan(episode_id)
        query = self.source.load(spec.query)
        supports = [self.source.load(entry) for entry in spec.supports]
        images, labels, mask_maps = (torch.stack(part) for part in zip(*supports, strict=True))
        return Episode(*query, images, labels, mask_maps, spec.class_id, episode_id)

    def images(self, entries: Sequence[Entry]) -> Images:
        """The images of list entries with their mask maps."""
        samples = [self.source.load(entry) for entry in entries]
        return Images(*(torch.stack([s[i] for s in samples]) for i in (0, 2)))

    def labels(self, episode_ids: Sequence[int]) -> Labels:
        """The labels of episodes; no image is decoded for them."""
        specs = [self.plan(i) for i in episode_ids]
        query = torch.stack([self.source.load_label(spec.query) for spec in specs])
        supports = [
            torch.stack([self.source.load_label(entry) for entry in spec.supports])
            for spec in specs
        ]
        classes = torch.tensor([spec.class_id for spec in specs])
        return Labels(query, torch.stack(supports), classes, torch.tensor([*episode_ids]))


@dataclass(frozen=True)
class ListPlan:
    """Test and validation: entry i of the list is the query of episode i.

    Supports depend on (seed, shots, i) and the list. "distinct" draws K different images,
    "published" draws with replacement as the published evaluation does; neither takes the query.
    """

    benchmark: Benchmark
    entries: Sequence[Entry]
    seed: int = field(kw_only=True)
    shots: int = field(kw_only=True)
    supports: Supports = field(default="distinct", kw_only=True)
    _classes: dict[int, list[Entry]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse a list with a class that has too few images."""
        needed = self.shots + 1 if self.supports == "distinct" else 2
        object.__setattr__(self, "_classes", _by_class(self.benchmark, self.entries, needed))

    def __len__(self) -> int:
        """Number of episodes: one for each entry."""
        return len(self.entries)

    def __call__(self, episode_id: int) -> EpisodeSpec:
        """The episode whose query is entry `episode_id`."""
        query = self.entries[episode_id]
        key = (_TEST, self.seed, self.shots, episode_id)
        return EpisodeSpec(query, _draw(self._classes, query, self.shots, key, self.supports))


@dataclass(frozen=True)
class ShuffledPlan:
    """iSAID-5i training: every entry once an epoch, in an order drawn from (seed, epoch).

    Episode id = epoch * len(plan) + position. One support, never the query's image.
    """

    benchmark: Benchmark
    entries: Sequence[Entry]
    seed: int = field(kw_only=True)
    _classes: dict[int, list[Entry]] = field(init=False, repr=False, compare=False)
    _orders: dict[int, np.ndarray] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        """Refuse a list with a class that has too few images."""
        object.__setattr__(self, "_classes", _by_class(self.benchmark, self.entries, needed=2))

    def __len__(self) -> int:
        """Number of episodes in an epoch."""
        return len(self.entries)

    def __call__(self, episode_id: int) -> EpisodeSpec:
        """The episode at a position of an epoch."""
        epoch, position = divmod(episode_id, len(self))
        query = self.entries[self._order(epoch)[position]]
        key = (_SHUFFLE, self.seed, episode_id)
        return EpisodeSpec(query, _draw(self._classes, query, 1, key))

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:  # keep the last two: a prefetching worker may go back
            for old in list(self._orders)[:-1]:
                del self._orders[old]
            numbers = random_numbers((_SHUFFLE, self.seed, epoch, 0), len(self))
            self._orders[epoch] = np.argsort(numbers, kind="stable")
        return self._orders[epoch]


@dataclass(frozen=True)
class CyclePlan:
    """DLRSD-5i training: the class cycles, query and supports are drawn from its images.

    As many episodes an epoch as the list has entries; episode id = epoch * len(plan) + position.
    """

    benchmark: Benchmark
    entries: Sequence[Entry]
    seed: int = field(kw_only=True)
    shots: int = field(default=1, kw_only=True)
    _classes: dict[int, list[Entry]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse a list with a class that has too few images."""
        object.__setattr__(
            self, "_classes", _by_class(self.benchmark, self.entries, self.shots + 1)
        )

    def __len__(self) -> int:
        """Number of episodes in an epoch."""
        return len(self.entries)

    def __call__(self, episode_id: int) -> EpisodeSpec:
        """The episode of an id; its class is the id modulo the number of classes."""
        classes = sorted(self._classes)
        images = self._classes[classes[episode_id % len(classes)]]
        number = int(random_numbers((_CYCLE, self.seed, episode_id, 0), 1)[0])
        query = images[number % len(images)]
        key = (_CYCLE, self.seed, episode_id, 1)
        return EpisodeSpec(query, _draw(self._classes, query, self.shots, key))


@dataclass(frozen=True)
class ManifestPlan:
    """The episodes of a manifest, in its order."""

    specs: Sequence[EpisodeSpec]

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.specs)

    def __call__(self, episode_id: int) -> EpisodeSpec:
        """The episode of a line of the manifest, counted from 0."""
        return self.specs[episode_id]


def _by_class(
    benchmark: Benchmark, entries: Sequence[Entry], needed: int
) -> dict[int, list[Entry]]:
    """Each class's distinct images in list order; every class must have `needed` of them."""
    if not entries:
        raise ValueError("the list is empty: no episode can be drawn from it")
    classes: dict[int, dict[Entry, None]] = {}
    for entry in entries:
        classes.setdefault(entry.class_id, {})[entry] = None
    for class_id, images in classes.items():
        if len(images) < needed:
            raise ValueError(
                f"class {class_id + 1} ({benchmark.class_names[class_id]}) has {len(images)} "
                f"image(s) in the list, but an episode needs {needed}: "
                f"{'' if needed <= 2 else 'lower the number of shots or '}list more images of it"
            )
    return {class_id: list(images) for class_id, images in classes.items()}


def _draw(
    classes: dict[int, list[Entry]],
    query: Entry,
    shots: int,
    key: tuple[int, ...],
    supports: Supports = "distinct",
) -> tuple[Entry, ...]:
    """`shots` entries of the query's class, none of them the query."""
    others = [entry for entry in classes[query.class_id] if entry.name != query.name]
    drawn = []
    for number in random_numbers(key, shots):
        index = int(number) % len(others)
        drawn.append(others.pop(index) if supports == "distinct" else others[index])
    return tuple(drawn)


def random_numbers(key: tuple[int, ...], count: int) -> np.ndarray:
    """`count` 64-bit numbers that depend on `key` alone (raw PCG64, stable over versions)."""
    return np.random.PCG64(np.random.SeedSequence(key)).random_raw(count)
