"""What a user gives as supports: pairs of files, a folder for each class, or a TOML file.

    [[classes]]
    name = "ship"
    colour = "#ff40a0"                                   # may be left out
    supports = [
        {image = "a.tif", label = "a.geojson"},          # or a label picture, or labelme's JSON
        {image = "b.png", label = "b.png", label_id = 3},
        {image = "empty.tif"},                           # without a label: it shows no ship
    ]

Paths are relative to the file. This is also what the page writes.
"""

import os
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mgcl import console
from mgcl.files import read_text, write_text
from mgcl.images.read import SUFFIXES as IMAGES
from mgcl.predict import vectors
from mgcl.predict.inputs import LABEL_ENDINGS, LABEL_FOLDERS
from mgcl.predict.maps import Colour, colour_of
from mgcl.predict.vectors import is_vector

ONE_CLASS = "found"  # name of the class where nobody gave one


class Section(BaseModel):
    """A table of the file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)


class Given(Section):
    """An image and what marks the class in it."""

    image: Path
    """Any raster."""
    label: Path | None = None
    """A picture of its size, or a vector file; None: the image does not show the class."""
    label_id: int | Annotated[str, Field(pattern="^(#[0-9a-fA-F]{6}|all)$")] | None = None
    """The class in a label picture: an id, a colour or all; None: the one that it holds."""
    field: str | None = None
    """The attribute of a vector file that holds the class."""


class ClassOf(Section):
    """A class and its supports."""

    name: Annotated[str, Field(min_length=1)]
    """Also that of its features in vector files; if none has it, all are meant."""
    colour: Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")] | None = None
    """In maps and pictures."""
    label_id: int | None = None
    """Its id in label pictures that are not told another."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The probability over which a pixel is of the class; None: as for all."""
    supports: list[Given] = []
    """At least one that shows the class."""
    negatives: list[Given] = []
    """Images that do not show it; where they have a label, what that marks does not."""


class Supports(Section):
    """All classes that are searched in one run."""

    classes: Annotated[list[ClassOf], Field(max_length=254)] = []
    """Each pixel goes to one of them, or to none."""
    negatives: list[Given] = []
    """Images that show none of the classes; where they have a label, what it marks does not."""
    mixed: list[Given] = []
    """Vector files whose attribute names the class of each feature."""
    constants: dict[str, float | int | str] = {}
    """Options of `mgcl.predict` that the command line does not give: window, threshold, ..."""

    def colours(self, names: Sequence[str]) -> list[Colour]:
        """Of the classes of these names."""
        given = {c.name: c.colour for c in self.classes if c.colour}
        return [
            _rgb(given[name]) if name in given else colour_of(number)
            for number, name in enumerate(names, start=1)
        ]

    def thresholds(self, names: Sequence[str], usual: float) -> tuple[float, ...]:
        """Of the classes of these names; `usual` of those that have none of their own."""
        own = {c.name: c.threshold for c in self.classes if c.threshold is not None}
        return tuple(own.get(name, usual) for name in names)

    def all_given(self) -> list[Given]:
        """Of all classes, in the order of the file."""
        of_classes = [given for c in self.classes for given in (*c.supports, *c.negatives)]
        return [*of_classes, *self.mixed, *self.negatives]

    def files(self) -> list[Path]:
        """All files that are read."""
        given = self.all_given()
        return [path for g in given for path in (g.image, g.label) if path is not None]


def _rgb(colour: str) -> Colour:
    number = int(colour[1:], 16)
    return number >> 16, number >> 8 & 255, number & 255


def of_pairs(
    pairs: Iterable[tuple[Path, Path]], *, label_id: int | str | None, field: str | None
) -> Supports:
    """One class marked in label pictures, or those that the features of vector files name."""
    pictures, mixed = [], []
    for image, label in pairs:
        if is_vector(label):
            mixed.append(Given(image=image, label=label, field=field))
        else:
            pictures.append(Given(image=image, label=label, label_id=label_id))
    name = ONE_CLASS if label_id in (None, "all") else f"id {label_id}"
    classes = [ClassOf(name=name, supports=pictures)] if pictures else []
    return Supports(classes=classes, mixed=mixed)


def read_supports(path: Path) -> Supports:
    """Supports of a TOML file or of a folder of folders.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: it is not what it should be; the message says where.
    """
    if path.is_dir():
        return read_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"no supports {path.absolute()}: a TOML file or a folder")
    try:
        found = Supports(**tomllib.loads(read_text(path)))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path}: {where}: {first['msg'].lower()}") from None
    empty = [c.name for c in found.classes if not c.supports]
    if empty and len(empty) < len(found.classes):
        console.warn(f"{path}: left out, without supports: {', '.join(empty)}")
        named = [c for c in found.classes if c.supports]
        found = found.model_copy(update={"classes": named})
    return checked(_below(found, path.parent), path)


def checked(found: Supports, path: Path) -> Supports:
    """The same, if it can be searched for.

    Raises:
        ValueError: no class, one that is never shown, or two of one name.
    """
    names = [c.name for c in found.classes]
    if not names and not found.mixed:
        raise ValueError(f"{path} holds no class")
    for c in found.classes:
        if not any(given.label for given in c.supports):
            raise ValueError(f"{path}: no support of {c.name} has a label")
        if names.count(c.name) > 1:
            raise ValueError(f"{path}: two classes are called {c.name}")
    return found


def _below(found: Supports, folder: Path) -> Supports:
    """With paths as seen from here."""

    def moved(given: Sequence[Given]) -> list[Given]:
        return [
            g.model_copy(
                update={"image": folder / g.image, "label": folder / g.label if g.label else None}
            )
            for g in given
        ]

    classes = [
        c.model_copy(update={"supports": moved(c.supports), "negatives": moved(c.negatives)})
        for c in found.classes
    ]
    negatives, mixed = moved(found.negatives), moved(found.mixed)
    return found.model_copy(update={"classes": classes, "negatives": negatives, "mixed": mixed})


def write_supports(path: Path, supports: Supports) -> None:
    """Write a TOML file that `read_supports` reads; paths below its folder become relative."""
    import tomli_w

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items() if v is not None and v != []}
        if isinstance(value, list):
            return [plain(v) for v in value]
        return os.path.relpath(value, path.parent) if isinstance(value, Path) else value

    write_text(path, tomli_w.dumps(plain(supports.model_dump())))


def read_folder(folder: Path) -> Supports:
    """A subfolder a class: its images with labels beside them, in folders, or in vector files.

    The label of NAME.tif is NAME.geojson (or another vector file), NAME_label.png or NAME_mask.png
    beside it, or NAME.png in a folder `labels` or `masks` (images then lie in `images` or beside
    it). Images in a folder `not` of a class do not show it; those of a class called `not` or
    `background` show none. Projects of the page are passed over.

    Raises:
        ValueError: no subfolder, or an image without a label.
    """
    classes, negatives = [], []
    for part in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        if part.name.startswith("mgcl-page") or (part / "project.toml").exists():
            continue  # the page's
        if part.name.casefold() in vectors.BACKGROUND:
            negatives += [Given(image=path) for path in _images(part)]
            continue
        supports = [Given(image=image, label=label) for image, label in _labelled(part)]
        for name in vectors.BACKGROUND:
            supports += [Given(image=path) for path in _images(part / name)]
        classes.append(ClassOf(name=part.name, supports=supports))
    if not classes:
        raise ValueError(f"{folder} has no subfolders: one for each class, named like it")
    return checked(Supports(classes=classes, negatives=negatives), folder)


def _labelled(folder: Path) -> list[tuple[Path, Path]]:
    labels: dict[str, list[Path]] = {}
    images = _images(folder) + _images(folder / "images")
    for path in _files(folder) + [f for name in LABEL_FOLDERS for f in _files(folder / name)]:
        inside = path.parent.name in LABEL_FOLDERS and path.parent != folder
        stem = next((path.stem.removesuffix(e) for e in LABEL_ENDINGS if path.stem.endswith(e)), "")
        if inside or is_vector(path) or stem:
            labels.setdefault(stem or path.stem, []).append(path)
    used = {path for paths in labels.values() for path in paths}
    pairs = []
    for image in images:
        if image in used:
            continue
        found = labels.pop(image.stem, [])
        if len(found) != 1:
            how = (
                f"{len(found)} labels ({', '.join(p.name for p in found)})" if found else "no label"
            )
            raise ValueError(
                f"{image} has {how}: give one, {image.stem}.geojson or {image.stem}_label.png "
                "beside it, or one of its name in a folder labels"
            )
        pairs.append((image, found[0]))
    if labels:
        alone = next(iter(labels.values()))[0]
        raise ValueError(f"{alone} labels no image: there is none called {alone.stem} in {folder}")
    return pairs


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    known = (*IMAGES, *vectors.SUFFIXES)
    return sorted(
        p
        for p in folder.iterdir()
        if p.is_file() and p.suffix.lower() in known and not p.name.startswith(".")
    )


def _images(folder: Path) -> list[Path]:
    return [path for path in _files(folder) if path.suffix.lower() in IMAGES]
