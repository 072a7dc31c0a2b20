"""Test episodes whose query does not show the class: what a user's images do most of the time."""

from collections.abc import Callable, Iterable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from mgcl.datasets.episodes import EpisodeSpec, random_numbers
from mgcl.datasets.labels import read_label
from mgcl.datasets.lists import Entry
from mgcl.datasets.samples import ImageSource

_ABSENT = 4  # keeps the random numbers apart from those of the plans

Image = tuple[str, str]  # split and name


@dataclass(frozen=True)
class AbsentPlan:
    """The episodes of a plan with other queries, in which no pixel is of the supports' class.

    The query depends on (seed, shots, episode id) and the images alone.
    """

    plan: Callable[[int], EpisodeSpec]
    shown: Mapping[Image, Set[int]]
    """0-based classes of which each image that may be drawn has any pixel."""
    seed: int = field(kw_only=True)
    _lacking: dict[int, list[Image]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def lacking(self, class_id: int) -> list[Image]:
        """The images without a class, in order."""
        if class_id not in self._lacking:
            images = [image for image, classes in self.shown.items() if class_id not in classes]
            self._lacking[class_id] = images
        return self._lacking[class_id]

    def __call__(self, episode_id: int) -> EpisodeSpec:
        """The episode of an id; its class must be lacking in an image."""
        spec = self.plan(episode_id)
        images = self.lacking(spec.class_id)
        key = (_ABSENT, self.seed, len(spec.supports), episode_id)
        split, name = images[int(random_numbers(key, 1)[0]) % len(images)]
        return EpisodeSpec(Entry(split, name, spec.class_id), spec.supports)


def classes_shown(
    source: ImageSource, entries: Iterable[Entry], *, threads: int = 8
) -> dict[Image, frozenset[int]]:
    """The 0-based classes of which each image has any pixel; each label is read once."""
    images = list(dict.fromkeys((entry.split, entry.name) for entry in entries))

    def classes(image: Image) -> frozenset[int]:
        path = source.benchmark.label_path(source.root, *image)
        ids = np.unique(read_label(path, source.benchmark))
        return frozenset(int(i) - 1 for i in ids if 0 < i <= len(source.benchmark.class_names))

    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(images, pool.map(classes, images), strict=True))
