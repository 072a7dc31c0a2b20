"""Overlapping windows over an image of any size, and the weights that blend what they give."""

import numpy as np


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Where the windows begin along one axis: evenly spaced, the last flush with the border.

    Args:
        length: of the axis, pixels; one window stands for a shorter one, too.
        window: of a window, pixels.
        overlap: least share of a window that the next one covers again, 0 <= overlap < 1.
    """
    if length <= window:
        return [0]
    steps = int(np.ceil((length - window) / max(1.0, window * (1 - overlap))))
    return np.linspace(0, length - window, steps + 1).round().astype(int).tolist()


def weights(begins: list[int], window: int) -> np.ndarray:
    """Raised-cosine weights of windows along one axis: -> (windows, window) float32.

    At every place the weights of the windows over it sum to one: a window fades out as its
    neighbour fades in, and where it is alone its weight is exactly 1.
    """
    bump = np.sin(np.pi * (np.arange(window) + 0.5) / window) ** 2
    total = np.zeros(begins[-1] + window)
    for begin in begins:
        total[begin : begin + window] += bump
    return np.stack([bump / total[b : b + window] for b in begins]).astype(np.float32)


def cut(picture: np.ndarray, y: int, x: int, window: int) -> np.ndarray:
    """The window at (y, x) of (H, W, ...): -> (window, window, ...); a smaller picture mirrored."""
    part = np.asarray(picture[y : y + window, x : x + window])
    missing = [(0, window - length) for length in part.shape[:2]]
    if not any(after for _, after in missing):
        return part
    return np.pad(part, missing + [(0, 0)] * (part.ndim - 2), mode="symmetric")


def around_objects(foreground: np.ndarray, window: int) -> tuple[int, int]:
    """Where to cut a window out of a labelled picture: (y, x) of its corner.

    Objects that fit into one window come to lie in its middle. Of others, the window holds as much
    as a window can, but need not be more than half full: the background is an example as well. Then
    it is centred on the foreground that it holds.

    Args:
        foreground: (H, W) bool, not empty.
        window: side in pixels; (0, 0) where the picture is not larger.
    """
    height, width = foreground.shape
    top, bottom, left, right = _box(foreground)
    if max(bottom - top, right - left) > window:
        tops, lefts = (starts(length, window, 0.875) for length in (height, width))
        held = _held(foreground, tops, lefts, window)
        best = np.argmax(np.minimum(held, (window**2 + 1) // 2))
        row, column = np.unravel_index(best, held.shape)
        y, x = tops[row], lefts[column]
        top, bottom, left, right = _box(foreground[y : y + window, x : x + window])
        top, bottom, left, right = y + top, y + bottom, x + left, x + right
    return (
        _centred((top + bottom) // 2, window, height),
        _centred((left + right) // 2, window, width),
    )


def _box(foreground: np.ndarray) -> tuple[int, int, int, int]:
    """First and past the last row, first and past the last column that hold foreground."""
    rows, columns = (np.flatnonzero(foreground.any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _held(foreground: np.ndarray, tops: list[int], lefts: list[int], window: int) -> np.ndarray:
    """Foreground pixels in every window of a grid, (len(tops), len(lefts))."""
    rows = np.stack([foreground[top : top + window].sum(axis=0) for top in tops])  # (rows, W)
    return np.stack([rows[:, left : left + window].sum(axis=1) for left in lefts], axis=1)


def _centred(middle: int, window: int, length: int) -> int:
    return int(np.clip(middle - window // 2, 0, max(0, length - window)))
