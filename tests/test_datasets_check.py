import shutil

import numpy as np
import pytest
from PIL import Image

from mgcl.datasets import check, lists
from mgcl.datasets.benchmarks import BENCHMARKS
from mgcl.masks.store import MaskStore

ISAID = BENCHMARKS["isaid"]


@pytest.fixture
def root(isaid_root, tmp_path):
    return shutil.copytree(isaid_root, tmp_path / "data")


@pytest.fixture
def run(root, tmp_path, capsys):
    config = tmp_path / "check.toml"
    config.write_text(f'[data]\nroot = "{root}"\n[masks]\ngenerator = "superpixels"\n')

    def run(*words):
        status = check.main(["--config", str(config), *words])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


def first_name(root):
    return lists.test_entries(ISAID, root / "splits", 0, published=True)[0].name


def test_a_good_data_set_passes(run):
    status, output = run()
    assert status == 0
    assert "150 images, 0 problem(s)" in output
    assert "mask maps not checked" in output


def test_everything_that_is_wrong_is_printed_at_once(run, root):
    image = ISAID.image_path(root, "val", first_name(root))
    image.write_bytes(image.read_bytes()[:300])
    label = sorted((root / "train" / "semantic_png").iterdir())[0]
    label.unlink()
    with lists.list_path(root / "splits", "val", 1).open("a") as file:
        file.write("no_id\nP1__77\ngone__6\n")
    status, output = run("--masks.generator", "none")
    assert status == 1
    for words in (
        f"{image} is damaged",
        f"no label {label}",
        "'no_id' has no class id",
        "class id 77",
        "no image",
        "gone.png",
        "6 problem(s)",
    ):
        assert words in output


def test_a_missing_list_is_a_problem(run, root):
    path = lists.list_path(root / "splits", "train", 2)
    path.unlink()
    status, output = run()
    assert status == 1
    assert f"no list {path}" in output


def test_a_listed_class_without_a_pixel_is_a_problem(run, root):
    name = first_name(root)
    label = ISAID.label_path(root, "val", name)
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(label)
    status, output = run()
    assert status == 1
    assert f"{name} is listed for" in output
    assert "but its label has no pixel of it" in output


def test_too_few_images_for_the_configured_shots_are_a_problem(run):
    status, output = run("--test.shots", "[1, 40]")
    assert status == 1
    assert "an episode needs 41" in output


def test_missing_damaged_and_other_sized_mask_maps_are_problems(run, root):
    store = MaskStore(root / "masks_superpixels", {"name": "superpixels"})
    keys = list(lists.listed_images(ISAID, root, root / "splits", published=True))
    for key in keys[2:]:
        store.save(key, np.ones((64, 64), np.uint8))
    store.save(keys[0], np.ones((32, 64), np.uint8))
    store.path(keys[3]).write_bytes(b"torn")
    status, output = run()
    assert status == 1
    assert f"no mask map for {keys[1]}" in output
    assert "image 64 x 64, label 64 x 64, mask map 64 x 32 disagree" in output
    assert f"damaged mask map (cannot identify image file '{store.path(keys[3])}')" in output
    assert "3 problem(s)" in output


def test_a_wrong_config_has_a_status_of_its_own(run):
    with pytest.raises(SystemExit) as ended:
        run("--data.fold", "7")
    assert ended.value.code == 2
