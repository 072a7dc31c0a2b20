"""Data that changed under a program: made again, refused or said."""

import os
import time

import numpy as np
import pytest
from PIL import Image

import main_0_extract_masks as main_0
import main_1_mgcl_train as main_1
import main_2_mgcl_test as main_2
from mgcl import checkpoint
from mgcl.config import load
from mgcl.datasets import check, lists
from mgcl.datasets.fingerprint import changed_facts
from mgcl.datasets.prepare import command
from mgcl.datasets.sets import build_heldout, build_source, build_test, build_training
from mgcl.datasets.synthetic.command import write_synthetic
from mgcl.files import fingerprint
from mgcl.images.write import write_png
from mgcl.masks.store import MaskStore
from tests.small_run import words

PLAIN = {"masks_generator": "none", "test_panels": 0, "test_baselines": "false", "test_shots": 1}


@pytest.fixture
def root(tmp_path):
    return write_synthetic(tmp_path / "d", train_images=30, val_images=45, size=64, processes=1)


def line(root, **constants):
    constants = {"data_cache_gib": 0, "train_epochs": 1, "train_episodes_per_epoch": 2} | constants
    return words(root, root / "masks", root.parent / "run", **constants)


def repaint(path):
    """Other pixels in the same file."""
    write_png(path, 255 - np.array(Image.open(path)))


def an_image(root):
    name = (root / "splits/trn/fold1.txt").read_text().partition("__")[0]
    return root / f"train/images/{name}.png"


def print_of(path, length, at):
    data = bytearray(length)
    if at is not None:
        data[at] = 1
    path.write_bytes(data)
    return fingerprint(path)


def test_a_digest_sees_the_size_the_ends_and_the_middle_and_all_of_a_small_file(tmp_path):
    path = tmp_path / "x"
    prints = {print_of(path, 40_000, at) for at in (0, 20_000, 39_999, None)}
    assert len(prints | {print_of(path, 39_999, None)}) == 5
    assert len({print_of(path, 9000, at) for at in range(0, 9000, 1500)}) == 6


def test_a_picture_corrected_after_its_mask_was_cut_is_cut_anew(tmp_path, capsys):
    pixels = np.full((32, 32, 3), 80, np.uint8)
    for name in ("x", "y"):
        Image.fromarray(pixels).save(tmp_path / f"{name}.bmp")
    where = ["--masks.images", str(tmp_path), "--masks.generator", "superpixels"]
    where += ["--masks.root", str(tmp_path / "m")]
    assert main_0.main(where) == 0
    os.utime(tmp_path / "y.bmp")  # touched, and the same
    pixels[:, 16:] = 200
    Image.fromarray(pixels).save(tmp_path / "x.bmp")
    capsys.readouterr()
    assert main_0.main(where) == 0
    said = capsys.readouterr()
    assert "1 made, 1 were there" in said.out
    assert "x.bmp has changed since its masks were cut" in said.err
    assert MaskStore(tmp_path / "m").load("x").max() > 1


def test_a_mask_map_without_fingerprint_is_taken_as_it_is(tmp_path):
    store = MaskStore(tmp_path / "m", {"name": "x"})
    store.save("x", np.ones((4, 4), np.uint8))
    time.sleep(0.01)
    write_png(tmp_path / "x.png", np.ones((4, 4), np.uint8))
    assert not store.is_stale("x", tmp_path / "x.png")
    assert not store.is_stale("x", tmp_path / "none.png")


def test_a_training_refuses_pictures_that_changed_since_and_check_names_them(root, capsys):
    assert main_0.main(line(root)) == 0
    repaint(an_image(root))
    assert main_1.main(line(root)) == 1
    assert "have changed since their masks were cut" in capsys.readouterr().err
    assert check.main(line(root, test_shots=1)) == 1
    assert "has changed since its masks were cut" in capsys.readouterr().out
    assert main_0.main(line(root)) == 0
    config = load(line(root))
    assert build_training(config, build_source(config)).ids


def test_a_checkpoint_knows_its_data_and_resume_and_test_say_when_they_changed(root, capsys):
    assert main_1.main(line(root, **PLAIN)) == 0
    kept = checkpoint.load(root.parent / "run/last.pt")["data"]
    assert kept == build_source(load(line(root, **PLAIN))).facts()
    assert main_2.main(line(root, **PLAIN)) == 0
    assert "other data" not in capsys.readouterr().err
    repaint(an_image(root))
    again = line(root, **PLAIN, train_epochs=2, train_resume="auto")
    assert main_1.main(again) == 1
    assert "other images" in capsys.readouterr().err
    assert main_2.main(line(root, **PLAIN)) == 0
    said = capsys.readouterr()
    assert "was trained with other inputs than" in said.err and "other images" in said.out


def test_a_test_at_another_size_or_with_other_masks_says_so_in_its_report(root, capsys):
    assert main_1.main(line(root, **PLAIN)) == 0
    capsys.readouterr()
    assert main_2.main(line(root, **PLAIN, data_image_size=32)) == 0
    said = capsys.readouterr()
    assert "data.image_size 64 -> 32" in said.err and "data.image_size 64 -> 32" in said.out


def test_what_changed_is_named_and_what_was_not_kept_is_no_change():
    now = {"classes": "a b", "lists": "1", "images": "2", "labels": "3"}
    assert changed_facts(now, now) == changed_facts({}, now) == []
    then = now | {"classes": "b a", "labels": "4"}
    assert changed_facts(then, now) == ["other classes", "other labels"]


def test_lists_are_read_once_for_all_sets(root, monkeypatch):
    read = []
    usual = lists.read_text
    monkeypatch.setattr(lists, "read_text", lambda path: read.append(path) or usual(path))
    config = load(line(root, **PLAIN))
    source = build_source(config)
    for _ in range(2):
        build_training(config, source)
        build_heldout(config, source)
        build_test(config, source, 1)
    assert len(read) == len(set(read)) == 5


def test_a_test_needs_no_training_lists(root):
    for path in (root / "splits/trn").glob("*.txt"):
        path.unlink()
    config = load(line(root, **PLAIN))
    source = build_source(config)
    assert build_test(config, source, 1).ids
    assert source.facts_if_there().keys() == {"classes"}


def test_classes_without_an_episode_are_left_out_of_the_mean_and_named(root, capsys):
    assert main_1.main(line(root, **PLAIN)) == 0
    config = load(line(root, **PLAIN, test_max_episodes=1))
    part = build_test(config, build_source(config), 1)
    assert len(part.class_ids) == 1 and {*part.class_ids, *part.absent} == {*range(5)}
    assert main_2.main(line(root, **PLAIN, test_max_episodes=1)) == 0
    said = capsys.readouterr().out
    assert "1-shot: no episode asks for " in said and "test.max_episodes leaves" in said
    path = root / "splits/val/fold0.txt"
    path.write_text("".join(k for k in path.read_text().splitlines(True) if "__01" not in k))
    config = load(line(root, **PLAIN, test_max_episodes=0))
    part = build_test(config, build_source(config), 1)
    assert part.class_ids == (1, 2, 3, 4) and part.absent == (0,)


def test_a_second_prepare_makes_only_what_was_corrected(tmp_path):
    for name in "xyz":
        write_png(tmp_path / f"i/{name}.png", np.full((32, 32, 3), ord(name), np.uint8))
        write_png(tmp_path / f"l/{name}.png", np.ones((32, 32), np.uint8))
    (tmp_path / "c.txt").write_text("1 a\n2 b\n")
    made = ["own", "--images", tmp_path / "i", "--labels", tmp_path / "l", "--to", tmp_path / "o"]
    made += ["--classes", tmp_path / "c.txt", "--folds", 2, "--size", 32, "--min-pixels", 1]

    def times():
        assert command.main([str(word) for word in made]) == 0
        tiles = (tmp_path / "o").glob("*/images/*.png")
        return {p.name[0]: p.stat().st_mtime_ns for p in tiles}

    before = times()
    repaint(tmp_path / "i/y.png")
    after = times()
    assert [name for name in "xyz" if before[name] != after[name]] == ["y"]
