"""The authors' mask caches become mask stores; hostile and torn files do not."""

import pickle
import resource
import sys

import numpy as np
import pytest

from mgcl.masks.convert import ForeignFile, _memory_limit, convert, decode_rle, main, read_cache
from mgcl.masks.mask_map import merge_masks
from mgcl.masks.store import MaskStore


def encode_rle(mask: np.ndarray) -> dict:
    flat = mask.T.reshape(-1).astype(np.int8)
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": ([0] if flat[0] else []) + counts}


def random_masks(seed: int, count: int = 20) -> np.ndarray:
    """Rectangles (M, 30, 40) in area order, as the authors keep them."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, 30, 40), bool)
    for mask in masks:
        y, x = rng.integers(0, 25, 2)
        mask[y : y + rng.integers(1, 20), x : x + rng.integers(1, 20)] = True
    return masks[np.argsort(-masks.sum(axis=(1, 2)), kind="stable")]


def cache_record(masks: np.ndarray) -> dict:
    """A record as the authors' program writes it: 128 masks, empty ones behind."""
    empty = np.zeros((128 - len(masks), *masks.shape[1:]), bool)
    return {
        "image": np.zeros((30, 40, 3), np.uint8),
        "label": np.zeros((30, 40), np.int64),
        "masks": [encode_rle(mask) for mask in np.concatenate([masks, empty])],
        "input_size": (1024, 1024),
        "image_size": (30, 40),
        "image_name": "P0001",
        "label_target": np.float32(1.5),
        "masks_target": [{"size": [64, 64], "counts": [64 * 64]}],
    }


def write_cache(path, record, protocol=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(record, protocol))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_cache_becomes_the_map_of_its_masks_in_any_pickle_protocol(tmp_path, protocol):
    masks = random_masks(0)
    write_cache(tmp_path / "a.pkl", cache_record(masks), protocol)
    np.testing.assert_array_equal(read_cache(tmp_path / "a.pkl"), merge_masks(masks))


def test_arrays_of_numpy_1_are_read_like_those_of_numpy_2(tmp_path):
    masks = random_masks(1)
    new = pickle.dumps(cache_record(masks), 2)
    old = new.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert new != old
    (tmp_path / "a.pkl").write_bytes(old)
    np.testing.assert_array_equal(read_cache(tmp_path / "a.pkl"), merge_masks(masks))


def test_runs_go_down_the_columns_and_begin_with_zeros():
    assert decode_rle({"size": [2, 3], "counts": [1, 3, 2]}).tolist() == [
        [False, True, False],
        [True, True, False],
    ]
    with pytest.raises(ForeignFile, match="5 pixels in a mask of 2 x 3"):
        decode_rle({"size": [2, 3], "counts": [5]})


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


class HostileByName(Hostile):
    def __reduce__(self):
        return (eval, (f"open({str(self.marker)!r}, 'w')",))


@pytest.mark.parametrize("kind", [Hostile, HostileByName])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path, kind, protocol):
    marker = tmp_path / "ran"
    record = cache_record(random_masks(0)) | {"image_name": kind(marker)}
    write_cache(tmp_path / "a.pkl", record, protocol)
    with pytest.raises(ForeignFile, match="refused"):
        read_cache(tmp_path / "a.pkl")
    assert not marker.exists()
    pickle.loads((tmp_path / "a.pkl").read_bytes())
    assert marker.exists()  # it would have run


def test_object_arrays_cannot_smuggle_anything_in(tmp_path):
    marker = tmp_path / "ran"
    smuggled = np.array([Hostile(marker)], dtype=object)
    write_cache(tmp_path / "a.pkl", {"masks": smuggled})
    with pytest.raises(ForeignFile, match="refused"):
        read_cache(tmp_path / "a.pkl")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["codecs.open", "numpy.load", "numpy.core.multiarray.fromfile"])
def test_nothing_but_arrays_may_be_named_not_even_of_numpy(tmp_path, name):
    module, _, function = name.rpartition(".")
    (tmp_path / "a.pkl").write_bytes(f"c{module}\n{function}\n.".encode())
    with pytest.raises(ForeignFile, match=f"it holds {name}, .*: refused"):
        read_cache(tmp_path / "a.pkl")


def test_an_array_in_a_cache_is_passed_over_and_never_made(tmp_path):
    """The shape asks for 8 EB; `_reconstruct` is called with whatever the file says."""
    call = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I1073741824\nI1073741824\n"
    call += b"I8\ntS'b'\ntR"
    masks = pickle.dumps(cache_record(random_masks(0))["masks"], 2)[2:-1]
    (tmp_path / "a.pkl").write_bytes(b"(dS'image'\n" + call + b"sS'masks'\n" + masks + b"s.")
    np.testing.assert_array_equal(read_cache(tmp_path / "a.pkl"), merge_masks(random_masks(0)))


def nested(depth: int) -> list:
    """A list of a few bytes that has 2 ** depth numbers when walked."""
    inner: list = [1, 1]
    for _ in range(depth):
        inner = [inner, inner]
    return inner


WRAPPING = [1 << 62, 1 << 62, 1 << 62, (1 << 62) + 20]  # 20 in 64 bits: NumPy would overrun


@pytest.mark.parametrize(
    "size, counts, reason",
    [
        ([4, 5], WRAPPING, "runs of [0-9]+ pixels in a mask of 4 x 5"),
        ([4, 5], [21, -1], "runs of 20 pixels"),
        ([4, 5], nested(40), "no list of numbers"),
        ([4, 5], [20.0], "no list of numbers"),
        ([4, 5], [], "runs of 0 pixels"),
        ([0, 5], [], "no pair of numbers"),
        ([1.5, 2], [3], "no pair of numbers"),
        ([nested(40), 5], [20], "no pair of numbers"),
        ([1 << 40, 1 << 40], [1 << 80], "too large"),
        ([60_000, 60_000], [3_600_000_000], "too large"),
    ],
)
def test_runs_that_would_fill_or_overrun_the_memory_are_refused(tmp_path, size, counts, reason):
    masks = [{"size": [4, 5], "counts": [20]}, {"size": size, "counts": counts}]
    write_cache(tmp_path / "a.pkl", {"masks": masks})
    with pytest.raises(ForeignFile, match=reason):
        read_cache(tmp_path / "a.pkl")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")
@pytest.mark.parametrize(
    "data, reason",
    [
        (b"\x80\x04]r\xff\xff\xff\x7f.", r"torn or no mask cache \(MemoryError"),
        (b"\x80\x04]p99999999999\n.", "torn or no mask cache"),
        (b"\x80\x04\x8e" + b"\x7f" * 8 + b"x.", "torn or no mask cache"),
        (b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b".", "torn or no mask cache"),
        (b"\x80\x04\x82\x01.", "torn or no mask cache"),
        (b"\x80\x04\x8c\x02idQ.", "torn or no mask cache"),
        (b"I" + b"9" * 5000 + b"\n.", "torn or no mask cache"),
        (b"", "torn or no mask cache"),
    ],
    ids=["memo", "memo text", "length", "depth", "extension", "persistent", "digits", "empty"],
)
def test_a_pickle_that_asks_for_more_than_it_holds_is_refused(tmp_path, data, reason):
    (tmp_path / "a.pkl").write_bytes(data)
    with pytest.raises(ForeignFile, match=reason):
        read_cache(tmp_path / "a.pkl")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")
def test_the_limit_of_memory_is_as_before_after_a_file():
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with _memory_limit(1 << 28):
        pytest.raises(MemoryError, bytearray, 1 << 30)
    assert resource.getrlimit(resource.RLIMIT_AS) == limits
    assert len(bytearray(1 << 28)) == 1 << 28


def test_a_folder_is_converted_in_parallel_and_resumed(tmp_path):
    source, root = tmp_path / "cache", tmp_path / "maps"
    settings = "sam_mask_vit_h_t64_p32_s50"
    names = {f"{split}/P{i}": i for i, split in enumerate(["train", "train", "val"])}
    for key, seed in names.items():
        split, name = key.split("/")
        write_cache(source / split / settings / f"{name}.pkl", cache_record(random_masks(seed)))
    whole = (source / "val" / settings / "P2.pkl").read_bytes()
    (source / "val" / settings / "torn.pkl").write_bytes(whole[:500])
    write_cache(source / "val" / settings / "foreign.pkl", [1, 2, 3])

    made, found, left_out = convert(source, root, workers=2)
    assert (made, found) == (3, 0)
    assert {path.stem for path in left_out} == {"torn", "foreign"}
    for key, seed in names.items():
        expected = merge_masks(random_masks(seed))
        np.testing.assert_array_equal(MaskStore(root).load(key), expected)

    MaskStore(root).path("train/P0").write_bytes(b"torn")
    assert convert(source, root, workers=1)[:2] == (1, 2)


def test_the_command_says_what_it_did_and_its_status_tells(tmp_path, capsys):
    write_cache(tmp_path / "cache" / "a.pkl", cache_record(random_masks(0)))
    words = [str(tmp_path / "cache"), "--to", str(tmp_path / "maps"), "--workers", "1"]
    assert main(words) == 0
    assert "1 made, 0 were there, 0 left out" in capsys.readouterr().out
    (tmp_path / "cache" / "b.pkl").write_bytes(b"torn")
    assert main(words) == 1
    assert main([str(tmp_path / "empty"), "--to", str(tmp_path / "maps")]) == 1
