import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mgcl.datasets import episodes, lists
from mgcl.datasets.benchmarks import BENCHMARKS
from mgcl.datasets.episodes import (
    CyclePlan,
    EpisodeDataset,
    EpisodeSpec,
    ListPlan,
    ManifestPlan,
    ShuffledPlan,
)
from mgcl.datasets.lists import Entry
from mgcl.datasets.manifest import read_manifest, write_manifest
from mgcl.datasets.samples import ImageSource

ISAID, DLRSD = BENCHMARKS["isaid"], BENCHMARKS["dlrsd"]
ENTRIES = [Entry("val", f"P{i}", i % 5) for i in range(60)]


def specs_of(plan):
    return [plan(i) for i in range(len(plan))]


def all_plans(seed):
    return [
        ListPlan(ISAID, ENTRIES, seed=seed, shots=5),
        ListPlan(ISAID, ENTRIES, seed=seed, shots=5, supports="published"),
        ShuffledPlan(ISAID, ENTRIES, seed=seed),
        CyclePlan(ISAID, ENTRIES, seed=seed),
    ]


@pytest.mark.parametrize("which", range(4))
@given(seed=st.integers(0, 2**32), ids=st.lists(st.integers(0, 59), max_size=8))
def test_an_episode_is_a_pure_function_of_seed_and_id(which, seed, ids):
    plan, again = all_plans(seed)[which], all_plans(seed)[which]
    drawn = {i: plan(i) for i in reversed(ids)}
    assert all(again(i) == drawn[i] for i in ids)


@pytest.mark.parametrize("which", range(4))
@given(seed=st.integers(0, 100))
def test_supports_share_the_class_and_never_hold_the_query(which, seed):
    for query, supports in specs_of(all_plans(seed)[which]):
        assert {s.class_id for s in supports} == {query.class_id}
        assert query.name not in {s.name for s in supports}


def test_an_image_listed_twice_never_supports_itself():
    entries = [Entry("val", "a", 0), Entry("val", "a", 0), Entry("val", "b", 0)]
    supports = [s.supports[0].name for s in specs_of(ListPlan(ISAID, entries, seed=0, shots=1))]
    assert supports == ["b", "b", "a"]


def test_test_queries_are_the_list_in_order():
    plan = ListPlan(ISAID, ENTRIES, seed=3, shots=1)
    assert [s.query for s in specs_of(plan)] == ENTRIES


def test_distinct_supports_differ_and_published_ones_repeat():
    distinct, published = (
        [
            len({*s.supports})
            for s in specs_of(ListPlan(ISAID, ENTRIES, seed=0, shots=5, supports=kind))
        ]
        for kind in ("distinct", "published")
    )
    assert set(distinct) == {5}
    assert min(published) < 5


def test_supports_depend_on_seed_and_shots():
    draws = {
        tuple(s.supports[0] for s in specs_of(ListPlan(ISAID, ENTRIES, seed=seed, shots=shots)))
        for seed in (0, 1)
        for shots in (1, 5)
    }
    assert len(draws) == 4


def test_every_support_is_equally_likely():
    entries = [Entry("val", f"P{i}", 0) for i in range(5)]
    counts = Counter(
        ListPlan(ISAID, entries, seed=seed, shots=1)(0).supports[0].name for seed in range(4000)
    )
    assert set(counts) == {"P1", "P2", "P3", "P4"}
    assert all(900 < n < 1100 for n in counts.values())


def test_the_drawn_episodes_stay_the_same_over_versions():
    plan = ListPlan(ISAID, ENTRIES, seed=7, shots=3)
    assert [[s.name for s in plan(i).supports] for i in (0, 59)] == PINNED_SUPPORTS
    shuffled = ShuffledPlan(ISAID, ENTRIES, seed=7)
    assert [shuffled(i).query.name for i in range(60, 66)] == PINNED_ORDER
    cycle = CyclePlan(ISAID, ENTRIES, seed=7)
    assert [cycle(i).query.name for i in range(5)] == PINNED_CYCLE


def test_an_epoch_takes_every_entry_once_in_an_order_of_its_own():
    plan = ShuffledPlan(ISAID, ENTRIES, seed=0)
    orders = [[plan(epoch * 60 + i).query for i in range(60)] for epoch in range(3)]
    assert all(sorted(order) == sorted(ENTRIES) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert [plan(i).query for i in range(60)] == orders[0]


def test_cycling_takes_the_classes_in_turn_and_their_images_at_random():
    entries = [Entry("train", f"P{i}", 2 if i < 50 else 7) for i in range(60)]
    plan = CyclePlan(DLRSD, entries, seed=0)
    queries = [plan(i).query for i in range(200)]
    assert len(plan) == 60
    assert [q.class_id for q in queries] == [2, 7] * 100
    assert len({q.name for q in queries}) > 40


@pytest.mark.parametrize(("supports", "shots", "images"), [("distinct", 5, 5), ("published", 5, 1)])
def test_a_class_with_too_few_images_is_named_with_the_remedy(supports, shots, images):
    entries = [*ENTRIES, *(Entry("val", f"Q{i}", 9) for i in range(images))]
    remedy = "6: lower the number of shots or list more" if images == 5 else "2: list more"
    message = rf"class 10 \(helicopter\) has {images} image.* needs {remedy} images of it"
    with pytest.raises(ValueError, match=message):
        ListPlan(ISAID, entries, seed=0, shots=shots, supports=supports)


def test_published_supports_need_only_one_other_image():
    entries = [Entry("val", "a", 0), Entry("val", "b", 0)]
    spec = ListPlan(ISAID, entries, seed=0, shots=5, supports="published")(0)
    assert [s.name for s in spec.supports] == ["b"] * 5


@pytest.mark.parametrize("plan", [ShuffledPlan, CyclePlan])
def test_training_refuses_a_class_with_one_image_and_an_empty_list(plan):
    with pytest.raises(ValueError, match=r"class 15 \(harbor\) has 1 image"):
        plan(ISAID, [*ENTRIES, Entry("train", "x", 14)], seed=0)
    with pytest.raises(ValueError, match="the list is empty"):
        plan(ISAID, [], seed=0)


# loading


def test_an_episode_holds_the_samples_of_its_entries(isaid_root):
    source = ImageSource(ISAID, isaid_root, None, 64)
    entries = lists.test_entries(ISAID, isaid_root / "splits", 1, published=True)
    plan = ListPlan(ISAID, entries, seed=0, shots=2)
    episode = EpisodeDataset(source, plan)[4]
    query, supports = plan(4)
    assert torch.equal(episode.query_image, source.load(query).image)
    assert torch.equal(episode.query_label, source.load(query).label)
    assert torch.equal(episode.support_labels[1], source.load(supports[1]).label)
    shapes = [tuple(t.shape) for t in episode[:6]]
    assert shapes == [(3, 64, 64), (64, 64), (64, 64), (2, 3, 64, 64), (2, 64, 64), (2, 64, 64)]
    assert (episode.class_id, episode.episode_id) == (query.class_id, 4)
    assert episode.query_label.max() == 1


# manifests


@pytest.mark.parametrize("benchmark", [ISAID, DLRSD], ids=lambda b: b.name)
def test_a_manifest_reads_back_what_was_written(tmp_path, benchmark):
    specs = specs_of(ListPlan(benchmark, ENTRIES, seed=0, shots=5))
    write_manifest(tmp_path / "episodes.jsonl", specs)
    assert read_manifest(tmp_path / "episodes.jsonl", benchmark) == specs
    assert specs_of(ManifestPlan(specs)) == specs


def test_a_manifest_line_names_the_label_id_and_the_images(tmp_path):
    spec = EpisodeSpec(Entry("val", "a", 4), (Entry("val", "b", 4),))
    write_manifest(tmp_path / "m", [spec])
    record = {"episode": 0, "split": "val", "label_id": 5, "query": "a", "supports": ["b"]}
    assert json.loads((tmp_path / "m").read_text()) == record


GOOD = '{"episode": 0, "split": "val", "label_id": 5, "query": "a", "supports": ["b"]}'


@pytest.mark.parametrize(
    "line",
    [
        "", "{", "[]", "7", "null", "{}",
        GOOD.replace('"b"', ""),
        GOOD.replace('"b"', '"a"'),
        GOOD.replace('"b"', '"b", "c"'),
        GOOD.replace('["b"]', '"b"').replace("b", "bc"),
        GOOD.replace('"a"', '"../a"'),
        GOOD.replace('"a"', '"/a"'),
        GOOD.replace('"a"', '"a\\\\nb"'),
        GOOD.replace('"a"', '"\\\\ud800"'),
        GOOD.replace("5", "9" * 5000),
        GOOD.replace("5", "[" * 9000),
        GOOD.replace('"a"', "3"),
        GOOD.replace('"val"', '"test"'),
        GOOD.replace("5", "16"),
        GOOD.replace("5", "0"),
        GOOD.replace("5", '"5"'),
        GOOD.replace("5", "5.0"),
        GOOD.replace("5", "true"),
        GOOD.replace("query", "Query"),
        GOOD.replace('"episode"', '"more": 1, "episode"'),
    ],
)  # fmt: skip
def test_a_broken_manifest_line_is_named(tmp_path, line):
    (tmp_path / "m.jsonl").write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(ValueError, match=r"m\.jsonl, line 2 is no episode"):
        read_manifest(tmp_path / "m.jsonl", ISAID)


def test_a_manifest_that_is_no_text_is_named(tmp_path):
    (tmp_path / "m.jsonl").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match=r"m\.jsonl is not UTF-8 text"):
        read_manifest(tmp_path / "m.jsonl", ISAID)


def test_an_empty_manifest_is_refused(tmp_path):
    (tmp_path / "m.jsonl").write_text("")
    with pytest.raises(ValueError, match="holds no episode"):
        read_manifest(tmp_path / "m.jsonl", ISAID)


def test_random_numbers_of_different_keys_are_unrelated():
    first, second = episodes.random_numbers((1, 2, 3), 500), episodes.random_numbers((1, 2, 4), 500)
    assert len(np.unique(np.concatenate([first, second]))) == 1000


PINNED_SUPPORTS = [["P35", "P5", "P25"], ["P9", "P49", "P24"]]
PINNED_ORDER = ["P24", "P27", "P39", "P44", "P45", "P26"]
PINNED_CYCLE = ["P10", "P21", "P12", "P38", "P19"]
