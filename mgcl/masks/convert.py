"""The authors' mask caches into a mask store: `python -m mgcl.masks.convert FOLDER --to FOLDER`.

Their program keeps a pickle an image: a dict whose "masks" is a list of run-length encodings, the
largest first. Pickles can run code when loaded; these are read by an unpickler that admits numbers,
strings and plain containers, passes over numpy arrays, and refuses everything else untouched.
"""

import sys

from mgcl import console

if __name__ == "__main__":  # before the imports that take a second
    sys.exit(console.run("mgcl.masks.convert"))

import argparse
import functools
import io
import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mgcl.masks.mask_map import merge_masks
from mgcl.masks.store import MANIFEST, MaskStore
from mgcl.workers import in_processes

SPEC = {"name": "authors' cache", "format": "sam_mask pickles, RLE"}
_MEMORY_A_BYTE, _MEMORY_SPARE = 64, 1 << 28  # what a pickle may take, by its length, in bytes
_MOST_PIXELS = 1 << 31  # of all masks of a file, a byte each while they are painted
_ALLOWED = {
    ("_codecs", "encode"),  # how protocol 2 spells bytes
    *(("numpy", name) for name in ("ndarray", "dtype")),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


class ForeignFile(ValueError):
    """A file that is no mask cache of the authors', or a torn one."""


class _Ignored:
    """Stands for every numpy array and number: the masks hold none, so none is made."""

    def __init__(self, *_: object) -> None:
        """Take what the array would be made of."""

    def __setstate__(self, _: object) -> None:
        """Take what it would hold."""


class _PlainUnpickler(pickle.Unpickler):
    """Numbers, strings and containers; nothing of the file's choice is looked up or called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _Ignored
        raise ForeignFile(f"it holds {module}.{name}, which a mask cache has no use for: refused")


def read_cache(path: str | os.PathLike[str]) -> np.ndarray:
    """Mask map (H, W) uint8 of one of the authors' pickles.

    Raises:
        ForeignFile: torn, hostile, or something else; the message says why.
    """
    try:
        masks = _unpickle(Path(path).read_bytes())["masks"]
        if not masks:
            raise ForeignFile(
                "it holds no mask, as of a picture of one colour, and so no size of the picture "
                "either: let main_0_extract_masks.py cut that picture, or leave it out of the lists"
            )
        pixels = [_size(mask)[0] * _size(mask)[1] for mask in masks]
        if sum(pixels) > _MOST_PIXELS:
            raise ForeignFile(f"{len(masks)} masks of {max(pixels):,} pixels: too large")
        return merge_masks(np.stack([decode_rle(mask) for mask in masks]))
    except ForeignFile:
        raise
    except Exception as error:  # torn bytes can raise anything; no code of the file has run
        raise ForeignFile(f"torn or no mask cache ({type(error).__name__}: {error})") from None


def _unpickle(data: bytes) -> Any:
    with _memory_limit(_MEMORY_A_BYTE * len(data) + _MEMORY_SPARE):
        return _PlainUnpickler(io.BytesIO(data)).load()


@contextmanager
def _memory_limit(more: int) -> Iterator[None]:
    """Let this process take at most `more` bytes more: five bytes of a pickle can ask for 32 GB."""
    pages = Path("/proc/self/statm")
    if not pages.exists():  # only Linux says what it uses and keeps to the limit
        yield
        return
    try:
        import resource
    except ImportError:
        yield
        return
    limits = resource.getrlimit(resource.RLIMIT_AS)
    now = int(pages.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    least = min([now + more, *(x for x in limits if x != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_AS, (least, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def decode_rle(rle: Mapping[str, Any]) -> np.ndarray:
    """Run lengths, zeros first, down the columns -> (H, W) bool."""
    height, width = _size(rle)
    counts = rle["counts"]
    if type(counts) is not list or not all(type(count) is int for count in counts):
        raise ForeignFile("the runs of a mask are no list of numbers")
    if sum(counts) != height * width or min(counts) < 0:
        raise ForeignFile(f"runs of {sum(counts)} pixels in a mask of {height} x {width}")
    runs = np.array(counts, np.int64)
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _size(rle: Mapping[str, Any]) -> tuple[int, int]:
    height, width = rle["size"]
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        raise ForeignFile("the size of a mask is no pair of numbers from 1")
    return height, width


def convert(
    source: str | os.PathLike[str], root: str | os.PathLike[str], *, workers: int
) -> tuple[int, int, dict[Path, str]]:
    """Convert every pickle below `source` that has no good map in `root` yet.

    A map's key is the pickle's path below `source`, without the folder of the authors' settings
    (sam_mask_...) and the suffix: "train/NAME" for iSAID-5i, "NAME" for DLRSD-5i.

    Returns:
        Maps made, maps that were there, and the files left out with the reason.

    Raises:
        ValueError: no pickles there, or `root` holds maps of another kind.
        OSError: the disk is full, or a process was killed; a further run goes on.
    """
    folder = Path(source)
    keys = {_key(path, folder): path for path in sorted(folder.rglob("*.pkl"))}
    if not keys:
        raise ValueError(f"no mask caches (*.pkl) in {folder.absolute()}")
    store = MaskStore(root, SPEC)
    store.remove_leftovers({*keys, MANIFEST})
    todo = {k: path for k, path in keys.items() if k not in store or store.problem(k)}
    left_out: dict[Path, str] = {}
    work = functools.partial(_convert_one, store)
    done = in_processes(work, todo.items(), processes=workers, at_once=8)
    bar = console.progress(done, total=len(todo), unit="image")
    for path, problem in zip(todo.values(), bar, strict=True):
        if problem:
            left_out[path] = problem
            console.warn(f"left out: {path}: {problem}")
    return len(todo) - len(left_out), len(keys) - len(todo), left_out


def _convert_one(store: MaskStore, item: tuple[str, Path]) -> str | None:
    """The reason where a file is left out."""
    key, path = item
    try:
        store.save(key, read_cache(path))
    except ForeignFile as error:
        return str(error)
    return None


def _key(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return "/".join(part for part in parts if not part.startswith("sam_mask_"))


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0: all converted; 1: files were left out, or none are there."""
    parser = argparse.ArgumentParser(
        prog=console.called("python -m mgcl.masks.convert"), description=__doc__
    )
    parser.add_argument(
        "folder", type=Path, help="folder with the authors' pickles, searched below"
    )
    parser.add_argument("--to", type=Path, required=True, help="folder of the new mask store")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    console.add_quiet(parser)
    words = parser.parse_args(argv)
    console.set_quiet(words.quiet)
    try:
        made, found, left_out = convert(words.folder, words.to, workers=words.workers)
    except (ValueError, OSError) as error:
        console.fail(error)
        return console.WRONG
    console.say(f"{made} made, {found} were there, {len(left_out)} left out -> {words.to}")
    return 1 if left_out else 0
