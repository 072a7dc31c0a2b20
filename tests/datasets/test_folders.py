"""The layouts of folders that people have: each is read right, or refused with the reason."""

import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import main_0_extract_masks
from mgcl.datasets.benchmarks import find_benchmark
from mgcl.datasets.lists import listed_images
from mgcl.datasets.prepare import command
from mgcl.datasets.prepare.pairing import find_pictures, tree_name
from mgcl.images.read import read_image
from mgcl.predict.inputs import find_queries
from tests.small_run import REPOSITORY


def image(number, size=32):
    """An image and its label, both of which say which one they are."""
    pixels = np.full((size, size, 3), 10 * number + 5, np.uint8)
    ids = np.ones((size, size), np.uint8)
    ids[: size // 2] = 2
    pixels[: size // 2] += 100
    return pixels, ids


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write(root, *pairs):
    """Images and labels at these places, below a root."""
    for number, (at_image, at_label) in enumerate(pairs):
        pixels, ids = image(number)
        save(root / at_image, pixels)
        save(root / at_label, ids)


def names(root, images=".", labels=".", split_of=lambda path: "train"):
    found = find_pictures(root / images, root / labels, split_of, tree=True)
    for picture in found.pictures:
        assert picture.image.is_file() and picture.label.is_file() != (
            picture.label == picture.image
        )
    return {p.name: p.label.relative_to(root).as_posix() for p in found.pictures}


@pytest.fixture
def prepare(tmp_path):
    """`prepare own` on the folder, two folds of a class each."""
    (tmp_path / "classes.txt").write_text("0 background\n1 roof\n2 pond\n")

    def run(images="in/images", labels="in/labels", *more):
        words = ["own", "--images", tmp_path / images, "--labels", tmp_path / labels]
        words += ["--classes", tmp_path / "classes.txt", "--to", tmp_path / "out", "--folds", 2]
        words += ["--size", 32, "--stride", 32, "--min-pixels", 16, *more]
        return command.main([str(word) for word in words])

    return run


@pytest.mark.parametrize(
    ("layout", "pairs", "found"),
    [
        ("class folders", ["i/a/1.png l/a/1.png", "i/b/1.png l/b/1.png"], {"a/1", "b/1"}),
        ("labels flat", ["i/part1/x.png l/x.png", "i/part2/y.png l/y.png"], {"part1/x", "part2/y"}),
        ("images flat", ["i/x.png l/v/x.png", "i/y.png l/v/y.png"], {"x", "y"}),
        ("other suffix", ["i/x.jpg l/x.tif", "i/y.JPEG l/y.bmp"], {"x", "y"}),
        ("endings", ["i/x.png l/x_mask.png", "i/y.png l/y-labels.png"], {"x", "y"}),
        ("same ending", ["i/x_mask.png l/x_mask.png", "i/x.png l/x.png"], {"x_mask", "x"}),
        ("iSAID's", ["i/x.png l/x_instance_color_RGB.png"], {"x"}),
    ],
)
def test_an_image_finds_its_label_in(tmp_path, layout, pairs, found):
    write(tmp_path, *(pair.split() for pair in pairs))
    labels = names(tmp_path, "i", "l")
    assert set(labels) == found
    wanted = {tree_name(tmp_path / i, tmp_path / "i"): where for i, where in map(str.split, pairs)}
    assert labels == wanted


@pytest.mark.parametrize(
    ("layout", "pairs"),
    [
        ("LoveDA", [f"{c}/images_png/0.png {c}/masks_png/0.png" for c in ("Urban", "Rural")]),
        ("mmsegmentation", ["img_dir/train/x.png ann_dir/train/x.png"]),
        ("VOC", ["JPEGImages/x.jpg SegmentationClass/x.png"]),
        ("labelme", ["x.jpg x.png", "a/y.tif a/y.png"]),
        ("endings", ["x.png x_label.png", "a/y.png a/y_label.png"]),
        ("labels below", ["x.png labels/x.png", "a/y.png labels/a/y.png"]),
    ],
)  # fmt: skip
def test_images_and_labels_in_one_tree_are_told_apart(tmp_path, layout, pairs):
    pairs = [pair.split() for pair in pairs]
    write(tmp_path, *pairs)
    labels = names(tmp_path)
    assert sorted(labels.values()) == sorted(where for _, where in pairs)
    if layout == "labels below":
        assert names(tmp_path, ".", "labels") == labels


def test_images_below_labels_are_no_labels(tmp_path):
    write(tmp_path, ("images/x.png", "x.png"))
    assert names(tmp_path, "images", ".") == {"x": "x.png"}


@pytest.mark.parametrize(
    ("files", "images", "labels", "message"),
    [
        (["x.png", "y.png"], ".", ".", "in the same folder.*nothing says which is which"),
        (["i/x.png", "l/a/x.png", "l/b/x.png"], "i", "l", "x.png has two labels, .*a/x.png and"),
        (["i/x.png", "l/x.png", "l/x.tif"], "i", "l", "x.png has two labels"),
        (["i/a/x.png", "i/b/x.png", "l/x.png"], "i", "l", "would share .*l/x.png: rename one"),
        (["i/x.png", "i/x.jpg", "l/x.png"], "i", "l", "would share the name x"),
        (["i/a/x.png", "i/b/x.png", "l/a/x.png"], "i", "l", "1 of 2 images have no label below"),
        (["l/x.png"], "i", "l", "no image below /.*i"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(tmp_path, files, images, labels, message):
    for name in files:
        save(tmp_path / name, image(0)[1])
    with pytest.raises(ValueError, match=message):
        names(tmp_path, images, labels)


def test_tiles_of_class_folders_keep_their_folder_and_their_pixels(prepare, tmp_path):
    write(tmp_path / "in", *((f"images/{c}/1.png", f"labels/{c}/1.png") for c in "abc"))
    assert prepare() == 0
    benchmark = find_benchmark("own", tmp_path / "out")
    listed = listed_images(benchmark, tmp_path / "out", tmp_path / "out/splits", published=False)
    tiles = {key.split("/", 1)[1]: read_image(path) for key, path in listed.items()}
    assert set(tiles) == {f"{c}/1_0_32_0_32" for c in "abc"}
    for number, c in enumerate("abc"):
        assert np.array_equal(tiles[f"{c}/1_0_32_0_32"], image(number)[0])


def clutter(folder):
    """What systems, notebooks and links leave beside pictures."""
    (folder / ".ipynb_checkpoints").mkdir()
    shutil.copy(folder / "x.png", folder / ".ipynb_checkpoints" / "x-checkpoint.png")
    (folder / "._x.png").write_bytes(b"\0\5\x16\7")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "x.png").write_bytes(b"\0\5\x16\7")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "again").symlink_to(folder, target_is_directory=True)
    (folder / "Thumbs.db").write_bytes(b"x")


def test_clutter_is_passed_over_and_links_that_lead_nowhere_are_named(prepare, tmp_path, capsys):
    write(tmp_path / "in", ("images/x.png", "labels/x.png"))
    clutter(tmp_path / "in/images")
    assert prepare() == 0
    said = capsys.readouterr().out
    assert "1 images: " in said and "gone.png is a link to nothing" in said
    assert "again leads to" in said and "1 .db" in said
    assert list(find_queries([str(tmp_path / "in/images")], results=tmp_path / "r")) == ["x"]
    words = ["--masks.images", str(tmp_path / "in/images"), "--masks.generator", "superpixels"]
    assert main_0_extract_masks.main(words) == 0
    said = capsys.readouterr()
    assert "1 images ->" in said.out and "gone.png is a link to nothing" in said.err


def test_linked_folders_are_searched_by_all_programs(prepare, tmp_path, capsys):
    for place, name in (("in", "near"), ("disk", "far")):
        write(tmp_path / place, (f"images/{name}/x.png", f"labels/{name}/x.png"))
    for kind in ("images", "labels"):
        (tmp_path / "in" / kind / "far").symlink_to(tmp_path / "disk" / kind / "far")
    assert prepare() == 0 and "2 images: " in capsys.readouterr().out
    assert len(find_queries([str(tmp_path / "in/images")], results=tmp_path / "r")) == 2
    words = ["--masks.images", str(tmp_path / "in/images"), "--masks.generator", "superpixels"]
    assert main_0_extract_masks.main(words) == 0
    assert "2 images ->" in capsys.readouterr().out


def test_mask_maps_among_the_images_are_no_pictures(prepare, tmp_path, capsys):
    write(tmp_path / "in", ("images/x.png", "labels/x.png"))
    images, maps = tmp_path / "in/images", tmp_path / "in/images/masks"
    words = ["--masks.images", str(images), "--masks.generator", "superpixels"]
    for made in ("1 made, 0 were", "0 made, 1 were"):
        assert main_0_extract_masks.main([*words, "--masks.root", str(maps)]) == 0
        assert made in capsys.readouterr().out
    assert prepare() == 0 and "1 images: " in capsys.readouterr().out
    assert list(find_queries([str(images)], results=tmp_path / "r")) == ["x"]
    assert main_0_extract_masks.main(["--masks.images", str(maps)]) == 1
    assert "holds mask maps, which are no pictures" in capsys.readouterr().err


def test_the_folder_where_one_stands_gets_its_maps_beside(tmp_path, monkeypatch, capsys):
    write(tmp_path, ("pictures/x.png", "labels/x.png"))
    monkeypatch.chdir(tmp_path / "pictures")
    words = ["--masks.images", ".", "--masks.generator", "superpixels"]
    words += ["--config", str(REPOSITORY / "configs/demo.toml")]
    assert main_0_extract_masks.main(words) == 0
    assert (tmp_path / "pictures_masks" / "x.png").exists()


def test_a_name_that_is_not_utf8_is_refused_by_name(prepare, tmp_path, capsys):
    write(tmp_path / "in", ("images/x.png", "labels/x.png"))
    for kind in ("images", "labels"):
        folder = os.fsencode(tmp_path / "in" / kind)
        os.rename(folder + b"/x.png", folder + b"/k\xf6ln.png")
    assert prepare() == 1
    assert r"k\udcf6ln" in capsys.readouterr().err
    assert main_0_extract_masks.main(["--masks.images", str(tmp_path / "in/images")]) == 1
    assert "has a name that does not print" in capsys.readouterr().err


def splits(tmp_path):
    found = (tmp_path / "out").glob("*/images/**/*.png")
    return {p.stem.split("_")[0]: p.relative_to(tmp_path / "out").parts[0] for p in found}


@pytest.mark.parametrize(
    "chosen", ["a/x\nz.png\n", "x.png\n\nz\n", "a/x.png\r\nz\r\n"], ids=["path", "name", "crlf"]
)
def test_a_list_says_which_images_are_validation(prepare, tmp_path, chosen):
    where = ("a/x", "b/y", "z")
    write(tmp_path / "in", *((f"images/{n}.png", f"labels/{n}.png") for n in where))
    (tmp_path / "val.txt").write_bytes(chosen.encode())
    assert prepare("in/images", "in/labels", "--val", tmp_path / "val.txt") == 0
    assert splits(tmp_path) == {"x": "val", "y": "train", "z": "val"}


def test_a_folder_says_it_too_and_an_image_that_changes_sides_leaves_no_tile_behind(
    prepare, tmp_path
):
    where = ("a/x", "b/y")
    write(tmp_path / "in", *((f"images/{n}.png", f"labels/{n}.png") for n in where))
    for val in ("a", "b"):
        assert prepare("in/images", "in/labels", "--val", tmp_path / "in/images" / val) == 0
        sides = {"x": ("train", "val")[val == "a"], "y": ("train", "val")[val == "b"]}
        assert splits(tmp_path) == sides
    assert len([*(tmp_path / "out").glob("*/images/**/*.png")]) == 2


@pytest.mark.parametrize(
    ("val", "message"),
    [
        ("nobody\n", "line 1: 'nobody' names no image"),
        ("x\nx2\n", "line 1: 'x' names .*a/x.png and"),
    ],
)
def test_a_line_that_names_no_image_or_two_is_refused(prepare, tmp_path, capsys, val, message):
    write(tmp_path / "in", *((f"images/{n}.png", f"labels/{n}.png") for n in ("a/x", "b/x", "x2")))
    (tmp_path / "val.txt").write_text(val)
    assert prepare("in/images", "in/labels", "--val", tmp_path / "val.txt") == 1
    assert re.search(message, capsys.readouterr().err)
    (tmp_path / "other").mkdir()
    assert prepare("in/images", "in/labels", "--val", tmp_path / "other") == 1
    assert "must be a folder in" in capsys.readouterr().err


def test_a_dry_run_names_all_unknown_values_of_all_labels_at_once(prepare, tmp_path, capsys):
    write(tmp_path / "in", *((f"images/{n}.png", f"labels/{n}.png") for n in "xyz"))
    for name, value in (("x", 7), ("y", 7), ("z", 9)):
        ids = image(0)[1]
        ids[0, 0] = value
        save(tmp_path / f"in/labels/{name}.png", ids)
    assert prepare("in/images", "in/labels", "--dry-run") == 1
    said = capsys.readouterr().err
    assert "7 is in 2 of 3 labels, " in said and "9 is in 1 of 3 labels, " in said
    assert "does not name these 2 values: add a line" in said
    assert not (tmp_path / "out").exists()


def test_a_dry_run_tells_the_images_of_each_class_and_warns_of_too_few(prepare, tmp_path, capsys):
    write(tmp_path / "in", *((f"images/{n}.png", f"labels/{n}.png") for n in ("a/x", "a/y", "b/z")))
    words = ("--val", tmp_path / "in/images/b", "--dry-run")
    assert prepare("in/images", "in/labels", *words) == 0
    said = capsys.readouterr()
    assert "fold 0,   1 roof: 2 train, 1 val" in said.out
    assert "too few val images for an episode (2): roof, pond; --val chooses" in said.err


def test_a_corrected_file_of_the_same_size_and_a_lost_tile_are_made_again(prepare, tmp_path):
    write(tmp_path / "in", *((f"images/{n}.bmp", f"labels/{n}.png") for n in "xy"))
    assert prepare() == 0
    (tile,) = (tmp_path / "out").glob("*/images/x_*.png")
    before = (tmp_path / "in/images/x.bmp").stat()
    save(tmp_path / "in/images/x.bmp", image(9)[0])
    assert (tmp_path / "in/images/x.bmp").stat().st_size == before.st_size
    assert prepare() == 0
    assert np.array_equal(read_image(tile), image(9)[0])
    tile.unlink()
    assert prepare() == 0 and tile.exists()
