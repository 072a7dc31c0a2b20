"""Loader and disk: mask maps as PNGs beside run lengths decoded for every sample."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.inputs import region_map
from mgcl.datasets.benchmarks import BENCHMARKS
from mgcl.datasets.episodes import EpisodeDataset, EpisodeSpec, ShuffledPlan
from mgcl.datasets.lists import Entry
from mgcl.datasets.loader import in_batches, load_batches
from mgcl.datasets.samples import ImageSource
from mgcl.datasets.synthetic.command import paint_scene
from mgcl.masks.store import MaskStore
from tests import oracle

ISAID = BENCHMARKS["isaid"]
CACHE = "sam_mask_vit_h_t64_p32_s50"  # the published program's folder name


class Tree(NamedTuple):
    """Scenes on disk with both kinds of masks."""

    root: Path
    entries: list[Entry]
    store: MaskStore


def write_tree(root: Path, images: int, size: int = 256) -> Tree:
    """Painted scenes in iSAID's tree, with a mask store and a cache in the published format."""
    store = MaskStore(root / "masks", {"name": "benchmark"})
    generator = torch.Generator().manual_seed(0)
    entries = [Entry("train", f"P{i:04d}", i % 4) for i in range(images)]
    for i, entry in enumerate(entries):
        image, label = paint_scene(size, entry.class_id, i)
        mask_map = region_map(size, generator).numpy()
        _save(ISAID.image_path(root, "train", entry.name), image)
        _save(ISAID.label_path(root, "train", entry.name), label)
        store.save(ISAID.mask_key("train", entry.name), mask_map)
        cache = root / "train" / CACHE / f"{entry.name}.pkl"
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_bytes(pickle.dumps(_published_cache(image, label, mask_map, entry.name)))
    return Tree(root, entries, store)


def disk_bytes(tree: Tree) -> tuple[int, int]:
    """Bytes of the mask store and of the published cache, an image."""
    ours = sum(p.stat().st_size for p in tree.store.root.rglob("*.*"))
    theirs = sum(p.stat().st_size for p in (tree.root / "train" / CACHE).iterdir())
    return ours // len(tree.entries), theirs // len(tree.entries)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _published_cache(image: np.ndarray, label: np.ndarray, mask_map: np.ndarray, name: str) -> dict:
    stack = oracle.mask_stack(torch.from_numpy(mask_map)[None])
    small = torch.nn.functional.interpolate(stack, (64, 64), mode="nearest")[0].numpy()
    return {
        "image": image,
        "label": label,
        "masks": [oracle.rle_encode(m) for m in stack[0].numpy()],
        "input_size": image.shape[:2],
        "image_size": image.shape[:2],
        "image_name": name,
        "label_target": label[::4, ::4],
        "masks_target": [oracle.rle_encode(m) for m in small],
    }


class ReferenceEpisodes(Dataset):
    """The same episodes, decoding 128 run-length masks for every sample."""

    def __init__(self, tree: Tree, plan: Callable[[int], EpisodeSpec], size: int) -> None:
        """`size`: of the images."""
        self.tree, self.plan, self.size = tree, plan, size
        statistics = transforms.Normalize(oracle.IMAGENET_MEAN, oracle.IMAGENET_STD)
        steps = [transforms.Resize((size, size)), transforms.ToTensor(), statistics]
        self.transform = transforms.Compose(steps)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        """Image, label and mask stack of query and support."""
        spec = self.plan(index)
        return (*self._sample(spec.query), *self._sample(spec.supports[0]))

    def _sample(self, entry: Entry) -> tuple[torch.Tensor, ...]:
        with Image.open(ISAID.image_path(self.tree.root, entry.split, entry.name)) as file:
            image = self.transform(file.convert("RGB"))
        with Image.open(ISAID.label_path(self.tree.root, entry.split, entry.name)) as file:
            label = torch.from_numpy(np.array(file) == entry.class_id + 1).to(torch.uint8)
        cache = self.tree.root / entry.split / CACHE / f"{entry.name}.pkl"
        rles = pickle.loads(cache.read_bytes())["masks"]
        return image, label, torch.from_numpy(np.stack([oracle.rle_decode(r) for r in rles]))


def loaders(
    tree: Tree, *, batch: int, episodes: int, workers: int, cached: bool, size: int = 256
) -> dict[str, Callable[[], object]]:
    """Functions that load `episodes` episodes with either program's loader.

    `cached` lets ours keep what it has decoded, so that every call but the first is a later epoch.
    """
    plan = ShuffledPlan(ISAID, tree.entries, seed=0)
    source = ImageSource(ISAID, tree.root, tree.store, size, cache_bytes=cached * 2**30)
    source.reserve(tree.entries)
    ours = EpisodeDataset(source, plan)
    batches = in_batches(range(episodes), batch)
    fast = load_batches(ours, batches, workers=workers, pin_memory=False)
    slow = DataLoader(
        ReferenceEpisodes(tree, plan, size),
        sampler=range(episodes),
        batch_size=batch,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return {"reference": lambda: _drain(slow), "ours": lambda: _drain(fast)}


def _drain(loader: DataLoader) -> None:
    for _ in loader:
        pass


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
