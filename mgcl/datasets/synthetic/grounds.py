"""Sports grounds and pools of the synthetic scenes."""

import numpy as np

from mgcl.datasets.synthetic.canvas import BOX, pick, vary
from mgcl.datasets.synthetic.pen import WHITE, Pen, arc, rect, shade


def baseball_diamond(pen: Pen) -> None:
    """A quarter disc: outfield, sandy infield with a lawn square, bases, mound and lines."""
    rng = pen.rng
    home = np.array([-1.0, 0])
    lawn = pick(rng, ((84, 122, 62), (104, 134, 76), (70, 104, 58), (134, 138, 84)))
    sand = pick(rng, ((186, 142, 104), (164, 118, 86), (206, 176, 136)))
    pen.body(np.concatenate([[home], arc(-1, 0, 1.75, -45, 45)]), shade(sand, 0.95))
    pen.part(np.concatenate([[home + (0.05, 0)], arc(-1, 0, 1.62, -43, 43)]), lawn)
    pen.part(np.concatenate([[home], arc(-1, 0, 0.95, -45, 45)]), sand)
    square = np.array([[0.1, 0], [0.4, -0.3], [0.7, 0], [0.4, 0.3]])
    pen.part(home + square, shade(lawn, rng.uniform(0.9, 1.15)))
    pen.part(arc(-0.6, 0, 0.07), sand)
    for side in (-1, 1):
        far = home + 1.7 * np.array([np.cos(np.pi / 4), side * np.sin(np.pi / 4)])
        pen.line(np.stack([home, far]), WHITE, 0.015)
    for corner in square:
        pen.part(home + corner * 1.1 + 0.025 * BOX, WHITE)


def tennis_court(pen: Pen) -> None:
    """A fenced rectangle with the inner court in another colour, its lines and the net."""
    rng = pen.rng
    tones = ((62, 112, 78), (70, 100, 142), (160, 84, 66), (86, 122, 96), (104, 88, 126))
    outer, inner = pick(rng, tones), pick(rng, tones)
    pen.body(rect(-1, -0.56, 1, 0.56), outer)
    pen.part(rect(-0.68, -0.32, 0.68, 0.32), inner)
    for y in (0.24, 0.32):
        pen.line(rect(-0.68, -y, 0.68, y), WHITE, 0.02, closed=True)
    for x in (-0.36, 0.36):
        pen.line(np.array([[x, -0.24], [x, 0.24]]), WHITE, 0.02)
    pen.line(np.array([[-0.36, 0], [0.36, 0]]), WHITE, 0.02)
    pen.line(np.array([[0.02, -0.38], [0.02, 0.38]]), (40, 42, 44), 0.03)
    pen.line(np.array([[0, -0.38], [0, 0.38]]), WHITE, 0.015)
    pen.line(rect(-1, -0.56, 1, 0.56), shade(outer, 0.6), 0.02, closed=True)


def basketball_court(pen: Pen) -> None:
    """A court with painted keys, three-point arcs, centre circle and two hoops."""
    rng = pen.rng
    tones = ((184, 148, 108), (138, 140, 142), (78, 106, 150), (92, 128, 104), (166, 92, 78))
    floor, key = pick(rng, tones), pick(rng, tones, 24)
    pen.body(rect(-1, -0.56, 1, 0.56), floor)
    pen.part(arc(0, 0, 0.2), key)
    pen.line(arc(0, 0, 0.2), WHITE, 0.025, closed=True)
    pen.line(np.array([[0, -0.5], [0, 0.5]]), WHITE, 0.025)
    for side in (-1, 1):
        lane = rect(-0.94, -0.18, -0.5, 0.18) * (-side, 1)
        pen.part(lane, key)
        pen.line(lane, WHITE, 0.025, closed=True)
        pen.line(arc(-0.86, 0, 0.48, -82, 82) * (-side, 1), WHITE, 0.025)
        pen.line(arc(-0.5, 0, 0.18, -90, 90) * (-side, 1), WHITE, 0.02)
        pen.line(np.array([[-0.9, -0.1], [-0.9, 0.1]]) * (-side, 1), (40, 42, 44), 0.03)
    pen.line(rect(-0.94, -0.5, 0.94, 0.5), WHITE, 0.025, closed=True)


def ground_track_field(pen: Pen) -> None:
    """An oval of running lanes around a lawn."""
    rng = pen.rng
    lane = pick(rng, ((168, 84, 66), (150, 96, 82), (78, 96, 138), (134, 126, 120)))
    lawn = pick(rng, ((88, 124, 68), (110, 136, 80), (128, 134, 86)))

    def oval(half: float) -> np.ndarray:
        right = arc(0.48, 0, half, -90, 90)
        return np.concatenate([right, right * -1])

    pen.body(oval(0.52), lane)
    for half in (0.49, 0.455, 0.42):
        pen.line(oval(half), shade(lane, 1.25), 0.008, closed=True)
    pen.part(oval(0.36), lawn)
    pen.line(oval(0.37), WHITE, 0.012, closed=True)
    for end in (-1, 1):  # the throwing and jumping areas at both ends
        pen.part(arc(0.48 * end, 0, 0.3, -90, 90) * (1, 1) if end > 0 else
                 arc(-0.48, 0, 0.3, 90, 270), pick(rng, (lane, shade(lawn, 0.85)), 6))  # fmt: skip
    for x in np.arange(-0.4, 0.4, 0.16):
        pen.part(rect(x, -0.3, x + 0.08, 0.3), shade(lawn, 1.08))


def swimming_pool(pen: Pen) -> None:
    """Clear blue water in a rectangle, a kidney or an L, with coping, ripples and steps."""
    rng = pen.rng
    kind = rng.integers(3)
    if kind == 0:
        shape = rect(-1, -0.5, 1, 0.5)
    elif kind == 1:
        angles = np.linspace(0, 2 * np.pi, 30, endpoint=False)
        radius = 0.72 + 0.2 * np.cos(2 * angles) - 0.16 * np.exp(-4 * (angles - 1.6) ** 2)
        shape = np.stack([np.cos(angles) * radius * 1.08, np.sin(angles) * radius], axis=1)
    else:
        shape = np.array([[-1, -0.6], [1, -0.6], [1, 0.05], [0.1, 0.05], [0.1, 0.6], [-1, 0.6]])
    stone = pick(rng, ((206, 196, 178), (178, 176, 170), (190, 160, 136)))
    pen.part(shape * 1.18, stone)
    blue = pick(rng, ((92, 182, 206), (64, 148, 188), (118, 204, 208), (76, 168, 172)))
    pen.body(shape, blue)
    pen.line(shape, shade(blue, 0.72), 0.05, closed=True)
    for _ in range(14):  # light playing on the ground of the pool
        x, y = rng.uniform(-0.8, 0.8), rng.uniform(-0.4, 0.0)
        wave = np.array([[x, y], [x + 0.1, y + 0.05], [x + 0.2, y]])
        pen.line(wave, shade(blue, 1.14), 0.012)
    if kind == 0 and rng.random() < 0.6:
        for y in (-0.25, 0, 0.25):
            pen.line(np.array([[-0.9, y], [0.9, y]]), shade(blue, 0.66), 0.025)
    pen.part(rect(-0.98, -0.3, -0.86, 0.0), shade(blue, 1.18))


def soccer_ball_field(pen: Pen) -> None:
    """A mown pitch with stripes, halfway line, centre circle and penalty areas."""
    rng = pen.rng
    lawn = pick(rng, ((86, 128, 64), (104, 140, 78), (70, 112, 74), (132, 136, 84)))
    pen.body(rect(-1, -0.64, 1, 0.64), lawn)
    stripes = int(rng.integers(6, 13))
    edges = np.linspace(-1, 1, stripes + 1)
    for x0, x1 in zip(edges[::2], edges[1::2], strict=False):
        pen.part(rect(x0, -0.64, x1, 0.64), shade(lawn, rng.uniform(1.07, 1.15)))
    paint, width = vary(rng, WHITE, 8), 0.016
    pen.line(rect(-0.94, -0.58, 0.94, 0.58), paint, width, closed=True)
    pen.line(np.array([[0, -0.58], [0, 0.58]]), paint, width)
    pen.line(arc(0, 0, 0.17), paint, width, closed=True)
    for side in (-1, 1):
        for depth, half in ((0.3, 0.36), (0.1, 0.16)):
            pen.line(
                rect(-0.94, -half, -0.94 + depth, half) * (-side, 1), paint, width, closed=True
            )
        pen.line(arc(-0.64, 0, 0.14, -65, 65) * (-side, 1), paint, width)
