"""What a label of one class marks, whatever kind of file it is."""

import os

import numpy as np

from mgcl import console
from mgcl.datasets.labels import colour_codes, listed, soft_drawing, stored_ids
from mgcl.images.stored import Stored, read_stored

MOST_CLASSES = 64  # a label of more ids or colours is taken for a photograph


def read_foreground(path: str | os.PathLike[str], label_id: int | str | None = None) -> np.ndarray:
    """A label file as (H, W) uint8: 1 = the class, 0 = anything else, 255 = ignored.

    Args:
        path: a file of ids (grey or palette) or of colours, or a drawing in one colour.
        label_id: an id, beside which 255 is ignored; a colour "#00007f"; "all" that is not 0
            (black); None: the one id or colour that there is beside 0 (black) and what is
            transparent. White drawn on black may have soft edges, or be a JPEG (with a warning).

    Raises:
        ValueError: a file that cannot be read; that holds no ids where one is asked for, or not
            that one; several ids or colours without a word which is meant; a photograph.
    """
    stored = read_stored(path)
    if isinstance(label_id, int):
        values = stored_ids(path, stored)
        _refuse_absent(path, values, label_id, colours=False)
        return np.where(values == label_id, 1, np.where(values == 255, 255, 0)).astype(np.uint8)
    if label_id not in (None, "all"):
        wanted, codes = int(str(label_id).removeprefix("#"), 16), colour_codes(path, stored)
        _refuse_absent(path, codes, wanted, colours=True)
        return (codes == wanted).astype(np.uint8)
    return _drawn(path, stored, every=label_id == "all")


def _refuse_absent(
    path: str | os.PathLike[str], values: np.ndarray, wanted: int, *, colours: bool
) -> None:
    if not (values == wanted).any():
        word = f"colour #{wanted:06x}" if colours else f"id {wanted}"
        raise ValueError(
            f"label {path} has no pixel of the {word}: it holds {listed(values, colours=colours)}"
        )


def _drawn(path: str | os.PathLike[str], stored: Stored, *, every: bool) -> np.ndarray:
    """What a label marks that does not say by which id."""
    soft = soft_drawing(stored)
    if soft is not None:
        if stored.lossy:
            console.warn(f"label {path} is packed with losses: taken is what is nearer to white")
        return soft.astype(np.uint8)
    in_colours = stored.colours is not None or stored.palette is not None
    values = colour_codes(path, stored) if in_colours else stored_ids(path, stored)
    marked = background = np.zeros(values.shape, np.bool_)
    opaque = np.ones(values.shape, np.bool_) if stored.opaque is None else stored.opaque
    if not opaque.all() and len(np.unique(values[opaque])) == 1:
        marked = opaque  # a layer: whatever its colour, black too
    else:
        background = values == 0
        if stored.palette is not None and not background.any() and stored.values is not None:
            background = stored.values == 0
        marked = opaque & ~background
    found = values[marked]
    if not every and len(np.unique(found)) > 1:
        raise ValueError(_several(path, found, in_colours))
    return marked.astype(np.uint8)


def _several(path: str | os.PathLike[str], found: np.ndarray, in_colours: bool) -> str:
    kinds, count = ("colours" if in_colours else "ids"), len(np.unique(found))
    words = f"label {path} holds {count} {kinds} beside the background"
    if count > MOST_CLASSES and (in_colours or found.max() <= 255):
        return f"{words}: is it a photograph? A label has one {kinds[:-1]} a class"
    named = listed(found, colours=in_colours)
    return (
        f"{words}: {named}. Name the one that is meant (--label-id), or take all of them for one "
        "class (--label-id all)"
    )
