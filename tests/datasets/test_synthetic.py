import hashlib
import subprocess
import sys

import numpy as np
import pytest

from mgcl.datasets import lists
from mgcl.datasets.benchmarks import BENCHMARKS
from mgcl.datasets.labels import read_label
from mgcl.datasets.samples import read_image
from mgcl.datasets.synthetic.canvas import Canvas
from mgcl.datasets.synthetic.command import write_synthetic
from mgcl.datasets.synthetic.objects import KINDS
from mgcl.datasets.synthetic.scenes import MIN_SHARE, paint_scene

ISAID, DLRSD = BENCHMARKS["isaid"], BENCHMARKS["dlrsd"]


def digest(root):
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return [(p.relative_to(root), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]


def test_the_same_seed_gives_the_same_files_on_any_number_of_processes(tmp_path):
    for processes in (1, 2):
        root = tmp_path / str(processes)
        write_synthetic(root, train_images=16, val_images=4, size=32, processes=processes)
    assert digest(tmp_path / "1") == digest(tmp_path / "2")
    assert len(digest(tmp_path / "1")) == 2 * 20 + 6 + 1


def test_another_seed_and_another_split_give_other_scenes(tmp_path):
    pictures = []
    for seed in (0, 1):
        root = write_synthetic(
            tmp_path / str(seed), train_images=1, val_images=1, size=32, seed=seed
        )
        pictures += [read_image(p).tobytes() for p in sorted(root.rglob("images/*.png"))]
    assert len(set(pictures)) == 4


@pytest.mark.parametrize("class_id", range(15))
def test_a_scene_shows_its_subject_at_a_decent_size(class_id):
    shares = []
    for i in range(6):
        image, label = paint_scene(64, class_id, 0, i)
        assert image.shape == (64, 64, 3)
        assert label.max() <= 15
        shares.append((label == class_id + 1).mean())
    assert min(shares) >= MIN_SHARE
    assert max(shares) <= 0.45


@pytest.mark.parametrize("class_id", range(15))
def test_objects_are_textured_and_vary_in_colour(class_id):
    means, spreads = [], []
    for i in range(8):
        image, label = paint_scene(96, class_id, 1, i)
        inside = image[label == class_id + 1].astype(float)
        means.append(inside.mean(axis=0))
        spreads.append(inside.std(axis=0).mean())
    assert min(spreads) > 5
    assert np.std(means, axis=0).max() > 8


def test_every_class_has_a_painter_in_id_order():
    assert [kind.draw.__name__ for kind in KINDS] == list(ISAID.class_names)


def test_lists_name_what_covers_enough_and_nothing_else(isaid_root):
    for fold in range(3):
        listed = set(lists.test_entries(ISAID, isaid_root / "splits", fold, published=True))
        for name in {e.name for e in listed}:
            ids = read_label(ISAID.label_path(isaid_root, "val", name), ISAID)
            for class_id in ISAID.test_class_ids(fold):
                covers = (ids == class_id + 1).mean() >= MIN_SHARE
                assert covers == (lists.Entry("val", name, class_id) in listed)


def test_every_class_of_the_small_benchmark_allows_five_shots(isaid_root, dlrsd_root):
    for benchmark, root in ((ISAID, isaid_root), (DLRSD, dlrsd_root)):
        for fold in range(3):
            entries = lists.test_entries(benchmark, root / "splits", fold, published=True)
            for class_id in benchmark.test_class_ids(fold):
                assert sum(e.class_id == class_id for e in entries) >= 6


def test_dlrsd_splits_share_their_images_and_labels_hold_ids(dlrsd_root):
    train = {e.name for f in range(3) for e in
             lists.training_entries(DLRSD, dlrsd_root / "splits", f, published=True)}  # fmt: skip
    test = {e.name for f in range(3) for e in
            lists.test_entries(DLRSD, dlrsd_root / "splits", f, published=True)}  # fmt: skip
    assert train == test
    name = min(test)
    assert read_image(DLRSD.image_path(dlrsd_root, "val", name)).shape == (64, 64, 3)
    assert read_label(DLRSD.label_path(dlrsd_root, "val", name), DLRSD).max() > 0


def test_names_follow_the_published_pattern(isaid_root):
    for path in isaid_root.rglob("images/*.png"):
        scene, y0, y1, x0, x1 = path.stem.split("_")
        assert scene[0] == "P"
        assert (int(y1) - int(y0), int(x1) - int(x0)) == (64, 64)


def test_more_scenes_than_dlrsd_can_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="DLRSD's tree holds at most 2100"):
        write_synthetic(tmp_path, train_images=2100, val_images=1, benchmark="dlrsd")


def test_the_command_writes_a_benchmark(tmp_path):
    command = [sys.executable, "-m", "mgcl.datasets.synthetic", "--to", str(tmp_path / "b")]
    done = subprocess.run(
        [*command, "--train", "3", "--val", "2", "--size", "32"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "5 scenes in" in done.stdout
    assert len(list((tmp_path / "b").rglob("images/*.png"))) == 5


def test_a_place_beside_the_scene_is_taken():
    canvas = Canvas(64, np.random.default_rng(0))
    square = np.array([[10.0, 10], [20, 10], [20, 20], [10, 20]])
    assert canvas.share_taken(square) == 0
    assert canvas.share_taken(square + 50) > 0.3  # some of it outside
    for beside in ((100, 0), (0, 100), (-100, 0), (0, -100)):
        assert canvas.share_taken(square + beside) > 0.9
