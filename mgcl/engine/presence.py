"""Fits the presence score on training images: pairs that do and pairs that do not share a class.

A pair of a class is judged as a novel class's will be: by what *other* classes say. A third of them
is left out at a time, so that what a query shows instead is partly unknown, too, as in new images.
"""

import itertools
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mgcl.engine.features import Recent
from mgcl.engine.forward import EncodedEpisodes
from mgcl.model.matching import FITTED_SHOTS, unit
from mgcl.model.presence import GROUND, Known, Presence, pair_statistics

LEAST = 0.02  # of an image, from which on it counts as showing a class; none of it as not showing
SETS, QUERIES = 200, 8  # sets of supports; queries that show their class, and that do not
GROUND_CELLS, GROUND_STEPS = 12_000, 8
GROUPS = 3  # of the training classes; each is judged by what the others say
PLAIN = 0.98  # share of a cell that is no class
CHUNK = 32  # images at a time
ROOM = 2**30  # bytes of images in the metric


class Pool(NamedTuple):
    """Encoded training images with what they show; on the CPU."""

    cells: Tensor
    """(N, C, n) float16, of unit length."""
    shares: Tensor
    """(N, L, n) float16: share of each of L classes in each cell."""
    plain: Tensor
    """(N, n) float16: share of what is none of them."""

    def showing(self, place: int) -> Tensor:
        """Images that show a class, in order."""
        return torch.nonzero(self.shares[:, place].float().mean(dim=1) >= LEAST)[:, 0]

    def lacking(self, place: int) -> Tensor:
        """Images without anything of a class, in order."""
        return torch.nonzero(~self.shares[:, place].any(dim=1))[:, 0]


class PairSet(NamedTuple):
    """Supports of one class, and queries of which the first `shown` show it: places in the pool."""

    place: int
    supports: list[int]
    queries: list[int]
    shown: int


@torch.inference_mode()
def gather_pool(batches: Iterable[EncodedEpisodes], class_ids: Sequence[int]) -> Pool:
    """Take up encoded images; memory grows by 320 kB each with 624 channels at 256 px.

    Args:
        batches: of a `PoolDataset`, whose first level is that of a matcher's untrained metric.
        class_ids: the training classes, 0-based; all others are background, as in training.
    """
    parts = []
    for query, _, labels, _ in batches:
        features, ids = query.levels[0], labels.query
        wanted = torch.tensor(class_ids, device=ids.device) + 1
        size = (features.shape[2], features.shape[3])
        masks = (ids[:, None] == wanted[:, None, None]).float()  # (B, L, H, W)
        none = 1 - masks.sum(dim=1, keepdim=True) - (ids[:, None] == 255).float()
        shares = F.adaptive_avg_pool2d(torch.cat([masks, none], 1), size)
        cells, shares = features.flatten(2).half().cpu(), shares.flatten(2).half().cpu()
        parts.append((cells, shares[:, :-1], shares[:, -1]))
    return Pool(*map(torch.cat, zip(*parts, strict=True)))


@torch.no_grad()
def fit_presence(presence: Presence, pool: Pool, *, seed: int = 0) -> bool:
    """Fit everything of `presence`, on the device where it is.

    Returns:
        False if there are too few classes to learn from, three with two images each: it says
        nothing then.
    """
    generator = torch.Generator().manual_seed(seed)
    places = [place for place in range(pool.shares.shape[1]) if len(pool.showing(place)) > 1]
    if len(places) < 3:
        return False
    known = presence.known
    known.mean = mean_cell(pool).to(known.mean)
    regions = {place: region_means(known, pool, place) for place in places}
    ground = ground_means(known, pool, generator)
    found: dict[int, list[tuple[PairSet, Tensor]]] = {shots: [] for shots in FITTED_SHOTS}
    sets = -(-SETS // len(places))
    group_of = {place: number % GROUPS for number, place in enumerate(places)}
    for out in (places[group::GROUPS] for group in range(GROUPS)):
        known.learn([regions[other] for other in places if other not in out], ground)
        seen = InMetric(known, pool)
        for place, (shots, pairs_of) in itertools.product(out, found.items()):
            for pairs in draw_pairs(pool, place, shots, sets, generator):
                pairs_of.append((pairs, set_statistics(seen, pool, pairs)))
    known.learn([*regions.values()], ground)
    for shots, pairs_of in found.items():
        if pairs_of:
            numbers = torch.cat([found for _, found in pairs_of])
            shown = torch.cat([torch.arange(len(x)) < pairs.shown for pairs, x in pairs_of])
            group = torch.cat([torch.full((len(x),), group_of[p.place]) for p, x in pairs_of])
            presence.rule(shots).fit(numbers, shown.to(numbers.device), group.to(numbers.device))
    return True


def mean_cell(pool: Pool) -> Tensor:
    """The mean of all cells: (C,)."""
    total = torch.zeros(pool.cells.shape[1])
    for cells in pool.cells.split(CHUNK):
        total += cells.float().sum(dim=(0, 2))
    return total / (len(pool.cells) * pool.cells.shape[2])


def region_means(known: Known, pool: Pool, place: int) -> Tensor:
    """The mean of the centred cells of a class in each image that shows it: (images, C)."""
    means = []
    for images in pool.showing(place).split(CHUNK):
        cells = known.centre(pool.cells[images].to(known.mean))
        weight = pool.shares[images, place].to(cells)  # (b, n)
        means.append(torch.einsum("bcn,bn->bc", cells, weight) / weight.sum(dim=1, keepdim=True))
    return torch.cat(means)


def ground_means(known: Known, pool: Pool, generator: torch.Generator) -> Tensor:
    """What plain background looks like: at most `GROUND` means of its cells, (any, C).

    Spherical k-means of the centred cells that show no class.
    """
    plain = torch.nonzero(pool.plain > PLAIN)  # (cells, 2): image, cell
    if not len(plain):
        plain = torch.nonzero(pool.plain == pool.plain.amax())
    chosen = plain[torch.randperm(len(plain), generator=generator)[:GROUND_CELLS]]
    cells = pool.cells[chosen[:, 0], :, chosen[:, 1]].to(known.mean)  # (cells, C)
    cells = known.centre(cells[..., None])[..., 0]
    means = cells[:GROUND]
    for _ in range(GROUND_STEPS):
        nearest = (cells @ means.T).argmax(dim=1)
        sums = torch.zeros_like(means).index_add_(0, nearest, cells)
        empty = ~torch.isin(torch.arange(len(means), device=cells.device), nearest)
        means = unit(torch.where(empty[:, None], means, sums))
    return means


def draw_pairs(
    pool: Pool, place: int, shots: int, sets: int, generator: torch.Generator
) -> list[PairSet]:
    """Sets of pairs of a class, none where it has too few images."""
    showing, lacking = pool.showing(place), pool.lacking(place)
    if len(showing) <= shots or not len(lacking):
        return []
    drawn = []
    for _ in range(sets):
        images = showing[torch.randperm(len(showing), generator=generator)].tolist()
        others = lacking[torch.randperm(len(lacking), generator=generator)[:QUERIES]].tolist()
        queries = images[shots : shots + QUERIES]
        drawn.append(PairSet(place, images[:shots], queries + others, len(queries)))
    return drawn


class InMetric:
    """Images of the pool in the metric as it is now, each brought there once, if there is room."""

    def __init__(self, known: Known, pool: Pool) -> None:
        """None yet."""
        self.known, self._pool = known, pool
        self._kept: Recent[Tensor] = Recent(ROOM, lambda cells: cells.nbytes)

    def __call__(self, images: Sequence[int]) -> Tensor:
        """Cells of different images: (b, C, n)."""
        new = [image for image in images if image not in self._kept]
        fresh = dict(zip(new, self.known(self._pool.cells[new].to(self.known.mean)), strict=True))
        cells: dict[Hashable, Tensor] = {
            image: fresh[image] if image in fresh else self._kept[image] for image in images
        }
        self._kept.use(cells)
        return torch.stack([*cells.values()])


def set_statistics(seen: InMetric, pool: Pool, pairs: PairSet) -> Tensor:
    """(Q, S)."""
    cells = seen(pairs.queries + pairs.supports)
    query, support = cells[: len(pairs.queries)], cells[len(pairs.queries) :]
    shares = pool.shares[pairs.supports].to(cells)  # (K, L, n)
    foreground = shares[:, pairs.place]
    background = shares.sum(dim=1) + pool.plain[pairs.supports].to(cells) - foreground
    statistics, _ = pair_statistics(
        query,
        support.transpose(0, 1).flatten(1)[None],  # (K, C, n) -> (1, C, K*n)
        foreground.flatten()[None],
        background.flatten()[None],
        seen.known,
        len(pairs.supports),
    )
    return statistics
