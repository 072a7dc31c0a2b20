"""Mask maps: painting, superpixels, the store."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mgcl.masks.mask_map import as_mask_map, merge_masks
from mgcl.masks.store import MaskStore, MaskStoreError
from mgcl.masks.superpixels import SuperpixelMaskGenerator, number_regions
from tests.images.test_read import png_header

STACKS = hnp.arrays(bool, st.tuples(st.integers(0, 12), st.integers(1, 5), st.integers(1, 5)))


def paint_pixel_by_pixel(masks: np.ndarray, max_masks: int) -> np.ndarray:
    kept = sorted(range(len(masks)), key=lambda i: -int(masks[i].sum()))[:max_masks]
    mask_map = np.zeros(masks.shape[1:], np.uint8)
    for y, x in np.ndindex(mask_map.shape):
        for number, index in enumerate(kept, start=1):
            if masks[index, y, x]:
                mask_map[y, x] = number
    return mask_map


@settings(max_examples=60, deadline=None)
@given(STACKS, st.integers(1, 8))
def test_merging_equals_painting_pixel_by_pixel_in_numpy_and_torch(masks, max_masks):
    expected = paint_pixel_by_pixel(masks, max_masks)
    np.testing.assert_array_equal(merge_masks(masks, max_masks), expected)
    merged = merge_masks(torch.from_numpy(masks), max_masks)
    assert merged.dtype == torch.uint8
    np.testing.assert_array_equal(merged.numpy(), expected)


def test_of_equal_masks_the_later_one_wins_and_a_hidden_one_keeps_its_number():
    masks = np.zeros((3, 1, 4), bool)
    masks[0, 0, :2] = masks[1, 0, :2] = True  # the same two pixels twice
    masks[2, 0, 3] = True
    assert merge_masks(masks).tolist() == [[2, 2, 0, 3]]


def test_only_the_128_largest_of_200_masks_are_kept():
    masks = np.zeros((200, 200, 200), bool)
    for i in range(200):
        masks[i, i, : i + 1] = True  # mask i has area i + 1
    mask_map = merge_masks(masks)
    assert mask_map.max() == 128
    assert mask_map[199, 0] == 1 and mask_map[72, 0] == 128 and mask_map[71, 0] == 0


def test_merging_leaves_its_input_alone_and_refuses_a_wrong_shape():
    masks = np.ones((2, 3, 3), bool)
    masks.setflags(write=False)
    merge_masks(masks)
    with pytest.raises(ValueError, match=r"\(3, 3\).*\(M, H, W\)"):
        merge_masks(masks[0])


def test_a_generator_may_return_masks_or_a_map_but_nothing_else():
    masks = torch.ones(1, 2, 2, dtype=torch.bool)
    assert as_mask_map(masks).tolist() == [[1, 1], [1, 1]]
    assert as_mask_map(np.full((2, 2), 3, np.uint8)).tolist() == [[3, 3], [3, 3]]
    with pytest.raises(ValueError, match="float64"):
        as_mask_map(np.zeros((2, 2)))


@pytest.mark.parametrize("shape", [(256, 256), (255, 256), (40, 90), (1, 1), (600, 300)])
@pytest.mark.parametrize("kind", ["noise", "flat", "smooth"])
def test_superpixels_cover_everything_with_at_most_128_sorted_regions(shape, kind):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    if kind == "flat":
        image[:] = 90
    if kind == "smooth":
        image = np.asarray(Image.fromarray(image[:9, :9]).resize(shape[::-1]))
    generator = SuperpixelMaskGenerator()
    mask_map = generator(image)
    assert mask_map.shape == shape and mask_map.dtype == np.uint8
    areas = np.bincount(mask_map.ravel())
    assert areas[0] == 0 and 1 <= len(areas) - 1 <= 128
    assert (areas[1:] > 0).all()
    if shape == (256, 256):
        assert (np.diff(areas[1:]) <= 0).all()
        assert areas[1:].min() >= 32  # no specks
    np.testing.assert_array_equal(generator(image), mask_map)


def test_regions_over_the_limit_join_the_nearest_one_kept():
    regions = np.repeat([[0, 0, 0, 0, 1, 2, 2, 2]], 2, axis=0)
    assert number_regions(regions, 2)[0].tolist() in (
        [1, 1, 1, 1, 1, 2, 2, 2],
        [1, 1, 1, 1, 2, 2, 2, 2],
    )
    assert number_regions(np.arange(400).reshape(20, 20)).max() == 128


def test_a_map_comes_back_from_the_store_as_it_went_in(tmp_path):
    mask_map = np.random.default_rng(0).integers(0, 129, (7, 5), dtype=np.uint8)
    MaskStore(tmp_path, {"name": "x", "sizes": (1, 2)}).save("train/a", mask_map)
    store = MaskStore(tmp_path)
    assert store.spec == {"name": "x", "sizes": [1, 2]}
    assert "train/a" in store and "train/b" not in store
    np.testing.assert_array_equal(store.load("train/a"), mask_map)
    assert (tmp_path / "train" / "a.png").exists()
    MaskStore(tmp_path, {"name": "x", "sizes": (1, 2)})  # the same options again


def test_a_store_made_with_other_options_is_refused_with_the_difference(tmp_path):
    MaskStore(tmp_path, {"name": "x", "scale": 3})
    with pytest.raises(MaskStoreError, match="scale: there 3, wanted 4"):
        MaskStore(tmp_path, {"name": "x", "scale": 4})


def test_a_folder_without_maps_and_a_missing_map_name_the_remedy(tmp_path):
    with pytest.raises(MaskStoreError, match="main_0_extract_masks.py"):
        MaskStore(tmp_path / "none")
    with pytest.raises(MaskStoreError, match=r"no mask map for P0001 .*main_0_extract_masks.py"):
        MaskStore(tmp_path, {"name": "x"}).load("P0001")


def test_a_torn_foreign_or_differently_made_map_is_found(tmp_path):
    mask_map = np.random.default_rng(0).integers(0, 129, (64, 64), dtype=np.uint8)
    store = MaskStore(tmp_path / "a", {"name": "x"})
    MaskStore(tmp_path / "b", {"name": "y"}).save("other", mask_map)
    store.save("good", mask_map)
    whole = store.path("good").read_bytes()
    store.path("torn").write_bytes(whole[: len(whole) // 2])
    store.path("empty").write_bytes(b"")
    store.path("text").write_text("no PNG at all")
    store.path("other").write_bytes((tmp_path / "b" / "other.png").read_bytes())
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(store.path("colour"))
    assert store.problem("good", (64, 64)) is None
    assert "is (64, 64), its image (64, 63)" in str(store.problem("good", (64, 63)))
    for key, reason in {
        "torn": "damaged",
        "empty": "damaged",
        "text": "damaged",
        "colour": "damaged",
        "other": "other options",
    }.items():
        assert reason in str(store.problem(key))


def test_a_damaged_manifest_and_a_vast_map_are_named(tmp_path):
    store = MaskStore(tmp_path, {"name": "x"})
    store.path("vast").write_bytes(png_header(60_000, 8_000, b"\x08\0\0\0\0"))
    with pytest.raises(MaskStoreError, match=r"damaged mask map \(60000 x 8000 pixels"):
        store.load("vast")
    for text in (b"[" * 9000, b"{", b"[]", b"null", b"\xff"):
        (tmp_path / "manifest.json").write_bytes(text)
        with pytest.raises(MaskStoreError, match="manifest.json is not a manifest of mask maps"):
            MaskStore(tmp_path)


def test_importing_the_package_of_masks_loads_no_heavy_library():
    code = "import sys, mgcl.masks.store; print([m for m in ('torch', 'cv2', 'skimage', "
    code += "'segment_anything') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
