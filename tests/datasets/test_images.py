from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import functional as tvf

from mgcl.datasets import lists
from mgcl.datasets.benchmarks import BENCHMARKS, ISAID_PALETTE
from mgcl.datasets.labels import binary_label, read_label
from mgcl.datasets.lists import Entry
from mgcl.datasets.samples import ImageSource, with_min_object
from mgcl.images.resize import resize_image, resize_nearest

ISAID, DLRSD = BENCHMARKS["isaid"], BENCHMARKS["dlrsd"]
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 30, 3), np.uint8)
IDS = RNG.integers(0, 16, (20, 30), np.uint8)
ENTRY = Entry("val", "P0", 2)


def put(path: Path, picture: Image.Image, kind: str = "PNG", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, kind, **options)
    return path


def put_entry(root: Path, image=RGB, label=IDS) -> ImageSource:
    put(ISAID.image_path(root, "val", "P0"), Image.fromarray(image))
    put(ISAID.label_path(root, "val", "P0"), Image.fromarray(label))
    return ImageSource(ISAID, root, None, 16)


# entries


def test_a_missing_image_is_named_with_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image .*P0\.png: check the data root"):
        ImageSource(ISAID, tmp_path, None, 16).load(ENTRY)


def test_links_in_the_data_root_are_followed_and_a_dangling_one_is_a_missing_image(tmp_path):
    put_entry(tmp_path / "elsewhere")
    root = tmp_path / "root"
    root.mkdir()
    (root / "val").symlink_to(tmp_path / "elsewhere" / "val")
    assert ImageSource(ISAID, root, None, 16).load(ENTRY).label.any()
    ISAID.image_path(tmp_path / "elsewhere", "val", "P0").unlink()
    ISAID.image_path(root, "val", "P0").symlink_to(tmp_path / "gone.png")
    with pytest.raises(FileNotFoundError, match=r"no image .*P0\.png"):
        ImageSource(ISAID, root, None, 16).load(ENTRY)


# labels


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "I;16"])
def test_every_form_of_an_isaid_label_gives_the_same_ids(tmp_path, mode):
    picture = Image.fromarray(IDS)
    if mode == "P":
        picture.putpalette([v for colour in ISAID_PALETTE for v in colour])
    elif mode.startswith("RGB"):
        picture = Image.fromarray(np.array(ISAID_PALETTE, np.uint8)[IDS]).convert(mode)
    elif mode == "I;16":
        picture = Image.fromarray(IDS.astype(np.uint16))
    assert picture.mode == mode
    ids = read_label(put(tmp_path / "x.png", picture), ISAID)
    assert ids.dtype == np.uint8
    assert np.array_equal(ids, IDS)


def test_dlrsd_reads_trees_water_and_the_ignore_label(tmp_path):
    ids = np.array([[16, 17, 255, 3]], np.uint8)
    label = read_label(put(tmp_path / "x.png", Image.fromarray(ids)), DLRSD)
    assert binary_label(label, 2).tolist() == [[0, 0, 255, 1]]


@pytest.mark.parametrize("wrong", [16, 17, 200, 254])
def test_an_unknown_id_is_named_with_its_file(tmp_path, wrong):
    ids = IDS.copy()
    ids[3, 4] = wrong
    path = put(tmp_path / "x.png", Image.fromarray(ids))
    with pytest.raises(
        ValueError, match=rf"x\.png holds the id {wrong}, which isaid does not know"
    ):
        read_label(path, ISAID)


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_truncated_label_is_named(tmp_path, mode):
    path = put(tmp_path / "x.png", Image.fromarray(IDS).convert(mode))
    data = path.read_bytes()
    for length in (0, 8, 33, len(data) // 2, len(data) - 40):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"x\.png is (damaged|not a readable image)"):
            read_label(path, ISAID)


def test_an_unknown_colour_is_named_with_its_file(tmp_path):
    colours = np.array(ISAID_PALETTE, np.uint8)[IDS]
    colours[5, 5] = (1, 2, 3)
    path = put(tmp_path / "x.png", Image.fromarray(colours))
    with pytest.raises(ValueError, match=r"x\.png has the colour \(1, 2, 3\), which is no class"):
        read_label(path, ISAID)


def test_colours_are_refused_where_a_benchmark_has_none(tmp_path):
    path = put(tmp_path / "x.png", Image.fromarray(RGB))
    with pytest.raises(ValueError, match=r"x\.png is in colours and holds no ids"):
        read_label(path, DLRSD)


@pytest.mark.parametrize("class_id", range(15))
def test_a_binary_label_is_one_exactly_on_its_class(class_id):
    ids = np.array([[*range(16), 255]], np.uint8)
    expected = [255 if i == 255 else int(i == class_id + 1) for i in ids[0]]
    assert binary_label(ids, class_id)[0].tolist() == expected


def test_a_label_without_the_class_is_all_background(tmp_path):
    source = put_entry(tmp_path, label=np.zeros_like(IDS))
    assert not source.load(ENTRY).label.any()


# sizes


@pytest.mark.parametrize("shape", [(40, 40), (17, 90), (1, 1), (300, 16), (16, 17)])
def test_images_are_resized_as_torchvision_does(shape):
    image = RNG.integers(0, 256, (*shape, 3), np.uint8)
    expected = np.array(tvf.resize(Image.fromarray(image), [16, 16]))
    assert np.array_equal(resize_image(image, 16), expected)


@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 300))
def test_labels_are_resized_as_torch_nearest_does(height, width, size):
    ids = (np.arange(height)[:, None] * 7 + np.arange(width) * 3).astype(np.uint8)
    tensor = torch.from_numpy(ids)[None, None]
    expected = torch.nn.functional.interpolate(tensor, (size, size), mode="nearest")[0, 0].numpy()
    assert np.array_equal(resize_nearest(ids, size), expected)


def test_a_sample_has_one_size_and_uint8_throughout(tmp_path):
    sample = put_entry(tmp_path).load(ENTRY)
    assert [tuple(t.shape) for t in sample] == [(3, 16, 16), (16, 16), (16, 16)]
    assert {t.dtype for t in sample} == {torch.uint8}


@pytest.mark.parametrize("shape", [(1, 1), (1, 10_000), (16, 16), (10_000, 300)])
def test_images_of_any_size_become_samples(tmp_path, shape):
    source = put_entry(tmp_path, np.full((*shape, 3), 9, np.uint8), np.full(shape, 3, np.uint8))
    sample = source.load(ENTRY)
    assert (sample.image == 9).all()
    assert (sample.label == 1).all()


def test_an_image_and_a_label_of_different_sizes_are_both_named(tmp_path):
    source = put_entry(tmp_path, label=IDS[:, :-2])
    with pytest.raises(
        ValueError, match=r"P0\.png is 30 x 20 but its label .*P0_.*\.png is 28 x 20"
    ):
        source.load(ENTRY)


# mask maps


def test_mask_maps_follow_the_label_rule_and_are_zero_when_switched_off(tmp_path):
    source = put_entry(tmp_path)
    assert not source.load(ENTRY).mask_map.any()
    source.store = StoreOf({"val/P0": IDS})
    assert np.array_equal(source.load(ENTRY).mask_map, resize_nearest(IDS, 16))


def test_a_missing_mask_map_names_the_script_that_makes_it(tmp_path):
    source = put_entry(tmp_path)
    source.store = StoreOf({})
    with pytest.raises(
        FileNotFoundError, match=r"no mask map for P0: run main_0_extract_masks\.py"
    ):
        source.load(ENTRY)


def test_a_mask_map_of_another_size_is_refused(tmp_path):
    source = put_entry(tmp_path)
    source.store = StoreOf({"val/P0": IDS[:10]})
    with pytest.raises(ValueError, match="mask map of P0 is 30 x 10 but the image is 30 x 20"):
        source.load(ENTRY)


class StoreOf(dict):
    load = dict.__getitem__


# choosing entries


@pytest.mark.parametrize("share", [0.0, 0.05, 0.15, 1.0])
def test_entries_with_a_smaller_object_are_left_out_in_order(isaid_root, share):
    source = ImageSource(ISAID, isaid_root, None, 64)
    entries = lists.test_entries(ISAID, isaid_root / "splits", 0, published=True)
    kept = with_min_object(entries, source, share)
    covered = {e: (source.load(e).label == 1).double().mean().item() for e in entries}
    assert kept == [e for e in entries if covered[e] >= share]
    assert 0 < len(kept) < len(entries) or share in (0.0, 1.0)
