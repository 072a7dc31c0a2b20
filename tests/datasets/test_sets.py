"""Which classes and images the sets of a run hold."""

import numpy as np

from mgcl.config import load
from mgcl.datasets.labels import read_label
from mgcl.datasets.sets import (
    build_heldout,
    build_source,
    build_training,
    build_validation,
    of_shots,
    validation_class_ids,
)
from tests.small_run import words


def configured(root, folder, **constants):
    constants |= {"masks_generator": "none"}
    return load(words(root, folder, folder / "run", **constants))


def classes_of(part):
    return {part.dataset.plan(i).class_id for i in part.ids}


def test_classes_that_choose_the_epoch_are_neither_trained_on_nor_calibrated_on(
    isaid_root, tmp_path
):
    config = configured(isaid_root, tmp_path, train_validation="heldout_classes")
    source = build_source(config)
    training, heldout = build_training(config, source), build_heldout(config, source)
    validation = build_validation(config, source, heldout)
    left_out = {6, 9, 12}  # every third of fold 0's ten training classes
    assert classes_of(validation) == set(validation.class_ids)
    assert {6, 9, 12} == {*validation.class_ids, *validation.absent}
    assert not classes_of(training) & left_out and not classes_of(heldout) & left_out
    assert set(training.class_ids) == set(range(5, 15)) - left_out
    assert validation_class_ids(config) == tuple(sorted(left_out))
    assert "left out of the training" in validation.source


def test_dropping_novel_pixels_leaves_out_the_images_that_show_them(isaid_root, tmp_path):
    config = configured(isaid_root, tmp_path)
    kept = build_source(config).usable("training")
    config = configured(isaid_root, tmp_path, data_novel_pixels="drop")
    source = build_source(config)
    dropped = source.usable("training")
    bench = source.benchmark

    def shows_novel(entry):
        path = bench.label_path(source.root, entry.split, entry.name)
        return bool(np.isin(read_label(path, bench), [1, 2, 3, 4, 5]).any())

    assert any(map(shows_novel, kept))
    assert list(dropped) == [entry for entry in kept if not shows_novel(entry)]


def test_more_shots_keep_the_queries_and_leave_out_classes_with_too_few_images(
    isaid_root, tmp_path
):
    config = configured(isaid_root, tmp_path)
    heldout = build_heldout(config, build_source(config))
    queries = [heldout.dataset.plan(i).query for i in heldout.ids]
    more = of_shots(heldout, 2)
    specs = [more.dataset.plan(i) for i in more.ids]
    assert [spec.query for spec in specs] == [q for q in queries if q in {s.query for s in specs}]
    assert specs and all(len(set(spec.supports) - {spec.query}) == 2 for spec in specs)
    assert list(of_shots(heldout, 10_000).ids) == []
