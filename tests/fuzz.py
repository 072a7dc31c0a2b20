"""Random input for everything that reads files of others, for as long as one likes.

    python -m tests.fuzz [--seconds 120] [TARGET ...]

What holds for every target: a reader returns something valid or raises a ValueError or an OSError
that names the file, soon and within bounded memory. A counterexample is printed in its shortest
form, to become a test. The suite runs a few hundred examples of each (`test_fuzz.py`).
"""

import argparse
import contextlib
import faulthandler
import io
import itertools
import json
import logging
import os
import pickle
import resource
import shutil
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tifffile
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from mgcl import config
from mgcl.datasets import lists
from mgcl.datasets.benchmarks import BENCHMARKS, FILE, ISAID_PALETTE, read_benchmark
from mgcl.datasets.labels import read_label, read_values
from mgcl.datasets.manifest import read_manifest
from mgcl.datasets.prepare.classes import read_classes
from mgcl.datasets.prepare.pairing import find_pictures
from mgcl.images import read
from mgcl.images.find import find_files
from mgcl.images.raster import open_raster
from mgcl.masks.convert import ForeignFile, read_cache
from mgcl.masks.store import MaskStore, is_store
from mgcl.predict.foreground import read_foreground
from tests.small_run import REPOSITORY

ISAID, DLRSD = BENCHMARKS["isaid"], BENCHMARKS["dlrsd"]
SLOWEST = 20.0  # seconds for one input, on a busy machine
MOST_MEMORY = 1 << 20  # KiB that the process may grow by


class Target(NamedTuple):
    """One reader: input for it, and what must hold for what it makes of the input."""

    inputs: st.SearchStrategy
    check: Callable[[Path, object], None]
    examples: int = 200  # in the suite


def mutated(files: Sequence[bytes], words: Sequence[bytes] = (b"\0",)) -> st.SearchStrategy[bytes]:
    """Good files with a few bytes changed, cut, repeated, or with words of the format put in."""
    kinds = st.sampled_from(["flip", "cut", "drop", "repeat", "word", "number"])
    edit = st.tuples(kinds, st.floats(0, 1), st.integers(1, 255), st.sampled_from(words))
    return st.builds(_mutate, st.sampled_from(files), st.lists(edit, max_size=6))


def _mutate(data: bytes, edits: list[tuple[str, float, int, bytes]]) -> bytes:
    for kind, place, number, word in edits:
        at = int(place * len(data))
        head, tail = data[:at], data[at:]
        match kind:
            case "flip" if tail:
                data = head + bytes([tail[0] ^ number]) + tail[1:]
            case "cut":
                data = head
            case "drop":
                data = head + tail[number:]
            case "repeat":
                data = head + tail[:number] * number + tail
            case "word":
                data = head + word * (1 + number % 3) + tail
            case "number":
                data = head + struct.pack("<I" if number % 2 else ">I", 1 << number % 32) + tail[4:]
    return data


def with_right_sums(png: bytes) -> bytes:
    """A changed PNG with the sums of its chunks made right, so that the change is looked at."""
    out, at = bytearray(png[:8]), 8
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        out += png[at:end] + struct.pack(">I", zlib.crc32(png[at + 4 : end]))
        at = end + 4
    return bytes(out)


def named(path: Path, read: Callable[[], object]) -> object | None:
    """What the reader returns; None after an error that is allowed and names the file."""
    try:
        return read()
    except (ValueError, OSError) as error:
        assert path.name in str(error), f"{error!r} does not name {path.name}"
        return None


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """A picture as the bytes of a file."""
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def tiff(samples: np.ndarray, **options: object) -> bytes:
    """Samples as the bytes of a TIFF."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, **options)
    return stream.getvalue()


# lists, manifests, class tables and other text

NAMES = [b"__", b"__16", b"__0", b"../", b"/etc", b"\r\n", b"\xef\xbb\xbf", b"\n", b"C:\\", b"\xff"]
JSON = [b"1e999", b"[" * 9000, b"null", b"{}", b'"\\ud800"', b"-1", b"NaN", b'"/a"', b'"../x"']
JSON += [b"9" * 5000, b",", b'"', b"true", b"\n", b"[]", b"\xff"]


def _check_list(folder: Path, data: object) -> None:
    path = folder / "fold0.txt"
    path.write_bytes(data)
    for benchmark, published in itertools.product((ISAID, DLRSD), (True, False)):
        read = lists.read_list
        entries = named(path, lambda: read(path, benchmark, "val", published=published))  # noqa: B023
        for entry in entries or []:
            assert 0 <= entry.class_id < 15
            inside = os.path.normpath(benchmark.image_path(folder, "val", entry.name))
            assert Path(inside).is_relative_to(folder)


def _check_manifest(folder: Path, data: object) -> None:
    path = folder / "episodes.jsonl"
    path.write_bytes(data)
    for spec in named(path, lambda: read_manifest(path, ISAID)) or []:
        for entry in (spec.query, *spec.supports):
            inside = os.path.normpath(ISAID.image_path(folder, entry.split, entry.name))
            assert Path(inside).is_relative_to(folder)


def _check_own(folder: Path, data: object) -> None:
    facts, table = folder / FILE, folder / "classes.txt"
    for path in (facts, table):
        path.write_bytes(data)
    benchmark = named(facts, lambda: read_benchmark(folder))
    assert benchmark is None or all(
        benchmark.test_class_ids(f) for f in range(len(benchmark.folds))
    )
    classes = named(table, lambda: read_classes(table))
    assert classes is None or set(classes.values.values()) <= {*range(len(classes.names) + 1), 255}


LIST = b"P1_0_256_0_256__04\nbuildings07__15\na__b__1\n"
EPISODE = {"episode": 0, "split": "val", "label_id": 3, "query": "P1", "supports": ["P2", "P3"]}
MANIFEST = "".join(json.dumps(EPISODE | {"query": f"Q{i}"}) + "\n" for i in range(3)).encode()
OWN = [b'{"class_names": ["a", "b", "c"], "folds": [[0], [1, 2]]}', b"0 background\n1 a\n2 b\n"]
OWN += [b"#000000 background\n#ff0000 roof\n#00ff00 road\n#ffffff ignore\n"]

# constants

PRESETS = REPOSITORY / "configs"
TOML = [path.read_bytes() for path in sorted(PRESETS.glob("*.toml"))]
TOML_WORDS = [
    b"[" * 9000,
    b"a." * 3000,
    b"nan",
    b"inf",
    b"1979-05-27",
    b"9" * 5000,
    b"0x" + b"f" * 5000,
]
TOML_WORDS += [
    b'"',
    b"'''",
    b"\n",
    b"[data]\n",
    b"fold = 1\n",
    b"=",
    b"{}",
    b"-1",
    b"\xff",
    b"[[x]]\n",
]
OPTIONS = [
    f"--{section}.{key}"
    for section, field in config.Config.model_fields.items()
    for key in field.annotation.model_fields
]
VALUES = st.one_of(
    st.sampled_from(
        ["0", "1", "-1", "1,5", "[1, 5]", "nan", "1e999", "9" * 5000, "", "{", "[" * 9000]
    ),
    st.sampled_from(
        ["--config", "--help", "0..4", "none", "true", "null", "=", "best", "calibrated"]
    ),
    st.text(max_size=12),
)


def _check_toml(folder: Path, data: object) -> None:
    path = folder / "constants.toml"
    path.write_bytes(data)
    constants = named(path, lambda: config.load(["--config", str(path)]))
    assert constants is None or config.to_toml(constants)


def _check_words(folder: Path, data: object) -> None:
    words = [word for pair in data for word in pair]
    quiet = io.StringIO()
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            constants = config.load(["--config", str(PRESETS / "demo.toml"), *words])
    except config.ConfigError as error:
        assert str(error)
    except SystemExit as end:  # --help, or argparse on an option without a value
        assert end.code in (0, 2) and quiet.getvalue()
    else:
        config.to_toml(constants)


# images, labels, mask maps

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
IDS = RGB[:, :, 0] % 16
WIDE = RGB.astype(np.uint16) * 200
PALETTE = Image.fromarray(IDS)
PALETTE.putpalette([value for colour in ISAID_PALETTE for value in colour])
COLOURED = Image.fromarray(np.array(ISAID_PALETTE, np.uint8)[IDS])
PICTURES = [
    encoded(Image.fromarray(RGB), kind) for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")
]
PICTURES += [encoded(Image.fromarray(RGB), "JPEG", progressive=True), encoded(PALETTE)]
PICTURES += [encoded(Image.fromarray(RGB).convert("CMYK"), kind) for kind in ("TIFF", "JPEG")]
PICTURES += [encoded(Image.fromarray(RGB), "TIFF", compression=c) for c in ("tiff_lzw", "jpeg")]
PICTURES += [cv2.imencode(suffix, WIDE)[1].tobytes() for suffix in (".png", ".tif")]
PICTURES += [
    tiff(WIDE, photometric="rgb", **how) for how in ({"rowsperstrip": 4}, {"tile": (16, 16)})
]
PICTURES += [tiff(RGB, photometric="rgb", tile=(16, 16), compression="zlib", bigtiff=True)]
PICTURES += [tiff(RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")]
PICTURES += [
    tiff(WIDE.astype(np.float32), photometric="rgb"),
    tiff(np.dstack([RGB, RGB]), photometric="rgb"),
]
LABELS = [encoded(p) for p in (PALETTE, COLOURED, Image.fromarray(IDS))]
LABELS += [encoded(Image.fromarray(IDS.astype(np.uint16))), encoded(COLOURED.convert("RGBA"))]
LABELS += [
    encoded(COLOURED.quantize(8)),
    encoded(Image.fromarray(IDS > 7)),
    encoded(COLOURED, "JPEG"),
]
LABELS += [encoded(Image.fromarray(IDS).convert("LA")), encoded(PALETTE, "TIFF")]
LABELS += [encoded(PALETTE, transparency=3), encoded(Image.fromarray(IDS > 7), "TIFF")]
LABELS += [tiff(IDS.astype(kind), compression="zlib") for kind in ("u2", "i4", "f4", "f8")]
CHUNKS = [b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"acTL", b"iCCP", b"\xff\xd9", b"\xff\xda", b"\0\0"]


def _check_image(folder: Path, data: object) -> None:
    path = folder / "picture.tif"
    for content in (data, with_right_sums(data)):
        path.write_bytes(content)
        image = named(path, lambda: read.read_image(path))
        assert image is None or image.dtype == np.uint8 and image.shape[2:] == (3,) and image.size
        named(path, lambda: read.image_size(path))
        tile = named(path, lambda: _windows(path))
        assert image is None or tile is not None and np.array_equal(tile, image)


def _windows(path: Path) -> np.ndarray:
    with open_raster(path) as scene:
        halves = (0, scene.height // 2), (scene.height // 2, scene.height - scene.height // 2)
        return np.concatenate([scene.read((y, 0, h, scene.width)) for y, h in halves if h])


def _check_label(folder: Path, data: object) -> None:
    path = folder / "label.png"
    for content in (data, with_right_sums(data)):
        path.write_bytes(content)
        for benchmark in (ISAID, DLRSD):
            ids = named(path, lambda: read_label(path, benchmark))  # noqa: B023
            assert ids is None or set(np.unique(ids)) <= set(benchmark.known_label_ids)
        for colours in (True, False):
            values = named(path, lambda: read_values(path, colours=colours))  # noqa: B023
            assert values is None or values.ndim == 2
        for label_id in (None, "all", 7, "#00007f"):
            found = named(path, lambda: read_foreground(path, label_id))  # noqa: B023
            assert found is None or set(np.unique(found)) <= {0, 1, 255}


def _check_map(folder: Path, data: object) -> None:
    store = MaskStore(folder / "maps", {"name": "fuzz"})
    store.save("whole", IDS)
    path = store.path("whole")
    for content in (data, with_right_sums(data)):
        path.write_bytes(content)
        mask_map = named(path, lambda: store.load("whole"))
        assert mask_map is None or mask_map.dtype == np.uint8 and mask_map.ndim == 2
    (folder / "maps" / "manifest.json").write_bytes(data)
    named(Path("manifest.json"), lambda: MaskStore(folder / "maps"))
    (folder / "maps" / "manifest.json").unlink()


# the authors' caches

RLES = [{"size": [4, 5], "counts": [3, 17]}, {"size": [4, 5], "counts": [0, 2, 18]}]
RECORD = {"image": RGB[:4, :5], "label": np.int64(3), "image_size": (4, 5), "masks": RLES}
CACHES = [pickle.dumps(RECORD, protocol) for protocol in (0, 2, 3, 4, 5)]
OPCODES = [
    b"cos\nsystem\n",
    b"r\xff\xff\xff\x7f",
    b"\x94",
    b"h\0",
    b"(",
    b"R",
    b"b",
    b"\x93",
    b"\x81",
]
OPCODES += [
    b"cnumpy\ndtype\n",
    b"]" * 9000,
    b"\x8e" + b"\x7f" * 8,
    b"I" + b"9" * 5000 + b"\n",
    b".",
]
ODD = st.recursive(
    st.none()
    | st.integers()
    | st.floats()
    | st.binary(max_size=9)
    | st.sampled_from([1 << 62, -1]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=8,
)
ODD_RLE = st.fixed_dictionaries({"size": st.lists(st.integers() | ODD, max_size=3), "counts": ODD})
ODD_CACHES = st.builds(pickle.dumps, st.fixed_dictionaries({"masks": st.lists(ODD_RLE) | ODD}))


def _check_cache(folder: Path, data: object) -> None:
    path = folder / "P0001.pkl"
    path.write_bytes(data)
    try:
        mask_map = read_cache(path)
    except ForeignFile as error:  # `convert` puts the name before it
        assert str(error)
    else:
        assert mask_map.dtype == np.uint8 and mask_map.ndim == 2


# layouts of folders

FOLDERS = ["images", "labels", "a", "b", "masks_png", ".ipynb_checkpoints", "__MACOSX", "train"]
STEMS = [
    "x",
    "y",
    "x_mask",
    "x_label",
    "._x",
    "x_instance_color_RGB",
    "x_instance_id_RGB",
    "\u00f6",
]
FILES = st.tuples(
    st.lists(st.sampled_from(FOLDERS), max_size=3),
    st.sampled_from(STEMS),
    st.sampled_from([".png", ".PNG", ".jpg", ".tif", ".txt", ""]),
    st.sampled_from(["file", "file", "file", "link up", "link nowhere", "folder", "store"]),
)
PLACES = [("images", "labels"), (".", "labels"), ("images", "images"), (".", ".")]
LAYOUTS = st.tuples(
    st.lists(FILES, max_size=6),
    st.lists(st.tuples(st.sampled_from(FOLDERS), st.sampled_from(STEMS)), max_size=5),
    st.sampled_from(PLACES) | st.tuples(*[st.sampled_from([".", "images", "labels", "a"])] * 2),
)


def _write_layout(root: Path, files: object) -> None:
    for folders, stem, suffix, kind in files:
        path = root.joinpath(*folders, stem + suffix)
        with contextlib.suppress(OSError):  # a file is in the way
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "folder":
                path.mkdir()
            elif kind == "store":
                (path.parent / "manifest.json").write_text('{"generator": {}}')
            elif kind == "file":
                path.write_bytes(b"")
            else:
                path.symlink_to(root if kind == "link up" else root / "nowhere")


def _check_folders(folder: Path, data: object) -> None:
    """An image and its label share a name, no file has two parts, and nothing hidden has any."""
    files, pairs, (images, labels) = data
    for name, stem in pairs:  # some that belong together
        files = [*files, (["images", name], stem, ".jpg", "file")]
        files = [*files, (["labels" if labels != images else "images", name], stem, ".png", "file")]
    root = folder / "tree"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    _write_layout(root, files)
    found = find_files(root, skip=is_store).images
    assert len({path.resolve() for path in found}) == len(found)
    assert not [p for p in found if any(part[0] == "." for part in p.relative_to(root).parts)]
    try:
        pictures = find_pictures(root / images, root / labels, lambda path: "train", tree=True)[0]
    except ValueError as error:
        assert str(error)
        return
    paths = [path for picture in pictures for path in picture[2:]]
    assert len(set(paths)) == len(paths) and all(path.is_file() for path in paths)
    for picture in pictures:
        assert picture.label.stem.startswith(picture.image.stem)
        assert picture.name.rpartition("/")[2] == picture.image.stem


TARGETS = {
    "folders": Target(LAYOUTS, _check_folders),
    "lists": Target(mutated([LIST], NAMES) | st.binary(max_size=80), _check_list),
    "manifests": Target(mutated([MANIFEST], [*JSON, *NAMES]), _check_manifest),
    "own": Target(mutated(OWN, [*JSON, *NAMES]), _check_own),
    "config": Target(mutated(TOML, TOML_WORDS), _check_toml, 100),
    "words": Target(
        st.lists(st.tuples(st.sampled_from(OPTIONS) | st.text(max_size=9), VALUES), max_size=3),
        _check_words,
        100,
    ),
    "images": Target(mutated(PICTURES, CHUNKS), _check_image),
    "labels": Target(mutated(LABELS, CHUNKS), _check_label),
    "maps": Target(mutated([encoded(Image.fromarray(IDS)), *OWN], [*CHUNKS, *JSON]), _check_map),
    "caches": Target(mutated(CACHES, OPCODES) | ODD_CACHES, _check_cache),
}


def run(target: Target, folder: Path, examples: int, number: int) -> None:
    """Give a target `examples` inputs, the same for the same number."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
    )
    @given(target.inputs)
    def check(data: object) -> None:
        start = time.monotonic()
        target.check(folder, data)
        assert time.monotonic() - start < SLOWEST
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on damaged files
        check()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 if a counterexample was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=120, help="for each target (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="first of the seeds (%(default)s)")
    words = parser.parse_args(argv)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    faulthandler.enable()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name in words.targets or TARGETS:
            end, examples = time.monotonic() + words.seconds, 0
            try:
                for number in itertools.count(words.seed):
                    faulthandler.dump_traceback_later(600, exit=True)  # a hang, with its place
                    run(TARGETS[name], Path(folder), 500, number)
                    examples += 500
                    if time.monotonic() > end:
                        break
                print(f"{name}: {examples} inputs, nothing found", flush=True)
            except Exception as error:  # whatever the reader let through
                failed = True
                print(f"{name}: after {examples} inputs, seed {number}: {error!r}", flush=True)
                print(*getattr(error, "__notes__", []), sep="\n", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
