"""Which of the files that a user has is an image, and which label belongs to it."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from mgcl.datasets.benchmarks import SPLITS
from mgcl.datasets.prepare.tiles import LABEL_SUFFIX, Picture, image_name
from mgcl.images.read import SUFFIXES

INSTANCES = "_instance_id_RGB"  # iSAID's other label files, which hold no classes
TEST = "test"  # iSAID's third split, whose labels are not published


class Sources(NamedTuple):
    """The images with their labels, and what was found besides."""

    pictures: list[Picture]
    left_out: list[str]
    """In words, with a count each."""


def find_pictures(images: Path, labels: Path, split_of: Callable[[Path], str]) -> Sources:
    """Pair every image below a folder with its label below another, by split and name.

    Raises:
        ValueError: no image, an image without label, or two files of the same split and name.
    """
    suffixed_last = sorted(_files(labels), key=lambda p: p.stem.endswith(LABEL_SUFFIX))
    by_name = {(split_of(p), image_name(p)): p for p in suffixed_last}
    found = [p for p in _files(images) if p.stem == image_name(p)]
    plain = [Picture(split_of(p), p.stem, p, Path()) for p in found]
    pictures = [p for p in plain if p.split in SPLITS]
    if not pictures:
        raise ValueError(f"no image below {images}")
    missing = [p for p in pictures if p[:2] not in by_name]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(pictures)} images have no label below {labels}, the first is "
            f"{missing[0].image}: a label is NAME.png or NAME{LABEL_SUFFIX}.png"
        )
    twice = [key for key, count in Counter(p[:2] for p in pictures).items() if count > 1]
    if twice:
        raise ValueError(f"two images of {twice[0][0]} have the name {twice[0][1]}: rename one")
    with_label = [p._replace(label=by_name[p[:2]]) for p in pictures]
    lonely = [by_name[key] for key in by_name.keys() - {p[:2] for p in plain}]
    left_out = _some([p.image for p in plain if p.split == TEST], "images in a folder test")
    left_out += _some(lonely, "labels without an image") + _other_files({images, labels})
    return Sources(with_label, left_out)


def split_of_folder(path: Path) -> str:
    """The split of a file: the innermost folder named train, val or test."""
    for part in reversed(path.parts[:-1]):
        if part in (*SPLITS, TEST):
            return part
    raise ValueError(f"{path} lies in no folder train or val: iSAID's images come in these two")


def _files(folder: Path) -> list[Path]:
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(p for p in found if not p.stem.endswith(INSTANCES) and not _hidden(p))


def _hidden(path: Path) -> bool:
    """As macOS and editors leave: ._P0001.png."""
    return path.name.startswith(".")


def _other_files(folders: Iterable[Path]) -> list[str]:
    others = {p for folder in folders for p in folder.rglob("*") if p.is_file()}
    kinds = Counter(
        INSTANCES + p.suffix if p.stem.endswith(INSTANCES) else p.suffix or p.name
        for p in others
        if p.suffix.lower() not in SUFFIXES or p.stem.endswith(INSTANCES) or _hidden(p)
    )
    named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(8))
    return [f"other files: {named}"] if kinds else []


def _some(paths: list[Path], what: str) -> list[str]:
    return [f"{len(paths)} {what}, the first is {min(paths)}"] if paths else []
