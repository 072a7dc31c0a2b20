"""The drawing board of the synthetic scenes: frames, canvas, colours and noise."""

import functools
import math
from dataclasses import dataclass, field

import cv2
import numpy as np

Colour = tuple[float, float, float]  # RGB, 0..255
BOX = np.array([[-1.0, -1.0], [1, -1], [1, 1], [-1, 1]])
_SHIFT = 4  # cv2 draws at 1/16 pixel


@dataclass(frozen=True)
class Frame:
    """Where an object lies: unit coordinates times `scale`, turned by `angle`, moved to (x, y)."""

    x: float
    y: float
    scale: float
    angle: float

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Unit coordinates (N, 2) -> pixels (N, 2), x to the right and y down."""
        return points @ self._turn + (self.x, self.y)

    def at(self, x: float, y: float, *, turn: float = 0.0, scale: float = 1.0) -> "Frame":
        """A frame inside this one, its origin at the unit coordinates (x, y)."""
        (a, b), (c, d) = self._turn.tolist()
        px, py = x * a + y * c + self.x, x * b + y * d + self.y
        return Frame(px, py, self.scale * scale, self.angle + turn)

    @functools.cached_property
    def _turn(self) -> np.ndarray:
        cos, sin = self.scale * math.cos(self.angle), self.scale * math.sin(self.angle)
        return np.array([[cos, sin], [-sin, cos]])


@dataclass
class Canvas:
    """A scene in the making: image, label and where nothing more may stand."""

    size: int
    rng: np.random.Generator
    image: np.ndarray = field(init=False)  # (S, S, 3) uint8 RGB
    label: np.ndarray = field(init=False)  # (S, S) uint8, 0 = background
    taken: np.ndarray = field(init=False)  # (S, S) uint8, 1 = no place for an object
    sun: np.ndarray = field(init=False)  # (2,) shadow of an object one unit high, in pixels

    def __post_init__(self) -> None:
        """Start black, unlabelled and free, with the sun somewhere."""
        self.image = np.zeros((self.size, self.size, 3), np.uint8)
        self.label = np.zeros((self.size, self.size), np.uint8)
        self.taken = np.zeros((self.size, self.size), np.uint8)
        direction = self.rng.uniform(0, 2 * np.pi)
        length = self.size * self.rng.uniform(0.01, 0.03)
        self.sun = length * np.array([np.cos(direction), np.sin(direction)])

    def fill(self, points: np.ndarray, colour: Colour) -> None:
        """Paint a polygon (N, 2) in pixels."""
        cv2.fillPoly(self.image, [_fixed(points)], colour, cv2.LINE_AA, _SHIFT)

    def line(
        self, points: np.ndarray, colour: Colour, width: float, *, closed: bool = False
    ) -> None:
        """Paint a line of `width` pixels along points (N, 2) in pixels."""
        thick = max(1, round(width))
        cv2.polylines(self.image, [_fixed(points)], closed, colour, thick, cv2.LINE_AA, _SHIFT)

    def mark(self, points: np.ndarray, label_id: int) -> None:
        """Give a polygon's pixels a label."""
        cv2.fillPoly(self.label, [_fixed(points)], label_id, cv2.LINE_8, _SHIFT)

    def occupy(self, points: np.ndarray) -> None:
        """Keep a polygon's pixels free of further objects."""
        cv2.fillPoly(self.taken, [_fixed(points)], 1, cv2.LINE_8, _SHIFT)

    def share_taken(self, points: np.ndarray) -> float:
        """Share of a polygon that is taken or outside the scene."""
        (left, top), part = _around(points, self.taken)
        wanted = np.zeros(part.shape, np.uint8)
        if wanted.size:  # else it lies beside the scene
            cv2.fillPoly(wanted, [_fixed(points - (left, top))], 1, cv2.LINE_8, _SHIFT)
        inside = max(int(np.count_nonzero(wanted)), 1)
        outside = 1 - inside / max(cv2.contourArea(points.astype(np.float32)), 1.0)
        return max(outside, 0.0) + int(np.count_nonzero(wanted & part)) / inside

    def shadow(self, points: np.ndarray, height: float, strength: float = 0.5) -> None:
        """Darken where a convex body with this outline and height throws its shadow.

        A negative strength makes it lighter instead.
        """
        offset = self.sun * height
        moved = np.concatenate([points, points + offset / 2, points + offset])
        hull = cv2.convexHull(moved.astype(np.float32))[:, 0]
        (left, top), part = _around(hull, self.image)
        if part.size:
            dark = np.zeros(part.shape[:2], np.uint8)
            cv2.fillPoly(dark, [_fixed(hull - (left, top))], 255, cv2.LINE_AA, _SHIFT)
            factor = 1 - dark[:, :, None].astype(np.float32) * (strength / 255)
            part[:] = np.minimum(part * factor, 255).astype(np.uint8)

    def texture(self, points: np.ndarray, other: np.ndarray) -> None:
        """Paint a polygon with the pixels of another picture of the scene's size."""
        inside = np.zeros_like(self.taken)
        cv2.fillPoly(inside, [_fixed(points)], 255, cv2.LINE_8, _SHIFT)
        cv2.copyTo(other, inside, self.image)


def noise(rng: np.random.Generator, size: int, coarse: float, *, stretch: float = 1) -> np.ndarray:
    """Smooth random field (size, size) float32 of about unit variance.

    Args:
        rng: where the randomness comes from.
        size: side in pixels.
        coarse: size of its blobs as a share of the side.
        stretch: how much longer the blobs are along x than along y.
    """
    rows = max(2, round(1 / coarse))
    columns = max(2, round(1 / (coarse * stretch)))
    grid = rng.standard_normal((rows + 2, columns + 2), np.float32)
    return cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)


def fractal(rng: np.random.Generator, size: int, *, stretch: float = 1) -> np.ndarray:
    """Sum of noises from coarse to fine, (size, size) float32, about unit variance."""
    parts = [(0.5, 0.4), (0.15, 0.4), (0.05, 0.35), (0.02, 0.35)]
    noises = (weight * noise(rng, size, coarse, stretch=stretch) for coarse, weight in parts)
    return sum(noises, start=np.zeros((size, size), np.float32))


def vary(rng: np.random.Generator, colour: Colour, spread: float = 14) -> Colour:
    """A colour near the given one: its brightness varies more than its hue."""
    shift = rng.normal(0, spread) + rng.normal(0, spread / 3, 3)
    red, green, blue = np.clip(np.asarray(colour) + shift, 0, 255)
    return (float(red), float(green), float(blue))


def pick(rng: np.random.Generator, colours: tuple[Colour, ...], spread: float = 14) -> Colour:
    """One of some colours, varied."""
    return vary(rng, colours[rng.integers(len(colours))], spread)


def blob(rng: np.random.Generator, corners: int, rough: float) -> np.ndarray:
    """A round outline (corners, 2) of unit radius, roughened."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = 1 + rng.normal(0, rough, corners)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]


def _around(points: np.ndarray, picture: np.ndarray) -> tuple[tuple[int, int], np.ndarray]:
    """The part of a picture (S, S, ...) around a polygon, a view, and its corner (x, y) there."""
    xs, ys = points.T.tolist()  # of so few numbers Python finds the least in a fifth of the time
    left, top = (max(math.floor(min(values)) - 1, 0) for values in (xs, ys))
    right, bottom = (max(math.ceil(max(values)) + 2, 0) for values in (xs, ys))
    return (left, top), picture[top:bottom, left:right]


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.rint(points * (1 << _SHIFT)).astype(np.int32)
