import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgcl.datasets import check, lists
from mgcl.datasets.benchmarks import BENCHMARKS, check_name, read_benchmark
from mgcl.datasets.labels import read_label
from mgcl.datasets.prepare import command
from mgcl.images.write import write_png
from tests.small_run import REPOSITORY

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


LOVEDA = json.loads(
    (REPOSITORY / "docs/extending.md").read_text().partition("```json\n")[2].partition("```")[0]
)


def write_record(root, **changed):
    root.mkdir(exist_ok=True)
    (root / "benchmark.json").write_text(json.dumps(LOVEDA | changed))


def loveda(root):
    """The documented record over a tree of four images, each with a class of a fold's half."""
    write_record(root)
    for split in ("Train", "Val"):
        for place, value in (("Urban", 2), ("Rural", 6)):
            for number in (0, 1):
                ids = np.full((40, 40), value + number, np.uint8)
                ids[:2], ids[2:4] = 0, 1
                write_png(root / split / place / "images_png" / f"{number}.png", ids)
                write_png(root / split / place / "masks_png" / f"{number}.png", ids)
    return read_benchmark(root)


def test_the_documented_benchmark_is_listed_in_its_own_tree_and_its_values_are_right(tmp_path):
    bench = loveda(tmp_path / "d")
    assert command.main(["lists", "--root", str(tmp_path / "d"), "--min-pixels", "9"]) == 0
    entries = lists.test_entries(bench, tmp_path / "d/splits", 0, published=True)
    assert sorted(entries) == [("val", "Urban/0", 0), ("val", "Urban/1", 1)]
    entries = lists.training_entries(bench, tmp_path / "d/splits", 0, published=True)
    assert sorted(entries) == [("train", "Rural/0", 4), ("train", "Rural/1", 5)]
    label = read_label(bench.label_path(tmp_path / "d", "val", "Urban/0"), bench)
    assert label[:, 0].tolist() == [255, 255, 0, 0] + [1] * 36
    assert bench.mask_key("val", "Urban/0") == "val/Urban/0"
    images = lists.listed_images(bench, tmp_path / "d", tmp_path / "d/splits", published=True)
    assert images["train/Rural/1"] == tmp_path / "d/Train/Rural/images_png/1.png"
    config = ["--config", str(REPOSITORY / "configs/own.toml"), "--data.root", str(tmp_path / "d")]
    assert check.main([*config, "--test.shots", "1"]) == 1  # each class has one image
    assert all(bench.test_class_ids(fold) for fold in range(3))


def test_a_label_that_lacks_or_holds_an_unknown_value_is_named_and_the_rest_listed(
    tmp_path, capsys
):
    bench = loveda(tmp_path / "d")
    write_png(bench.label_path(tmp_path / "d", "val", "Urban/0"), np.full((40, 40), 9, np.uint8))
    bench.label_path(tmp_path / "d", "val", "Rural/0").unlink()
    assert command.main(["lists", "--root", str(tmp_path / "d"), "--min-pixels", "9"]) == 1
    said = capsys.readouterr().err
    assert "0.png holds 9, which label_values in benchmark.json does not name" in said
    assert "no label " in said and "Rural/masks_png/0.png" in said
    assert len(lists.test_entries(bench, tmp_path / "d/splits", 2, published=True)) == 1


def test_a_dry_run_of_lists_writes_none_and_a_tree_elsewhere_is_named(tmp_path, capsys):
    loveda(tmp_path / "d")
    assert command.main(["lists", "--root", str(tmp_path / "d"), "--dry-run"]) == 0
    assert "fold 0,   1 building: 1 train, 1 val" in capsys.readouterr().out
    assert not (tmp_path / "d/splits").exists()
    (tmp_path / "d/Train").rename(tmp_path / "d/train")
    (tmp_path / "d/Val").rename(tmp_path / "d/val")
    assert command.main(["lists", "--root", str(tmp_path / "d")]) == 1
    assert "none of 16 images below" in capsys.readouterr().err


def test_train_and_val_may_share_their_images_and_labels_be_colours(tmp_path):
    write_record(
        tmp_path / "d", class_names=["a", "b"], folds=[[1], [0]], image="i/{name}.png",
        label="l/{name}.png", label_values={"#ff0000": "a", "#00FF00": "b", "#000000": "ignore"},
    )  # fmt: skip
    bench = read_benchmark(tmp_path / "d")
    colours = np.zeros((8, 8, 3), np.uint8)
    colours[:4, :, 0], colours[4:6, :, 1] = 255, 255
    for name in ("x", "y/z"):
        write_png(tmp_path / "d/i" / f"{name}.png", colours)
        write_png(tmp_path / "d/l" / f"{name}.png", colours)
    assert command.main(["lists", "--root", str(tmp_path / "d"), "--min-pixels", "9"]) == 0
    for split in ("train", "val"):
        found = lists.read_list(
            lists.list_path(tmp_path / "d/splits", split, 0), bench, split, published=True
        )
        assert found == [(split, "x", 1), (split, "y/z", 1)]
    assert bench.mask_key("train", "x") == bench.mask_key("val", "x") == "x"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"folds": [["building"], ["road"]]}, "its folds do not part its 6 classes"),
        ({"folds": [["house"], ["road"]]}, "a fold holds 'house', which is no class"),
        ({"label_values": {"1": "house"}}, "label value 1 means 'house', which is no class"),
        ({"label_values": {"1": "road"}}, "no label value means building, water"),
        ({"label_values": {"x": "road"}}, "'x' is neither a number nor a colour"),
        ({"image": "../{name}.png"}, "must stay inside the data root"),
        ({"image": "{split}/x.png"}, "must hold {name}, or {folder} and {stem}"),
        ({"label": "{name.__class__}"}, "must hold {name}, or {folder} and {stem}"),
        ({"label": "{name"}, "is no pattern of a path"),
        ({"class_names": ["a b", "c"]}, "class 'a b' must be a word"),
        ({"splits": {"test": "Test"}}, "splits.test Extra inputs"),
    ],
)
def test_a_record_that_cannot_be_is_refused_by_name(tmp_path, changed, message):
    write_record(tmp_path / "d", **changed)
    with pytest.raises(ValueError, match=f"benchmark.json.*{message}"):
        read_benchmark(tmp_path / "d")
