"""Episodes as an evaluation compares them: every image encoded once, if there is room to keep it.

Which images an episode holds is known without reading any. So it is planned beforehand which
images are encoded before which batch, and only those are decoded.

How an image is encoded depends in its last bits on how many others are encoded with it, but not on
which, nor on its place among them. Images are therefore encoded in groups of one size, and what is
kept, and where, changes no number.
"""

import itertools
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import torch

from mgcl import distributed
from mgcl.datasets.episodes import EpisodeDataset, EpisodeSpec, Images, Labels
from mgcl.datasets.lists import Entry
from mgcl.datasets.loader import Work, in_batches, load_work
from mgcl.engine.forward import EncodedEpisodes, Setup
from mgcl.model.fewshot import Encoded, FewShotNetwork, join
from mgcl.model.residual import ResidualMGCL

GROUP = {"cpu": 8}  # images encoded together
GROUP_ON_GPU = 32
MATCHED = 32  # episodes whose matcher's part is found at once


def by_class(dataset: EpisodeDataset, ids: Sequence[int], batch_size: int) -> list[list[int]]:
    """Batches class by class, so that a class's images find room where all would not.

    Of several processes this one's part; the batches are the same with any number of them.
    """
    ordered = sorted(ids, key=lambda i: dataset.plan(i).class_id)
    return list(distributed.block(in_batches(ordered, batch_size)))


class EncodedLoader:
    """Given batches of episodes, encoded."""

    def __init__(
        self,
        network: FewShotNetwork,
        dataset: EpisodeDataset,
        batches: Sequence[list[int]],
        *,
        setup: Setup,
        workers: int,
    ) -> None:
        """Nothing is read or encoded yet.

        Args:
            network: on the device.
            dataset: the episodes.
            batches: episode ids of this process's batches, none of them empty.
            setup: device, precision, and the encoded images that are kept.
            workers: processes that load; 0 loads in this one.
        """
        self.network, self.dataset, self.setup, self.workers = network, dataset, setup, workers
        self.batches = batches
        self.group = GROUP.get(setup.device.type, GROUP_ON_GPU)

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.batches)

    def __iter__(self) -> Iterator[EncodedEpisodes]:
        """Encode what is not kept, and join what each batch needs."""
        store = self.setup.features
        fingerprint, levels = self._found()
        plan = self._plan(fingerprint)
        work = [piece for step in plan for piece in step.work()]
        here = self.setup.device.type == "cpu" and not any(step.groups for step in plan)
        # processes for labels alone cost a processor more than they take off it
        loaded = iter(load_work(self.dataset, work, workers=0 if here else self.workers))
        fresh: dict[tuple[int, Hashable], Encoded] = {}  # encoded for a batch that has not come yet
        for number, step in enumerate(plan):
            for group in step.groups:
                for wanted, encoded in zip(group, self._encode(next(loaded)), strict=False):
                    fresh[wanted.batch, self._key(fingerprint, wanted.entry)] = encoded
            keys = [[self._key(fingerprint, e) for e in _entries(spec)] for spec in step.specs]
            used = {
                key: fresh.pop((number, key)) if (number, key) in fresh else store[key]
                for key in dict.fromkeys(itertools.chain(*keys))
            }
            store.use(used)
            of_places = zip(*keys, strict=True)  # queries, first supports, ...
            query, *supports = (
                store.unpacked(join([used[key].only(levels) for key in keys_of]))
                for keys_of in of_places
            )
            yield EncodedEpisodes(query, supports, self._moved(next(loaded)))

    def count(self) -> int:
        """Images that the next pass encodes; nothing is read for it."""
        steps = self._plan(self._found()[0])
        return sum(len(group) for step in steps for group in step.groups)

    def _found(self) -> tuple[str, slice]:
        """Whose encoded images serve, and which of their levels: another's if all are kept."""
        own, store = self.network.fingerprint(), self.setup.features
        if all(own != other for other, _ in store.within.values()):  # digests take time: ask once
            store.within |= {part: (own, which) for part, which in self.network.contains().items()}
        if own in store.within:
            other, which = store.within[own]
            specs = (self.dataset.plan(i) for batch in self.batches for i in batch)
            if all(self._key(other, entry) in store for spec in specs for entry in _entries(spec)):
                return other, which
        return own, slice(None)

    def _plan(self, fingerprint: str) -> list["_Step"]:
        """Before which batch each missing image is encoded: as late as whole groups allow."""
        kept = self.setup.features.sizes()
        size = self._size() if kept.limit else 1
        batches = [[self.dataset.plan(i) for i in batch] for batch in self.batches]
        queue: deque[_Wanted] = deque()
        for number, specs in enumerate(batches):
            entries = itertools.chain(*map(_entries, specs))
            needed = {self._key(fingerprint, entry): entry for entry in entries}
            queue += [_Wanted(number, e) for key, e in needed.items() if key not in kept]
            kept.use(dict.fromkeys(needed, size))
        steps = []
        for number, (ids, specs) in enumerate(zip(self.batches, batches, strict=True)):
            groups = []
            while queue and queue[0].batch <= number:
                groups.append([queue.popleft() for _ in range(min(self.group, len(queue)))])
            steps.append(_Step(ids, specs, groups))
        return steps

    def _key(self, fingerprint: str, entry: Entry) -> Hashable:
        return fingerprint, self.dataset.source, entry.split, entry.name

    def _size(self) -> int:
        """Bytes of an encoded image."""
        side = self.dataset.source.image_size
        blank = torch.zeros(1, 4, side, side, dtype=torch.uint8)
        encoded = self.setup.encode(self.network, blank[:, :3], blank[:, 3])
        return self.setup.features.packed(encoded).nbytes

    def _encode(self, loaded: Images) -> list[Encoded]:
        """A group of images, which is filled up with its last one; one by one."""
        filled = torch.arange(self.group).clamp_max(len(loaded.images) - 1)
        images, mask_maps = loaded.images[filled], loaded.mask_maps[filled]
        with torch.inference_mode(False), torch.no_grad():  # a training may take them up
            group = self.setup.encode(self.network, images, mask_maps)
            return [one.clone() for one in self.setup.features.packed(group).split()]

    def _moved(self, labels: Labels) -> Labels:
        query, supports = (label.to(self.setup.device, non_blocking=True) for label in labels[:2])
        return labels._replace(query=query, supports=supports)


def encode_parts(
    network: FewShotNetwork,
    dataset: EpisodeDataset,
    batches: Sequence[list[int]],
    *,
    setup: Setup,
    workers: int,
) -> Iterator[EncodedEpisodes]:
    """This process's part of each batch, encoded; it is empty where `loader.load_parts`' is.

    What a matcher below the network says is asked of several batches at once: of so few episodes
    starting its operations takes as long as doing them. As with images, how many they are tells in
    the last bits, which and where does not: they are filled up with the last one.
    """
    parts = [list(distributed.share(batch)) for batch in batches]
    to_load = [part or batch[:1] for part, batch in zip(parts, batches, strict=True)]
    loader = EncodedLoader(network, dataset, to_load, setup=setup, workers=workers)
    encoded = iter(loader)
    if isinstance(network, ResidualMGCL):
        encoded = _matched(network, encoded, setup)
    for part, episodes in zip(parts, encoded, strict=True):
        yield episodes if part else episodes.part(0, 0)


def _matched(
    network: ResidualMGCL, batches: Iterator[EncodedEpisodes], setup: Setup
) -> Iterator[EncodedEpisodes]:
    for first in batches:
        more = max(1, MATCHED // len(first.labels.query)) - 1
        block = [first, *itertools.islice(batches, more)]
        sizes = [len(batch.labels.query) for batch in block]
        whole = block + (MATCHED - sum(sizes)) * [block[-1].part(sizes[-1] - 1, sizes[-1])]
        query = join([batch.query for batch in whole])
        supports = [*map(join, zip(*(batch.supports for batch in whole), strict=True))]
        labels = setup.target(torch.cat([batch.labels.supports for batch in whole]))
        with setup.autocast(), torch.no_grad():
            H, W = labels.shape[2:]
            found = network.match(query, supports, labels, query.mask_map, (H, W))
        for batch, matched in zip(block, found[: sum(sizes)].split(sizes), strict=True):
            yield batch._replace(matched=matched)


class _Wanted(NamedTuple):
    """An image to be encoded."""

    batch: int
    """The first batch that needs it."""
    entry: Entry


class _Step(NamedTuple):
    """A batch of episodes, and the groups of images that are encoded before it."""

    ids: list[int]
    specs: list[EpisodeSpec]
    groups: list[list[_Wanted]]

    def work(self) -> list[Work]:
        """What is loaded for it, in this order."""
        groups = [Work(entries=[wanted.entry for wanted in group]) for group in self.groups]
        return [*groups, Work(episode_ids=self.ids)]


def _entries(spec: EpisodeSpec) -> tuple[Entry, ...]:
    return spec.query, *spec.supports
