"""Small scenes of squares on noisy ground, and sessions over them."""

import time
from pathlib import Path

import numpy as np
from PIL import Image

from mgcl.page.session import Session

COLOURS = {"red": (220, 40, 60), "blue": (40, 60, 210)}
GROUND = (70, 120, 60)
SIDE = 128


def paint(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> tuple[np.ndarray, np.ndarray]:
    """Noisy ground with a red and a blue square a tile: (H, W, 3) and ids 1 red, 2 blue."""
    rng = np.random.default_rng(seed)
    image = np.tile(np.array(GROUND, float), (*size, 1))
    label = np.zeros(size, np.uint8)
    for top in range(0, size[0] - SIDE + 1, SIDE):
        for left in range(0, size[1] - SIDE + 1, SIDE):
            for number, colour in enumerate(COLOURS.values(), start=1):
                side = int(rng.integers(28, 40))
                y = top + int(rng.integers(4, SIDE - side - 4))
                x = left + int(rng.integers(0, 64 - side)) + 64 * (number - 1)
                image[y : y + side, x : x + side] = colour
                label[y : y + side, x : x + side] = number
    return (image + rng.normal(0, 6, image.shape)).clip(1, 255).astype(np.uint8), label


def write_scenes(folder: Path, count: int, first: int = 0) -> dict[str, np.ndarray]:
    """Write scenes; their labels by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = {}
    for seed in range(first, first + count):
        image, labels[f"{seed:03d}.png"] = paint(seed)
        Image.fromarray(image).save(folder / f"{seed:03d}.png")
    return labels


def middle(label: np.ndarray, number: int) -> tuple[int, int]:
    """(y, x) within an object."""
    places = np.argwhere(label == number)
    y, x = places[len(places) // 2]
    return int(y), int(x)


def begin(root: Path, **words) -> Session:
    """A session whose search runs."""
    session = Session(root, **{"window": SIDE, "device": "cpu", **words})
    session.search.start()
    return session


def settle(session: Session, seconds: float = 120) -> None:
    """Wait until everything is encoded and searched."""
    assert session.search.wait(seconds), session.search.status()
    assert session.search.said == []


def iou(session: Session, labels: dict[str, np.ndarray], number: int, threshold: float) -> float:
    """Of a class over all scenes; classes are numbered as in the labels."""
    both = either = 0
    for key, label in labels.items():
        best, level = session.search.planes(session.by_key[key])
        found = (best == number) & (level > 255 * threshold)
        both += (found & (label == number)).sum()
        either += (found | (label == number)).sum()
    return both / either


def until(what, seconds: float = 60):
    """What a function returns, once that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")
