import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgcl.datasets.benchmarks import BENCHMARKS, check_name

ISAID, DLRSD = BENCHMARKS["isaid"], BENCHMARKS["dlrsd"]


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=lambda b: b.name)
def test_folds_part_the_classes_into_novel_and_training(benchmark):
    every = set(range(15))
    assert len(set(benchmark.class_names)) == 15
    for fold in range(3):
        novel, base = benchmark.test_class_ids(fold), benchmark.train_class_ids(fold)
        assert novel == tuple(range(5 * fold, 5 * fold + 5))
        assert {*novel, *base} == every
        assert len(base) == 10
        assert fold not in benchmark.training_folds(fold)


def test_classes_have_the_ids_of_the_protocol():
    assert ISAID.class_names.index("helicopter") + 1 == 10
    assert ISAID.class_names.index("harbor") + 1 == 15
    assert DLRSD.class_names.index("court") + 1 == 6
    assert DLRSD.class_names.index("tanks") + 1 == 15


def test_paths_follow_the_published_trees():
    name = "P0003_0_256_206_462"
    assert ISAID.image_path("r", "val", name) == Path(f"r/val/images/{name}.png")
    label = Path(f"r/train/semantic_png/{name}_instance_color_RGB.png")
    assert ISAID.label_path("r", "train", name) == label
    assert ISAID.mask_key("train", name) == f"train/{name}"
    image = Path("r/Images/mobilehomepark/mobilehomepark07.tif")
    assert DLRSD.image_path("r", "train", "mobilehomepark07") == image
    assert DLRSD.label_path("r", "val", "river99") == Path("r/Labels/river/river99.png")
    assert DLRSD.mask_key("val", "river99") == "river99"


def test_dlrsd_knows_trees_and_water_and_both_know_the_ignore_label():
    assert set(DLRSD.known_label_ids) == {*range(18), 255}
    assert set(ISAID.known_label_ids) == {*range(16), 255}


@pytest.mark.parametrize("fold", [-1, 3])
def test_an_unknown_fold_is_refused_with_the_folds_there_are(fold):
    with pytest.raises(ValueError, match=f"fold {fold}: isaid has the folds 0 to 2"):
        ISAID.test_class_ids(fold)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="split 'test': must be one of train, val"):
        ISAID.image_path("r", "test", "P0")


@pytest.mark.parametrize(
    "name",
    ["", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "C:\\x", "C:x", "a\\..\\b", "a\0"],
)
def test_names_that_lead_out_of_the_root_are_refused(name):
    with pytest.raises(ValueError, match="must stay inside the data root"):
        check_name(name)


@pytest.mark.parametrize("name", ["a\nb", "a\rb", " a", "a\t", "a\u2028b", "a\ud800", "a\x00b"])
def test_names_that_would_not_survive_a_list_are_refused(name):
    with pytest.raises(ValueError, match="does not print|must stay inside"):
        check_name(name)


@given(st.text(max_size=30))
def test_an_accepted_name_stays_below_the_root(name):
    root = Path("/data/root")
    try:
        path = ISAID.image_path(root, "val", name)
    except ValueError:
        return
    assert ".." not in path.parts
    assert path.is_relative_to(root / "val" / "images")


def test_lists_and_benchmarks_import_without_torch():
    code = "import sys, mgcl.datasets.lists; assert not {'torch', 'cv2', 'numpy'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
