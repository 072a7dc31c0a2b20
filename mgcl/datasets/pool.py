"""Images of many classes at once, for what is fitted to images and not to episodes."""

from collections.abc import Iterable, Sequence

import torch

from mgcl.datasets.episodes import EpisodeDataset, EpisodeSpec, Labels, ManifestPlan
from mgcl.datasets.lists import Entry, uniform
from mgcl.datasets.samples import ImageSource


class PoolDataset(EpisodeDataset):
    """The images of a list's entries, each once: as queries without supports."""

    def __init__(self, source: ImageSource, entries: Sequence[Entry]) -> None:
        """Read nothing yet; of entries of one image any will do."""
        super().__init__(source, ManifestPlan([EpisodeSpec(entry, ()) for entry in entries]))
        self.entries = entries

    def labels(self, episode_ids: Sequence[int]) -> Labels:
        """Instead of one class's label the ids of all: 1 + the class, 0 = none, 255 = ignored."""
        entries = [self.entries[i] for i in episode_ids]
        ids = torch.stack([self.source.load_ids(entry) for entry in entries])  # (B, H, W)
        classes = torch.tensor([entry.class_id for entry in entries])
        return Labels(ids, ids[:, None][:, :0], classes, torch.tensor([*episode_ids]))


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
