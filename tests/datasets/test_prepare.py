import json
import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mgcl.datasets import lists
from mgcl.datasets.benchmarks import (
    BENCHMARKS,
    ISAID_PALETTE,
    find_benchmark,
    read_benchmark,
    write_benchmark,
)
from mgcl.datasets.labels import read_label
from mgcl.datasets.prepare import command
from mgcl.datasets.prepare.classes import make_benchmark, read_classes, read_ids
from mgcl.datasets.prepare.tiles import Cut, windows
from mgcl.datasets.samples import read_image
from mgcl.datasets.synthetic.scenes import paint_scene

ISAID, DLRSD = BENCHMARKS["isaid"], BENCHMARKS["dlrsd"]
CLASSES = "0 background\n1 ship\n2 tank\n3 tank\n4 court\n5 ring\n255 ignore\n"


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def download(tmp_path):
    """Two large images as DOTA and iSAID come: RGB labels in a folder of their own."""
    root = tmp_path / "download"
    for split, name, class_id in (("train", "P0001", 0), ("val", "P0002", 3)):
        image, label = paint_scene(150, class_id, 0)
        save(root / split / "images" / f"{name}.png", image[:100])
        masks = root / split / "Semantic_masks" / "images"
        colours = np.array(ISAID_PALETTE, np.uint8)[label[:100]]
        save(masks / f"{name}_instance_color_RGB.png", colours)
        save(root / split / "Instance_masks" / f"{name}_instance_id_RGB.png", colours + 7)
    return root


def run(*words):
    return command.main([str(word) for word in words])


def isaid(download, to, *words):
    common = ("--size", 64, "--stride", 50, "--min-pixels", 100)
    return run("isaid", "--images", download, "--labels", download, "--to", to, *common, *words)


@given(st.integers(1, 5000), st.integers(1, 300), st.integers(1, 300))
def test_windows_cover_a_side_and_the_last_is_flush(length, size, stride):
    starts = windows(length, Cut(size, min(stride, size)))
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    covered = {i for start in starts for i in range(start, start + size)}
    assert covered >= set(range(length))
    assert starts[-1] == max(0, length - size)


def test_tiles_hold_the_pixels_that_their_names_say(download, tmp_path):
    assert isaid(download, tmp_path / "out") == 0
    tiles = list((tmp_path / "out").rglob("images/*.png"))
    assert tiles
    for tile in tiles:
        split, (name, y0, y1, x0, x1) = tile.parts[-3], tile.stem.split("_")
        part = (slice(int(y0), int(y1)), slice(int(x0), int(x1)))
        whole = read_image(download / split / "images" / f"{name}.png")
        masks = download / split / "Semantic_masks" / "images"
        ids = read_label(masks / f"{name}_instance_color_RGB.png", ISAID)
        assert np.array_equal(read_image(tile), whole[part])
        label = read_label(ISAID.label_path(tmp_path / "out", split, tile.stem), ISAID)
        assert np.array_equal(label, ids[part])
        assert label.any()
    assert {tile.parts[-3] for tile in tiles} == {"train", "val"}


def test_lists_name_every_class_with_enough_pixels(download, tmp_path):
    isaid(download, tmp_path / "out")
    listed = set()
    for fold in range(3):
        args = (ISAID, tmp_path / "out" / "splits", fold)
        listed |= {*lists.training_entries(*args, published=True)}
        listed |= {*lists.test_entries(*args, published=True)}
    expected = set()
    for path in (tmp_path / "out").rglob("semantic_png/*.png"):
        name = path.stem.removesuffix("_instance_color_RGB")
        values, counts = np.unique(read_label(path, ISAID), return_counts=True)
        expected |= {
            lists.Entry(path.parts[-3], name, int(v) - 1)
            for v, n in zip(values, counts, strict=True)
            if v and n >= 100
        }
    assert listed == expected


def test_a_second_run_writes_nothing_anew_and_another_rule_does(download, tmp_path):
    out = tmp_path / "out"
    isaid(download, out)
    tiles = {p: p.stat().st_mtime_ns for p in out.rglob("images/*.png")}
    isaid(download, out)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("images/*.png")} == tiles
    isaid(download, out, "--stride", "40")
    assert len(list(out.rglob("images/*.png"))) > len(tiles)


def test_a_dry_run_counts_and_writes_nothing(download, tmp_path, capsys):
    assert isaid(download, tmp_path / "out", "--dry-run") == 0
    output = capsys.readouterr().out
    assert "2 images: 1 train, 1 val" in output
    assert "at most 12 tiles of 64 px" in output
    assert re.search(r"at most \d+ MB in .*out, where \d+ MB are free", output)
    assert not (tmp_path / "out").exists()


def test_an_image_smaller_than_a_tile_is_padded_with_ignored_pixels(download, tmp_path):
    run("isaid", "--images", download, "--labels", download, "--to", tmp_path / "out")
    label_path = ISAID.label_path(tmp_path / "out", "train", "P0001_0_256_0_256")
    label = read_label(label_path, ISAID)
    assert label.shape == (256, 256)
    assert (label[100:] == 255).all()
    assert (label[:, 150:] == 255).all()


def test_a_damaged_image_is_named_and_the_rest_goes_on(download, tmp_path, capsys):
    broken = download / "train" / "images" / "P0001.png"
    broken.write_bytes(broken.read_bytes()[:2000])
    assert isaid(download, tmp_path / "out") == 1
    assert f"error: {broken} is damaged" in capsys.readouterr().err
    assert list((tmp_path / "out" / "val" / "images").iterdir())
    assert not (tmp_path / "out" / "train").exists()


def test_an_image_without_a_header_and_a_broken_record_do_not_stop_the_rest(
    download, tmp_path, capsys
):
    assert isaid(download, tmp_path / "out") == 0
    good = {p: p.read_bytes() for p in (tmp_path / "out" / "val").rglob("*.png")}
    (tmp_path / "out" / "prepared" / "val" / "P0002.json").write_text('{"size": 64}')
    shutil.rmtree(tmp_path / "out" / "prepared" / "train")
    (download / "train" / "images" / "P0001.png").write_bytes(b"no image")
    assert isaid(download, tmp_path / "out") == 1
    assert "P0001.png is not a readable image" in capsys.readouterr().err
    assert good == {p: p.read_bytes() for p in (tmp_path / "out" / "val").rglob("*.png")}


def test_an_image_name_that_would_break_a_list_is_refused(download, tmp_path, capsys):
    for path in download.rglob("P0002*"):
        path.rename(path.with_name(path.name.replace("P0002", "P\n2")))
    assert isaid(download, tmp_path / "out") == 1
    assert "has a character that does not print" in capsys.readouterr().err


def test_an_image_without_label_and_a_folder_without_split_are_refused(download, tmp_path, capsys):
    label = next(download.rglob("P0002_instance_color_RGB.png"))
    label.unlink()
    labels = download / "val" / "Semantic_masks"
    assert run("isaid", "--images", download, "--labels", labels, "--to", tmp_path / "out") == 1
    assert "2 of 2 images have no label below" in capsys.readouterr().err
    shutil.move(download / "train", download / "other")
    assert isaid(download, tmp_path / "out") == 1
    assert "lies in no folder train or val" in capsys.readouterr().err
    assert run("isaid", "--images", label.parent, "--labels", labels, "--to", tmp_path / "out") == 1
    assert "no image below" in capsys.readouterr().err


def test_sizes_that_disagree_are_named(download, tmp_path, capsys):
    save(download / "val" / "images" / "P0002.png", np.zeros((99, 150, 3), np.uint8))
    assert isaid(download, tmp_path / "out") == 1
    assert "P0002.png is 150 x 99 but its label" in capsys.readouterr().err


def test_dlrsd_is_checked_and_laid_out(dlrsd_root, tmp_path):
    out = tmp_path / "out"
    words = ("--images", dlrsd_root / "Images", "--labels", dlrsd_root / "Labels", "--to", out)
    assert run("dlrsd", *words, "--min-pixels", 123) == 0  # 3 % of 64 x 64, as the scenes' lists
    for fold in range(3):
        made, given = (
            lists.test_entries(DLRSD, root / "splits", fold, published=True)
            for root in (out, dlrsd_root)
        )
        assert sorted(made) == sorted(given)
    for path in (dlrsd_root / "Images").rglob("*.tif"):
        copy = out / path.relative_to(dlrsd_root)
        assert copy.read_bytes() == path.read_bytes()


def own_words(isaid_root, classes, to):
    train = isaid_root / "train"
    folders = ("--images", train / "images", "--labels", train / "semantic_png")
    return ("own", *folders, "--classes", classes, "--to", to, "--size", 32, "--stride", 32)


def test_own_images_become_a_benchmark(isaid_root, tmp_path):
    classes = tmp_path / "classes.txt"
    classes.write_text(CLASSES + "".join(f"{i} background\n" for i in range(6, 16)))
    words = own_words(isaid_root, classes, tmp_path / "out")
    assert run(*words, "--folds", 2, "--min-pixels", 50) == 0
    benchmark = find_benchmark("own", tmp_path / "out")
    assert benchmark.class_names == ("ship", "tank", "court", "ring")
    assert benchmark.folds == ((0, 1), (2, 3))
    names = {"train": set(), "val": set()}
    for fold in range(2):
        args = (benchmark, tmp_path / "out" / "splits", fold)
        for entry in (
            *lists.training_entries(*args, published=True),
            *lists.test_entries(*args, published=True),
        ):
            label = benchmark.label_path(tmp_path / "out", entry.split, entry.name)
            ids = read_label(label, benchmark)
            assert (ids == entry.class_id + 1).sum() >= 50
            names[entry.split].add(entry.name.rsplit("_", 4)[0])
    assert names["train"]
    assert names["val"]
    assert not names["train"] & names["val"]


def test_a_value_without_a_line_in_the_class_table_is_named(isaid_root, tmp_path, capsys):
    (tmp_path / "classes.txt").write_text(CLASSES)
    words = own_words(isaid_root, tmp_path / "classes.txt", tmp_path / "out")
    assert run(*words, "--folds", 2) == 1
    assert "which the class table does not name: add a line for it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 a\n2\n", r"line 2: '2' is not 'ID NAME'"),
        ("1 a\n#12 b\n", "line 2: '#12 b' is not"),
        ("1 a\n1 b\n", "line 2: 1 has a name already"),
        ("1 a\n#ff0000 b\n", "either ids or #colours"),
        ("", "either ids or #colours"),
        (b"1 a\n2 \xff\n", r"classes\.txt is not UTF-8 text"),
        ("\u0661 a\n", "is not 'ID NAME'"),  # a digit, of another script
    ],
)
def test_a_broken_class_table_is_named(tmp_path, text, message):
    (tmp_path / "classes.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        read_classes(tmp_path / "classes.txt")


def test_colours_of_a_class_table_become_ids(tmp_path):
    (tmp_path / "classes.txt").write_text("#ff0000 roof\n#0000FF pool\n#ffffff ignore\n")
    table = read_classes(tmp_path / "classes.txt")
    colours = np.array([[[255, 0, 0], [0, 0, 255], [0, 0, 0], [255, 255, 255]]], np.uint8)
    save(tmp_path / "label.png", colours)
    assert read_ids(tmp_path / "label.png", table).tolist() == [[1, 2, 0, 255]]
    save(tmp_path / "label.png", colours // 2)
    with pytest.raises(ValueError, match=r"label.png holds #7f0000, which the class table"):
        read_ids(tmp_path / "label.png", table)


@pytest.mark.parametrize("folds", [1, 5])
def test_folds_that_cannot_be_are_refused(tmp_path, folds):
    (tmp_path / "classes.txt").write_text(CLASSES)
    with pytest.raises(ValueError, match=rf"4 class\(es\) in {folds} fold\(s\)"):
        make_benchmark(read_classes(tmp_path / "classes.txt"), folds)


@pytest.mark.parametrize(
    "facts",
    [
        *("{", "[]", "[" * 9000, '{"class_names": ["a"]}', "\xff"),
        '{"class_names": ["a", "b"], "folds": [[0], []]}',
        '{"class_names": ["a", "b"], "folds": [[0], [1e999]]}',
        '{"class_names": ["a", "b"], "folds": [[0], [1.5]]}',
        '{"class_names": "ab", "folds": [[0], [1]]}',
    ],
)
def test_a_broken_benchmark_file_is_named(tmp_path, facts):
    (tmp_path / "benchmark.json").write_bytes(facts.encode("latin1"))
    with pytest.raises(ValueError, match=r"benchmark\.json.*(prepare it anew|not UTF-8 text)"):
        find_benchmark("own", tmp_path)


def test_a_root_without_benchmark_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no .*benchmark\.json: make it with"):
        find_benchmark("own", tmp_path)
    assert find_benchmark("isaid", tmp_path) is ISAID


def test_benchmark_files_read_back(tmp_path):
    (tmp_path / "classes.txt").write_text(CLASSES)
    benchmark = make_benchmark(read_classes(tmp_path / "classes.txt"), 3)
    write_benchmark(tmp_path, benchmark)
    assert read_benchmark(tmp_path) == benchmark
    assert json.loads((tmp_path / "benchmark.json").read_text())["folds"] == [[0, 1], [2], [3]]


def test_another_class_table_or_a_changed_label_cuts_anew(isaid_root, tmp_path):
    classes = tmp_path / "classes.txt"
    words = own_words(isaid_root, classes, tmp_path / "out")
    rest = "".join(f"{i} background\n" for i in range(6, 16))
    classes.write_text(CLASSES + rest)
    assert run(*words, "--folds", 2) == 0
    before = np.unique([read_image(p) for p in (tmp_path / "out").rglob("train/labels/*.png")])
    classes.write_text(CLASSES.replace("5 ring", "5 ignore") + rest)
    assert run(*words, "--folds", 2) == 0
    after = np.unique([read_image(p) for p in (tmp_path / "out").rglob("train/labels/*.png")])
    assert 4 in before and 255 not in before and 4 not in after and 255 in after


def test_what_is_left_out_is_named(download, tmp_path, capsys):
    shutil.copytree(download / "val" / "images", download / "test" / "images")
    label = next(download.rglob("P0002_instance_color_RGB.png"))
    shutil.copy(label, label.with_name("P0009_instance_color_RGB.png"))
    (download / "readme.txt").write_text("")
    assert isaid(download, tmp_path / "out", "--min-pixels", 4000) == 0
    said = capsys.readouterr()
    for words in ("1 images in a folder test", "1 labels without an image, the first is "):
        assert f"left out: {words}" in said.out
    assert "left out: other files: 2 _instance_id_RGB.png, 1 .txt" in said.out
    assert re.search(r"\d+ of them are in no list: under 4000 pixels of every class", said.out)
    assert "warning: too few val images for an episode (2): ship, " in said.err


def test_quiet_leaves_warnings_and_errors(download, tmp_path, capsys):
    assert isaid(download, tmp_path / "out", "--quiet") == 0
    said = capsys.readouterr()
    assert said.out == "" and "warning: too few" in said.err


def test_a_class_of_several_words_is_one_name(tmp_path):
    (tmp_path / "classes.txt").write_text("1 storage  tank\n2 pool \n")
    assert read_classes(tmp_path / "classes.txt").names == ("storage_tank", "pool")
    (tmp_path / "classes.txt").write_text("1 a/b\n2 pool\n")
    with pytest.raises(ValueError, match="line 1: '1 a/b' is not 'ID NAME'"):
        read_classes(tmp_path / "classes.txt")


def test_deep_images_of_ones_own_are_stretched(tmp_path):
    deep = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) // 4  # 10 of 16 bits
    save(tmp_path / "images" / "a.png", deep)
    save(tmp_path / "labels" / "a.png", (deep > 500).astype(np.uint8) + 1)
    (tmp_path / "classes.txt").write_text("1 dark\n2 light\n")
    folders = ("--images", tmp_path / "images", "--labels", tmp_path / "labels")
    words = ("--classes", tmp_path / "classes.txt", "--folds", 2, "--to", tmp_path / "out")
    assert run("own", *folders, *words, "--size", 64) == 0
    (tile,) = (tmp_path / "out").rglob("images/*.png")
    assert (read_image(tile).min(), read_image(tile).max()) == (0, 255)
