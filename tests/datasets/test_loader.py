import pytest
import torch

from mgcl.datasets import lists
from mgcl.datasets.benchmarks import BENCHMARKS
from mgcl.datasets.episodes import EpisodeDataset, ListPlan, ShuffledPlan
from mgcl.datasets.loader import in_batches, load_batches
from mgcl.datasets.samples import ImageSource

ISAID = BENCHMARKS["isaid"]


@pytest.fixture
def dataset(isaid_root):
    entries = lists.training_entries(ISAID, isaid_root / "splits", 0, published=True)
    source = ImageSource(ISAID, isaid_root, None, 64)
    return EpisodeDataset(source, ShuffledPlan(ISAID, entries, seed=0))


def load(dataset, ids, *, batch_size=4, workers=0):
    batches = in_batches(ids, batch_size)
    return list(load_batches(dataset, batches, workers=workers, pin_memory=True))


def test_episodes_are_the_same_with_no_and_with_two_workers(dataset):
    alone, shared = load(dataset, range(22)), load(dataset, range(22), workers=2)
    assert len(alone) == len(shared) == 6
    for a, b in zip(alone, shared, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_episodes_are_the_same_in_any_batch_size(dataset):
    ones, fours = load(dataset, range(8), batch_size=1), load(dataset, range(8), batch_size=4)
    for field in range(8):
        joined = [torch.cat([batch[field] for batch in batches]) for batches in (ones, fours)]
        assert torch.equal(*joined)


def test_batches_keep_the_order_of_the_ids_and_the_last_may_be_smaller(dataset):
    batches = load(dataset, [7, 3, 300, 5, 9], workers=1, batch_size=2)
    assert [b.episode_id.tolist() for b in batches] == [[7, 3], [300, 5], [9]]
    assert batches[0].class_id.dtype == torch.int64
    assert batches[0].query_image.shape == (2, 3, 64, 64)
    assert batches[0].support_labels.shape == (2, 1, 64, 64)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_worker_surfaces_as_it_was_raised(isaid_root, tmp_path, workers):
    name = lists.test_entries(ISAID, isaid_root / "splits", 0, published=True)[0].name
    source = ImageSource(ISAID, tmp_path, None, 64)
    image = ISAID.image_path(tmp_path, "val", name)
    image.parent.mkdir(parents=True)
    image.write_bytes(ISAID.image_path(isaid_root, "val", name).read_bytes()[:700])
    entries = lists.test_entries(ISAID, isaid_root / "splits", 0, published=True)
    dataset = EpisodeDataset(source, ListPlan(ISAID, entries, seed=0, shots=1))
    try:  # not pytest.raises: a kept traceback delays the end of the worker by 5 s
        load(dataset, [0], workers=workers)
        message = "no error"
    except ValueError as error:
        message = str(error)
    assert message.startswith(f"{image} is damaged")
    assert "Traceback" not in message


def test_workers_live_on_between_passes(dataset):
    loader = load_batches(dataset, in_batches(range(8), 4), workers=1, pin_memory=False)
    first = [b.episode_id.tolist() for b in loader]
    workers = {w.pid for w in loader._iterator._workers}
    assert [b.episode_id.tolist() for b in loader] == first
    assert {w.pid for w in loader._iterator._workers} == workers
