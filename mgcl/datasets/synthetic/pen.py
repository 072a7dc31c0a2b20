"""What the objects of the synthetic scenes are drawn with."""

from dataclasses import dataclass

import numpy as np

from mgcl.datasets.synthetic.canvas import Canvas, Colour, Frame

WHITE: Colour = (232, 232, 226)


@dataclass(frozen=True)
class Pen:
    """A canvas, a frame and the label of what is drawn."""

    canvas: Canvas
    frame: Frame
    label_id: int

    @property
    def rng(self) -> np.random.Generator:
        """The scene's randomness."""
        return self.canvas.rng

    def body(self, points: np.ndarray, colour: Colour, height: float = 0.0) -> None:
        """Paint a part that belongs to the object: shadow, colour and label."""
        pixels = self.frame.pixels(points)
        if height:
            self.canvas.shadow(pixels, height)
        self.canvas.fill(pixels, colour)
        self.canvas.mark(pixels, self.label_id)

    def part(self, points: np.ndarray, colour: Colour) -> None:
        """Paint a detail without touching the label."""
        self.canvas.fill(self.frame.pixels(points), colour)

    def line(
        self, points: np.ndarray, colour: Colour, width: float = 0.0, *, closed: bool = False
    ) -> None:
        """Paint a line; `width` in unit coordinates, at least one pixel."""
        pixels = self.frame.pixels(points)
        self.canvas.line(pixels, colour, width * self.frame.scale, closed=closed)


def rect(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Corners (4, 2) of an upright rectangle."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def arc(
    x: float, y: float, radius: float, start: float = 0.0, end: float = 360.0, corners: int = 28
) -> np.ndarray:
    """Points (corners, 2) on a circle, angles in degrees."""
    angles = np.radians(np.linspace(start, end, corners))
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)


def shade(colour: Colour, factor: float) -> Colour:
    """A colour made darker or lighter."""
    red, green, blue = (min(255.0, c * factor) for c in colour)
    return (red, green, blue)
