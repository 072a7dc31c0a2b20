import cv2
import numpy as np
import pytest

from mgcl.config import load
from mgcl.datasets.absent import AbsentPlan, classes_shown
from mgcl.datasets.episodes import EpisodeSpec
from mgcl.datasets.lists import Entry
from mgcl.datasets.pool import choose_images
from mgcl.datasets.sets import build_absent, build_fold, build_pool, build_source


def images(*names):
    return [("val", name) for name in names]


def plan(episode_id):
    return EpisodeSpec(Entry("val", "q", 0), (Entry("val", "s", 0),) * (1 + episode_id % 2))


@pytest.fixture(scope="module")
def config(isaid_root):
    small = {"data.root": isaid_root, "data.image_size": 64, "masks.generator": "none"}
    words = [word for name, value in small.items() for word in (f"--{name}", str(value))]
    return load(["--config", "configs/demo.toml", *words])


def test_the_query_is_one_of_the_images_without_the_class_and_the_supports_stay():
    shown = dict(zip(images("a", "b", "c", "d"), ({0, 1}, {1}, set(), {0}), strict=True))
    absent = AbsentPlan(plan, shown, seed=0)
    for i in range(40):
        spec = absent(i)
        assert spec.supports == plan(i).supports and spec.class_id == 0
        assert spec.query.name in "bc"
    assert {absent(i).query.name for i in range(40)} == {"b", "c"}
    assert AbsentPlan(plan, shown, seed=0)(7) == absent(7)
    others = AbsentPlan(plan, shown, seed=1)
    assert any(others(i) != absent(i) for i in range(40))


def test_a_class_that_every_image_shows_has_no_absent_episode(config):
    assert AbsentPlan(plan, dict.fromkeys(images("a", "b"), {0}), seed=0).lacking(0) == []


def test_the_labels_of_absent_queries_hold_no_pixel_of_the_class(config):
    source = build_source(config)
    part = build_fold(config, source, shots=1, seed=0)
    absent = build_absent(config, part)
    assert 0 < len(absent.ids) <= len(part.ids)
    for i in list(absent.ids)[:10]:
        shown, lacking = part.dataset[i], absent.dataset[i]
        assert (shown.query_label == 1).any() and not (lacking.query_label == 1).any()
        assert (lacking.support_images == shown.support_images).all()
        assert lacking.class_id == shown.class_id
    few = build_absent(config, part._replace(ids=list(part.ids)[3:6]))
    assert all(few.dataset.plan(i) == absent.dataset.plan(i) for i in few.ids)


def test_classes_are_those_of_any_pixel(config):
    source = build_source(config)
    part = build_fold(config, source, shots=1, seed=0)
    entries = [part.dataset.plan(i).query for i in part.ids][:5]
    for (split, name), classes in classes_shown(source, entries).items():
        label = cv2.imread(str(source.benchmark.label_path(source.root, split, name)), -1)
        assert classes == {int(i) - 1 for i in np.unique(label) if 0 < i <= 15}


def test_the_pool_holds_each_image_once_with_all_its_training_classes(config):
    pool = build_pool(build_source(config))
    names = [(entry.split, entry.name) for entry in pool.entries]
    assert len(set(names)) == len(names) > 5
    ids = pool.labels([0]).query
    assert ids.shape == (1, 64, 64)
    assert pool.entries[0].class_id + 1 in ids


def test_images_are_chosen_a_number_for_each_class_whatever_their_order():
    entries = [Entry("train", f"i{i}", i % 3) for i in range(60)] + [Entry("train", "i0", 1)]
    chosen = choose_images(entries, 4, seed=0)
    assert len({e.name for e in chosen}) == len(chosen) <= 12
    for class_id in range(3):
        names = {e.name for e in entries if e.class_id == class_id}
        assert len(names & {e.name for e in chosen}) >= 4
    backwards = choose_images(entries[::-1], 4, seed=0)
    assert {e.name for e in backwards} == {e.name for e in chosen}
    assert {e.name for e in choose_images(entries, 4, seed=1)} != {e.name for e in chosen}
