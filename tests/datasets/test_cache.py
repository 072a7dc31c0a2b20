import pickle
import shutil

import numpy as np
import pytest
import torch

from mgcl.datasets import lists
from mgcl.datasets.benchmarks import BENCHMARKS
from mgcl.datasets.cache import SampleCache
from mgcl.datasets.episodes import EpisodeDataset, ShuffledPlan
from mgcl.datasets.loader import in_batches, load_batches
from mgcl.datasets.samples import ImageSource

ISAID = BENCHMARKS["isaid"]


def episodes(root, cache_bytes):
    entries = lists.training_entries(ISAID, root / "splits", 0, published=True)
    source = ImageSource(ISAID, root, None, 64, cache_bytes=cache_bytes)
    source.reserve(entries)
    return EpisodeDataset(source, ShuffledPlan(ISAID, entries, seed=0))


def load(dataset, ids, workers=0):
    loader = load_batches(dataset, in_batches(ids, 4), workers=workers, pin_memory=False)
    return [torch.cat(parts) for parts in zip(*loader, strict=True)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache_bytes", [0, 7 * 5 * 64 * 64, 2**30])
def test_cached_episodes_are_those_read_from_disk_in_the_first_and_in_later_epochs(
    isaid_root, cache_bytes, workers
):
    plain, cached = episodes(isaid_root, 0), episodes(isaid_root, cache_bytes)
    for _ in range(2):
        pairs = zip(load(plain, range(40)), load(cached, range(40), workers), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_what_one_process_has_read_no_other_reads_again(isaid_root, tmp_path):
    root = shutil.copytree(isaid_root, tmp_path / "data")
    dataset = episodes(root, 2**30)
    first = load(dataset, range(40), workers=2)
    shutil.rmtree(root / "train" / "images")
    for workers in (0, 1):
        assert all(map(torch.equal, first, load(dataset, range(40), workers)))


def test_an_image_that_could_not_be_read_is_not_taken_for_read(isaid_root, tmp_path):
    root = shutil.copytree(isaid_root, tmp_path / "data")
    dataset = episodes(root, 2**30)
    shutil.move(root / "train" / "images", tmp_path / "elsewhere")
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match="no image"):
            dataset[0]
    shutil.move(tmp_path / "elsewhere", root / "train" / "images")
    assert torch.equal(dataset[0].query_image, episodes(root, 0)[0].query_image)


def test_no_more_is_kept_than_the_limit_holds_and_each_key_has_one_place():
    reads = []

    def get(key):
        return cache.get(key, lambda: reads.append(key) or np.full((2, 3), ord(key), np.uint8))

    cache = SampleCache((2, 3), limit=3 * 7 + 6)
    cache.reserve("aab")
    cache.reserve("bcd")
    for key in "abcdabcd":
        assert (get(key) == ord(key)).all()
    assert reads == list("abcdd")


def test_a_process_that_shares_no_memory_keeps_nothing():
    cache = SampleCache((1,), limit=100)
    cache.reserve("a")
    cache.get("a", lambda: np.ones(1, np.uint8))
    copy = pickle.loads(pickle.dumps(cache))
    assert [copy.get("a", lambda value=v: np.array([value])).item() for v in (5, 6)] == [5, 6]
