"""Vehicles, ships and aircraft of the synthetic scenes."""

import numpy as np

from mgcl.datasets.synthetic.canvas import BOX, Colour, pick, vary
from mgcl.datasets.synthetic.pen import WHITE, Pen, arc, rect, shade


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
