"""Images of many classes at once, for what is fitted to images and not to episodes."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from mgcl.datasets.lists import Entry, uniform
from mgcl.datasets.samples import ImageSource


class LabelledImage(NamedTuple):
    """An image with all its labels; a loader puts a batch dimension in front."""

    image: torch.Tensor  # (3, S, S) uint8 RGB
    ids: torch.Tensor  # (S, S) uint8: 1 + the class, 0 = none, 255 = ignored


class PoolDataset(torch.utils.data.Dataset[LabelledImage]):
    """The images of a list's entries, each once."""

    def __init__(self, source: ImageSource, entries: Sequence[Entry]) -> None:
        """Read nothing yet; of entries of one image any will do."""
        self.source, self.entries = source, entries

    def __len__(self) -> int:
        """Number of images."""
        return len(self.entries)

    def __getitem__(self, place: int) -> LabelledImage:
        """Load an image."""
        return LabelledImage(*self.source.load_ids(self.entries[place]))


def choose_images(entries: Iterable[Entry], per_class: int, seed: int) -> list[Entry]:
    """An entry of each image that is chosen: at most `per_class` for each class.

    Whether an image is chosen depends on the seed, its name and the other names alone.
    """
    by_class: dict[int, dict[str, Entry]] = {}
    for entry in entries:
        by_class.setdefault(entry.class_id, {})[entry.name] = entry
    chosen: dict[tuple[str, str], Entry] = {}
    for _, images in sorted(by_class.items()):
        for name in sorted(images, key=lambda name: (uniform(seed, name), name))[:per_class]:
            chosen.setdefault((images[name].split, name), images[name])
    return list(chosen.values())
