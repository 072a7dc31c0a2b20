"""The fifteen objects of the synthetic scenes, each with its own geometry, parts and textures.

A painter draws one object into its frame, in unit coordinates: x along the object, -1 to 1, and y
across, as wide as the kind's `aspect`. It paints the picture and marks the label.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .canvas import BOX, Canvas, Colour, Frame, blob, pick, vary

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


def ship(pen: Pen) -> None:
    """A pointed hull with a deck, cargo or cabins, and a wake."""
    rng, width = pen.rng, 0.26
    hull = np.array(
        [[-1, -0.75], [-0.6, -1], [0.45, -1], [0.8, -0.55], [1, 0], [0.8, 0.55], [0.45, 1],
         [-0.6, 1], [-1, 0.75]]
    ) * (1, width)  # fmt: skip
    if rng.random() < 0.6:
        for spread, length in ((0.5, 2.6), (0.25, 1.9), (0.12, 1.5)):
            foam = np.array([[-0.9, -0.1], [-length, -spread], [-length, spread], [-0.9, 0.1]])
            pen.canvas.shadow(pen.frame.pixels(foam), 0, -0.2)
    tone = pick(rng, ((64, 66, 74), (128, 52, 46), (206, 204, 198), (46, 62, 88), (70, 92, 74)))
    pen.body(hull, tone, 0.8)
    deck = pick(rng, ((150, 96, 76), (176, 172, 160), (206, 190, 156), (104, 122, 110)))
    pen.part(hull * (0.93, 0.8), deck)
    if rng.random() < 0.5:  # a freighter: stacks of containers, bridge at the stern
        for x in np.arange(-0.5, 0.6, 0.2):
            for y in (-0.5, 0, 0.5):
                box = rect(x, y * width - 0.055, x + 0.17, y * width + 0.055)
                pen.part(box, pick(rng, ((160, 62, 52), (62, 92, 140), (206, 168, 84), WHITE), 18))
        pen.part(rect(-0.86, -0.6 * width, -0.62, 0.6 * width), vary(rng, WHITE))
    else:  # a yacht: cabin, windows, mast
        pen.part(rect(-0.45, -0.55 * width, 0.25, 0.55 * width), vary(rng, WHITE))
        pen.part(rect(0.1, -0.45 * width, 0.22, 0.45 * width), (52, 62, 74))
        pen.line(np.array([[-0.4, 0], [0.6, 0]]), (96, 96, 98), 0.02)


def storage_tank(pen: Pen) -> None:
    """A disc with a rim, a roof that is shaded on one side, and a ladder."""
    rng = pen.rng
    tone = pick(rng, ((226, 224, 216), (188, 190, 188), (150, 118, 96), (168, 186, 176)))
    pen.body(arc(0, 0, 1), shade(tone, 0.78), 2.2)
    pen.part(arc(0, 0, 0.92), tone)
    away = -pen.canvas.sun / np.linalg.norm(pen.canvas.sun)
    side = np.degrees(np.arctan2(away[1], away[0])) - np.degrees(pen.frame.angle)
    if rng.random() < 0.5:  # floating roof: the wall throws a crescent on it
        crescent = [arc(0, 0, 0.9, side - 80, side + 80), arc(0, 0, 0.62, side + 70, side - 70)]
        pen.part(np.concatenate(crescent), shade(tone, 0.55))
        pen.line(arc(0, 0, 0.9), shade(tone, 0.7), 0.03, closed=True)
    else:  # cone roof: sectors of light and shade
        for start in range(0, 360, 45):
            facing = np.cos(np.radians(start + 22.5 - side))
            wedge = np.concatenate([[[0, 0]], arc(0, 0, 0.9, start, start + 45, 6)])
            pen.part(wedge, shade(tone, 0.9 + 0.1 * facing))
        pen.part(arc(0, 0, 0.1), shade(tone, 0.6))
    pen.line(np.array([[0.1, 0], [0.95, 0.1]]), shade(tone, 0.5), 0.04)


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


def bridge(pen: Pen) -> None:
    """A deck with lanes, railings and crossbeams, high over what it crosses."""
    rng, half = pen.rng, 0.11
    tone = pick(rng, ((128, 126, 122), (164, 158, 148), (104, 104, 108), (146, 112, 92)))
    pen.body(rect(-1, -half, 1, half), tone, 2.6)
    rail = pick(rng, ((206, 204, 198), (96, 92, 90), (132, 72, 62)))
    for y in (-half + 0.012, half - 0.012):
        pen.line(np.array([[-1, y], [1, y]]), rail, 0.02)
    for x in np.arange(-1, 1.01, rng.uniform(0.12, 0.3)):  # crossbeams and pillar heads
        pen.line(np.array([[x, -half], [x, half]]), shade(tone, 0.84), 0.012)
        for y in (-half, half):
            pen.part(np.array([x, y]) + BOX * (0.018, 0.014), shade(rail, 0.8))
    for x in np.arange(-1, 1, 0.12):
        pen.part(rect(x, -0.005, x + 0.06, 0.005), WHITE)


def large_vehicle(pen: Pen) -> None:
    """A lorry with cab and trailer, or a bus."""
    rng, half = pen.rng, 0.23
    tones = ((222, 222, 218), (176, 62, 54), (70, 96, 146), (208, 170, 72), (96, 122, 92))
    tone = pick(rng, tones, 18)
    if rng.random() < 0.6:
        pen.body(rect(-1, -half, 0.55, half), tone, 1.0)
        for x in np.arange(-0.85, 0.5, 0.22):
            pen.line(np.array([[x, -half], [x, half]]), shade(tone, 0.86), 0.02)
        pen.line(rect(-0.97, -half + 0.03, 0.52, half - 0.03), shade(tone, 1.15), 0.02, closed=True)
        cab = pick(rng, tones, 18)
        pen.body(rect(0.53, -0.06, 0.65, 0.06), (50, 50, 52))
        pen.body(rect(0.62, -half + 0.02, 1, half - 0.02), cab, 0.8)
        pen.part(rect(0.86, -half + 0.05, 0.95, half - 0.05), (46, 54, 64))
        return
    pen.body(rect(-1, -half, 1, half), tone, 1.0)
    pen.part(rect(-0.96, -half + 0.05, 0.88, half - 0.05), shade(tone, 1.12))
    pen.part(rect(0.9, -half + 0.03, 0.98, half - 0.03), (46, 54, 64))
    for x in (-0.6, 0.0, 0.45):
        pen.part(rect(x, -0.1, x + 0.22, 0.1), vary(rng, (172, 174, 176), 16))


def small_vehicle(pen: Pen) -> None:
    """A car: rounded body, dark windows in front and behind, lighter roof."""
    rng = pen.rng
    tone = pick(
        rng,
        ((226, 226, 224), (44, 46, 50), (150, 152, 156), (158, 48, 44), (56, 82, 132),
         (176, 160, 128)),
        16,
    )  # fmt: skip
    body = np.array(
        [[-1, -0.3], [-0.9, -0.43], [0.75, -0.43], [0.97, -0.28], [1, 0], [0.97, 0.28],
         [0.75, 0.43], [-0.9, 0.43], [-1, 0.3]]
    )  # fmt: skip
    pen.body(body, tone, 0.55)
    glass: Colour = (38, 46, 56)
    pen.part(np.array([[0.22, -0.3], [0.5, -0.36], [0.5, 0.36], [0.22, 0.3]]), glass)
    pen.part(np.array([[-0.5, -0.3], [-0.74, -0.35], [-0.74, 0.35], [-0.5, 0.3]]), glass)
    pen.part(rect(-0.5, -0.32, 0.22, 0.32), shade(tone, 1.14))
    for y in (-0.36, 0.36):
        pen.line(np.array([[-0.5, y], [0.25, y]]), glass, 0.05)
        pen.part(np.array([0.93, y * 0.8]) + 0.05 * BOX, (238, 236, 214))


def helicopter(pen: Pen) -> None:
    """A fuselage with cockpit, a tail boom with its rotor, and the blades of the main rotor."""
    rng = pen.rng
    tone = pick(rng, ((92, 100, 78), (206, 204, 198), (64, 74, 96), (176, 66, 54), (140, 138, 132)))
    pen.body(np.array([[-0.95, -0.05], [0, -0.12], [0, 0.12], [-0.95, 0.05]]), tone, 0.9)
    pen.body(rect(-1, -0.2, -0.86, 0.2), shade(tone, 0.85), 0.6)
    pen.body(arc(0.25, 0, 1) * (0.5, 0.27) + (0.12, 0), tone, 1.0)
    pen.part(arc(0.56, 0, 0.17), (44, 54, 66))
    pen.part(rect(-0.05, -0.13, 0.3, 0.13), shade(tone, 0.8))
    blades, start = int(rng.integers(2, 6)), rng.uniform(0, 360)
    hub = np.array([0.14, 0])
    for angle in np.radians(start + np.arange(blades) * 360 / blades):
        along = np.array([np.cos(angle), np.sin(angle)])
        across = 0.045 * np.array([-along[1], along[0]])
        tip = hub + 0.85 * along
        pen.body(np.stack([hub + across, tip + across, tip - across, hub - across]),
                 vary(rng, (66, 66, 70), 8), 0.5)  # fmt: skip
    pen.part(arc(0.14, 0, 0.08), (40, 40, 42))


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


def roundabout(pen: Pen) -> None:
    """A ring road with its arms, kerbs, lane dashes and a planted island."""
    rng, canvas = pen.rng, pen.canvas
    tone = pick(rng, ((100, 100, 102), (126, 124, 120), (82, 84, 88)), 8)
    kerb = vary(rng, (196, 192, 180), 8)
    start, arms = rng.uniform(0, 360), int(rng.integers(3, 5))
    for angle in np.radians(start + np.arange(arms) * 360 / arms):
        arm = pen.frame.at(0, 0, turn=angle)
        canvas.fill(arm.pixels(rect(0, -0.3, 9, 0.3)), kerb)
        canvas.fill(arm.pixels(rect(0, -0.27, 9, 0.27)), tone)
        canvas.mark(arm.pixels(rect(0, -0.3, 9, 0.3)), 0)
        canvas.occupy(arm.pixels(rect(0, -0.3, 9, 0.3)))
        for x in np.arange(1.2, 6, 0.4):
            canvas.fill(arm.pixels(rect(x, -0.015, x + 0.2, 0.015)), WHITE)
    pen.body(arc(0, 0, 1, corners=40), kerb)
    pen.part(arc(0, 0, 0.96, corners=40), tone)
    for begin in range(0, 360, 24):
        pen.line(arc(0, 0, 0.74, begin, begin + 10, 4), WHITE, 0.02)
    inner = rng.uniform(0.4, 0.56)
    pen.part(arc(0, 0, inner + 0.05), kerb)
    green = pick(rng, ((90, 120, 66), (112, 132, 80), (150, 130, 100)))
    pen.part(arc(0, 0, inner), green)
    if rng.random() < 0.5:
        pen.part(arc(0, 0, inner * 0.5), shade(green, 0.75))
    for angle in rng.uniform(0, 2 * np.pi, rng.integers(0, 6)):
        bush = pen.frame.at(inner * 0.7 * np.cos(angle), inner * 0.7 * np.sin(angle), scale=0.1)
        canvas.shadow(bush.pixels(BOX), 0.6)
        canvas.fill(bush.pixels(blob(rng, 9, 0.15)), vary(rng, (58, 82, 48), 8))


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


def plane(pen: Pen) -> None:
    """Fuselage, swept wings with engines, and the tail."""
    rng = pen.rng
    tone = pick(rng, ((230, 230, 228), (196, 198, 202), (120, 126, 130), (148, 142, 118)), 10)
    accent = pick(rng, ((176, 58, 52), (58, 84, 140), tone, (80, 84, 90)))
    sweep, span = rng.uniform(0.2, 0.5), rng.uniform(0.75, 0.95)
    for side in (-1, 1):
        wing = np.array([[0.28, 0.05], [0.25 - sweep, span], [0.1 - sweep, span], [-0.15, 0.05]])
        pen.body(wing * (1, side), shade(tone, 0.93), 1.0)
        tail = np.array([[-0.7, 0.04], [-0.92, 0.34], [-1, 0.34], [-0.9, 0.04]])
        pen.body(tail * (1, side), shade(tone, 0.9), 0.6)
        for share in (0.35, 0.62)[: rng.integers(1, 3)]:
            x, y = 0.26 - sweep * share, span * share * side
            pen.body(rect(x - 0.06, y - 0.04, x + 0.14, y + 0.04), shade(tone, 0.7))
    nose = np.array([[0.85, 0.11], [0.96, 0.06], [1, 0], [0.96, -0.06], [0.85, -0.11]])
    body = np.concatenate([[[-1, -0.03], [-1, 0.03], [-0.6, 0.11]], nose, [[-0.6, -0.11]]])
    pen.body(body, tone, 1.0)
    pen.part(rect(-0.98, -0.02, -0.66, 0.02), accent)
    pen.part(np.array([[0.8, -0.07], [0.88, -0.05], [0.88, 0.05], [0.8, 0.07]]), (46, 54, 66))
    pen.line(np.array([[-0.6, 0], [0.7, 0]]), shade(tone, 1.06), 0.06)


def harbor(pen: Pen) -> None:
    """A pier with finger jetties on both sides, of planks or concrete, with bollards."""
    rng, half = pen.rng, 0.09
    tone = pick(rng, ((168, 160, 148), (146, 122, 98), (188, 184, 176), (124, 116, 108)))
    pen.body(rect(-1, -half, 1, half), tone, 0.5)
    fingers, width = int(rng.integers(3, 6)), rng.uniform(0.035, 0.06)
    jetties = [
        rect(x - width, side * half, x + width, side * (half + rng.uniform(0.35, 0.45)))
        for x in np.linspace(-0.75, 0.9, fingers)
        for side in (-1, 1)
    ]
    for jetty in jetties:
        pen.body(jetty, shade(tone, rng.uniform(0.92, 1.08)), 0.4)
    for x in np.arange(-1, 1, 0.07):
        pen.line(np.array([[x, -half], [x, half]]), shade(tone, 0.87), 0.008)
    for x in np.arange(-0.95, 1, 0.24):
        for y in (-half * 0.8, half * 0.8):
            pen.part(np.array([x, y]) + 0.018 * BOX, (66, 62, 58))


@dataclass(frozen=True)
class Kind:
    """How the scenes use an object.

    `aspect`: half the width in unit coordinates; `area`: labelled area in unit coordinates;
    `counts`: fewest and most in a group; `shares`: least and most of the scene that the group
    covers; `grounds`: the grounds that it stands on.
    """

    draw: Callable[[Pen], None]
    aspect: float
    area: float
    counts: tuple[int, int]
    shares: tuple[float, float]
    grounds: tuple[str, ...]


ANCHORED = (roundabout, bridge, harbor)  # drawn first: they take their place, others go round them
FIRM = ("paving", "soil", "grass", "suburb")
GREEN = ("grass", "crops", "suburb", "soil")
KINDS = (  # in the id order of iSAID-5i
    Kind(ship, 0.28, 0.92, (1, 4), (0.06, 0.2), ("sea", "coast", "river")),
    Kind(storage_tank, 1.0, 3.1, (1, 6), (0.08, 0.28), FIRM),
    Kind(baseball_diamond, 1.2, 2.4, (1, 1), (0.12, 0.3), GREEN),
    Kind(tennis_court, 0.56, 2.24, (1, 4), (0.1, 0.3), FIRM),
    Kind(basketball_court, 0.56, 2.24, (1, 2), (0.1, 0.28), FIRM),
    Kind(ground_track_field, 0.52, 1.85, (1, 1), (0.14, 0.3), GREEN),
    Kind(bridge, 0.11, 0.44, (1, 1), (0.08, 0.16), ("river",)),
    Kind(large_vehicle, 0.23, 0.88, (2, 7), (0.06, 0.2), ("paving", "soil", "suburb")),
    Kind(small_vehicle, 0.43, 1.65, (3, 12), (0.06, 0.2), ("paving", "soil", "suburb")),
    Kind(helicopter, 0.85, 0.7, (1, 3), (0.05, 0.12), ("paving", "grass", "soil")),
    Kind(swimming_pool, 0.6, 1.8, (1, 3), (0.05, 0.2), ("suburb", "grass", "paving")),
    Kind(roundabout, 1.0, 3.1, (1, 1), (0.12, 0.3), ("grass", "suburb", "crops", "soil")),
    Kind(soccer_ball_field, 0.64, 2.56, (1, 1), (0.14, 0.3), GREEN),
    Kind(plane, 0.95, 0.85, (1, 4), (0.06, 0.18), ("paving", "grass", "soil")),
    Kind(harbor, 0.52, 0.8, (1, 2), (0.07, 0.18), ("coast",)),
)
