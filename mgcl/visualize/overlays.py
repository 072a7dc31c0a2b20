"""Single pictures: masks, labels and errors painted over an image, probabilities as heat."""

from functools import lru_cache

import numpy as np

Colour = tuple[int, int, int]

TILE = 256  # long side of a tile, pixels
LABEL = (255, 214, 10)  # truth and support label
PREDICTED = (255, 64, 160)
IGNORED = (150, 150, 150)
HIT, FALSE_ALARM, MISS = (46, 204, 92), (240, 58, 50), (52, 128, 255)


def mask_overlay(image: np.ndarray, mask_map: np.ndarray) -> np.ndarray:
    """Masks over their image: each in a colour fixed by its number, with a light outline.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask_map: (H, W) uint8, 0 = no mask (left as it is, a little darker).

    Returns:
        (H, W, 3) uint8.
    """
    colours = _mask_colours()[mask_map]  # (H, W, 3)
    share = np.where(mask_map > 0, 0.42, 0.25)[..., None]
    mixed = image * (1 - share) + colours * share
    border = _borders(mask_map)[..., None]
    return np.where(border, 0.4 * mixed + 0.6 * 255, mixed).astype(np.uint8)


def enlarge(values: np.ndarray, *, smooth: bool = False, side: int = TILE) -> np.ndarray:
    """(H, W, ...) to a long side of `side`: numbers of things by nearest, the rest smoothly."""
    import cv2

    height, width = values.shape[:2]
    ratio = side / max(height, width)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    soft = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    return cv2.resize(values, size, interpolation=soft if smooth else cv2.INTER_NEAREST)


def outlined(image: np.ndarray, label: np.ndarray, colour: Colour) -> np.ndarray:
    """Tint label 1, grey out 255, and draw the outline of 1, finer in a smaller picture."""
    import cv2

    picture = _tinted(image, label == 1, colour, 0.38)
    picture = _tinted(picture, label == 255, IGNORED, 0.8)
    regions = (label == 1).astype(np.uint8)
    outlines, _ = cv2.findContours(regions, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    thickness = min(3, max(1, round(max(image.shape) / 512)))  # hides no small object
    return cv2.drawContours(picture, outlines, -1, colour, thickness, cv2.LINE_AA)


def errors(image: np.ndarray, guess: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Hits, false alarms and misses over the grey image; 255 in the label does not count."""
    grey = image.mean(axis=2, keepdims=True).repeat(3, axis=2)  # colours speak better on grey
    picture = (40 + 0.7 * grey).astype(np.uint8)
    marked, wanted, counted = guess == 1, label == 1, label != 255
    picture = _tinted(picture, marked & wanted, HIT, 0.62)
    picture = _tinted(picture, marked & ~wanted & counted, FALSE_ALARM, 0.62)
    picture = _tinted(picture, ~marked & wanted, MISS, 0.62)
    return _tinted(picture, ~counted, IGNORED, 0.8)


def _tinted(image: np.ndarray, where: np.ndarray, colour: Colour, share: float) -> np.ndarray:
    picture = image.copy()  # only the pixels in question are computed: the image may be large
    picture[where] = (image[where] * (1 - share) + np.array(colour) * share).astype(np.uint8)
    return picture


def heat(probability: np.ndarray) -> np.ndarray:
    """(H, W) in [0, 1] -> (H, W, 3), dark to bright."""
    import cv2

    levels = np.round(255 * np.nan_to_num(probability).clip(0, 1)).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1])


def _borders(mask_map: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels whose right or lower neighbour has another number."""
    border = np.zeros(mask_map.shape, bool)
    border[:, :-1] |= mask_map[:, :-1] != mask_map[:, 1:]
    border[:-1] |= mask_map[:-1] != mask_map[1:]
    return border


@lru_cache(maxsize=1)
def _mask_colours() -> np.ndarray:
    """(256, 3): neighbours in number are far apart in hue; number 0 is black."""
    import cv2

    numbers = np.arange(256)
    hue = (numbers * 0.618034 % 1 * 180).astype(np.uint8)
    value = 255 - 45 * (numbers % 3)
    hsv = np.stack([hue, np.full(256, 200), value], axis=1).astype(np.uint8)
    colours = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0].astype(float)
    colours[0] = 0
    return colours


def readable(colour: Colour) -> Colour:
    """A colour dark enough for words on white."""
    light = (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) / 255
    r, g, b = (round(c * min(1.0, 0.52 / light)) for c in colour)
    return r, g, b
