"""Which of the files that a user has is an image, and which label belongs to it."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from mgcl.datasets.benchmarks import SPLITS, check_name
from mgcl.datasets.prepare.tiles import LABEL_SUFFIX, Picture, image_name
from mgcl.images.find import Found, find_files
from mgcl.images.read import SUFFIXES
from mgcl.masks.store import is_store

INSTANCES = "_instance_id_RGB"  # iSAID's other label files, which hold no classes
TEST = "test"  # iSAID's third split, whose labels are not published

# Folders that say what the files in them are, and endings that say of a file that it is a label.
_MORE = r"([_-]?(png|jpe?g|tiff?|dir|masks?|labels?|images?|\d+))*"
_IMAGES = re.compile(rf"(images?|imgs?|pictures?|photos?|rgb|jpegimages){_MORE}", re.IGNORECASE)
_LABELS = re.compile(
    rf"(labels?|masks?|annotations?|ann|gts?|ground_?truths?|(semantic|segmentation)\w*){_MORE}",
    re.IGNORECASE,
)
_ENDING = re.compile(r"[_-](labels?|masks?|gt|seg|annotations?)$", re.IGNORECASE)


class Pairs(NamedTuple):
    """The images with their labels, and what was found besides."""

    pictures: list[Picture]
    left_out: list[str]
    """In words, with a count each."""


def tree_name(path: Path, root: Path) -> str:
    """The path below a root, without suffix and without folders such as "images" or "masks_png"."""
    folders = path.relative_to(root).parts[:-1]
    kept = [part for part in folders if not (_IMAGES.fullmatch(part) or _LABELS.fullmatch(part))]
    return "/".join([*kept, image_name(path)])


def find_pictures(
    images: Path, labels: Path, split_of: Callable[[Path], str], *, tree: bool = False
) -> Pairs:
    """Pair every image below a folder with its label below another, or below the same.

    Args:
        images: folder with the images.
        labels: folder with the labels; it may lie in the other, or be the same.
        split_of: the split of a file.
        tree: names are paths below the folders, as one's own have them; the published benchmarks'
            are those of the files, and a label lies in the split of its image.

    Raises:
        ValueError: no image, an image without label or with two, or two images of a name.
    """
    found = [find_files(root, skip=is_store) for root in (images, labels)]
    image_files, label_files = _by_role(images, labels, *([*map(_of_use, found)]))

    def key(path: Path, root: Path) -> tuple[str, str]:
        return ("", tree_name(path, root)) if tree else (split_of(path), image_name(path))

    for path in image_files:
        check_name(key(path, images)[1])
    plain = [Picture(split_of(p), key(p, images)[1], p, Path()) for p in image_files]
    pictures = [p for p in plain if p.split in SPLITS]
    if not pictures:
        raise ValueError(f"no image below {images.absolute()}")
    label_of = _LabelFiles([(key(p, labels), p) for p in label_files]).of
    paired = [p._replace(label=label_of(p.image, key(p.image, images))) for p in pictures]
    missing = [p for p in paired if p.label == Path()]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(pictures)} images have no label below {labels.absolute()}, "
            f"the first is {missing[0].image}: a label is called as its image, or NAME_label, "
            f"NAME_mask, NAME{LABEL_SUFFIX}, and is one of {' '.join(SUFFIXES)}"
        )
    _check_once(paired)
    test = {p.name: p.image for p in plain if p.split == TEST}
    left = set(label_files) - {p.label for p in paired}
    lonely = [p for p in left if key(p, labels)[1] not in test]
    left_out = _some([*test.values()], "images in a folder test")
    left_out += _some(lonely, "labels without an image") + _other_files(found)
    return Pairs(paired, [*left_out, *dict.fromkeys(w for f in found for w in f.passed_over)])


def split_of_folder(path: Path) -> str:
    """The split of a file: the innermost folder named train, val or test."""
    for part in reversed(path.parts[:-1]):
        if part in (*SPLITS, TEST):
            return part
    raise ValueError(f"{path} lies in no folder train or val: iSAID's images come in these two")


def _of_use(found: Found) -> list[Path]:
    return [p for p in found.images if not p.stem.endswith(INSTANCES)]


def _by_role(
    images: Path, labels: Path, below_images: list[Path], below_labels: list[Path]
) -> tuple[list[Path], list[Path]]:
    """Which files are images, which are labels, where one folder may hold the other or be it."""
    one, other = (Path(os.path.realpath(folder)) for folder in (images, labels))
    if one == other:
        below_labels = [p for p in below_images if _is_label(p, images)] or _twins(below_images)
        if not below_labels and below_images:
            raise ValueError(
                f"images and labels are in the same folder, {images.absolute()}, and nothing says "
                "which is which: put the labels into a folder labels, call them NAME_label.png, "
                "or name their folder with --labels"
            )
    elif one.is_relative_to(other):
        below_labels = [p for p in below_labels if not _lies_in(p, one)]
    labelled = set(below_labels) if one == other else set()
    if other.is_relative_to(one) and one != other:
        below_images = [p for p in below_images if not _lies_in(p, other)]
    below_images = [p for p in below_images if p not in labelled and p.stem == image_name(p)]
    return below_images, below_labels


def _lies_in(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path.parent)).is_relative_to(folder)


def _is_label(path: Path, root: Path) -> bool:
    folders = path.relative_to(root).parts[:-1]
    named = path.stem.endswith(LABEL_SUFFIX) or _ENDING.search(path.stem)
    return bool(named) or any(_LABELS.fullmatch(part) for part in folders)


def _twins(files: Sequence[Path]) -> list[Path]:
    """PNGs beside an image of the same name and of another kind, as labelme exports them."""
    kinds: dict[Path, set[str]] = defaultdict(set)
    for path in files:
        kinds[path.with_suffix("")].add(path.suffix.lower())
    return [p for p in files if p.suffix.lower() == ".png" and len(kinds[p.with_suffix("")]) == 2]


class _LabelFiles:
    """Labels by the name of the image that they belong to."""

    def __init__(self, files: Iterable[tuple[tuple[str, str], Path]]) -> None:
        self._exact: list[dict[tuple[str, str], list[Path]]] = [defaultdict(list) for _ in range(3)]
        self._stems: dict[tuple[str, str], list[Path]] = defaultdict(list)
        suffixed, same, ended = self._exact  # in the order in which they are asked
        for (split, name), path in files:
            (suffixed if path.stem.endswith(LABEL_SUFFIX) else same)[split, name].append(path)
            if _ENDING.search(name):
                ended[split, _ENDING.sub("", name)].append(path)
            self._stems[split, _ENDING.sub("", _stem(name))].append(path)

    def of(self, image: Path, key: tuple[str, str]) -> Path:
        """The label of an image, `Path()` if there is none.

        Where only the labels or only the images lie in folders, the files' names decide.

        Raises:
            ValueError: there are two.
        """
        split, name = key
        tries = [(table, name) for table in self._exact]
        tries += [(table, _stem(name)) for table in self._exact] if "/" in name else []
        tries += [(self._stems, name)] if "/" not in name else []
        for table, wanted in tries:
            found = table.get((split, wanted), [])
            if len(found) > 1:
                raise ValueError(
                    f"image {image} has two labels, {found[0]} and {found[1]}: keep one"
                )
            if found:
                return found[0]
        return Path()


def _stem(name: str) -> str:
    return name.rpartition("/")[2]


def _check_once(pictures: Sequence[Picture]) -> None:
    """No two images of a name, no label for two."""
    owner: dict[object, Path] = {}
    for picture in pictures:
        for what in (picture[:2], picture.label):
            other = owner.setdefault(what, picture.image)
            if other != picture.image:
                shared = what if isinstance(what, Path) else f"the name {picture.name}"
                raise ValueError(f"{other} and {picture.image} would share {shared}: rename one")


def _other_files(found: Iterable[Found]) -> list[str]:
    others = {p for part in found for p in part.others}
    others |= {p for part in found for p in part.images if p.stem.endswith(INSTANCES)}
    kinds = Counter(
        INSTANCES + p.suffix if p.stem.endswith(INSTANCES) else p.suffix or p.name for p in others
    )
    named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(8))
    return [f"other files: {named}"] if kinds else []


def _some(paths: list[Path], what: str) -> list[str]:
    return [f"{len(paths)} {what}, the first is {min(paths)}"] if paths else []
