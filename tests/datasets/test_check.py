import json
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


def test_a_mask_map_from_another_folder_is_a_problem(run, root):
    store = MaskStore(root / "masks_superpixels", {"name": "superpixels", "scale": 40})
    other = MaskStore(root / "other", {"name": "superpixels", "scale": 90})
    keys = list(lists.listed_images(ISAID, root, root / "splits", published=True))
    for key in keys:
        store.save(key, np.ones((64, 64), np.uint8))
    other.save(keys[5], np.ones((64, 64), np.uint8))
    store.path(keys[5]).write_bytes(other.path(keys[5]).read_bytes())
    status, output = run()
    assert status == 1
    assert f"a mask map made with other options for {keys[5]}" in output
    assert "were made with: name superpixels, scale 40" in output
    assert "1 problem(s)" in output
    (store.root / "manifest.json").write_text("{")
    status, output = run()
    assert status == 1
    assert "manifest.json is not a manifest of mask maps" in output
    assert "150 images, 1 problem(s)" in output


def test_entries_listed_twice_and_names_that_lead_out_are_problems(run, root):
    path = lists.list_path(root / "splits", "val", 0)
    first = path.read_text().splitlines()[0]
    with path.open("a") as file:
        file.write(f"{first}\n../../secret__1\n/etc/passwd__2\n")
    status, output = run()
    assert status == 1
    assert f"{first.replace('__0', '__')} is listed 2 times" in output
    assert output.count("must stay inside the data root") == 2
    assert "3 problem(s)" in output


def test_crlf_and_a_byte_order_mark_are_no_problem_and_a_lost_last_line_is_said(run, root):
    path = lists.list_path(root / "splits", "val", 0)
    text = path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert run()[0] == 0
    path.write_text(text.rstrip("\n"))
    status, output = run()
    assert status == 0
    assert f"{path} ends without a newline: its last entry is left out" in output
    assert "ends without" not in run("--data.lists", "complete")[1]


def test_labels_of_another_mode_or_size_or_with_unknown_ids_are_problems(run, root):
    names = [e.name for e in lists.test_entries(ISAID, root / "splits", 0, published=True)]
    wrong = dict.fromkeys(names)
    for name, picture in zip(
        wrong,
        (
            Image.fromarray(np.full((64, 64), 0.5, np.float32)),
            Image.new("L", (64, 63), 1),
            Image.fromarray(np.full((64, 64), 99, np.uint8)),
            Image.new("RGB", (64, 64), (1, 2, 3)),
        ),
        strict=False,
    ):
        picture.save(ISAID.label_path(root, "val", name), "TIFF" if picture.mode == "F" else "PNG")
    status, output = run()
    assert status == 1
    for words in (
        "holds fractions (float32) and no ids",
        "image 64 x 64, label 64 x 63 disagree",
        "holds the id 99, which isaid does not know",
        "has the colour (1, 2, 3), which is no class",
    ):
        assert words in output


def test_the_episode_manifest_is_checked_too(run, root, tmp_path):
    names = [e.name for e in lists.test_entries(ISAID, root / "splits", 0, published=True)]
    episode = {"episode": 0, "split": "val", "label_id": 1, "query": "gone", "supports": names[:1]}
    path = tmp_path / "episodes.jsonl"
    path.write_text(json.dumps(episode) + "\n")
    status, output = run("--test.episodes", str(path), "--test.shots", "[1]")
    assert status == 1
    assert "no image" in output and "gone.png" in output
    status, output = run("--test.episodes", str(path), "--test.shots", "[5]")
    assert status == 1
    assert "holds 1-shot episodes, but test.shots asks for 5" in output
    path.write_text("{}\n")
    assert "line 1 is no episode" in run("--test.episodes", str(path))[1]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--data.root", "nowhere"], "/nowhere: set data.root"),
        (["--data.benchmark", "own"], "benchmark.json: make it with"),
    ],
)
def test_a_root_or_a_benchmark_that_is_missing_is_one_error(run, words, message):
    status, output = run(*words)
    assert status == 1
    assert message in output
    assert "problem(s)" not in output


def test_a_wrong_config_has_a_status_of_its_own(run):
    with pytest.raises(SystemExit) as ended:
        run("--data.fold", "7")
    assert ended.value.code == 2
