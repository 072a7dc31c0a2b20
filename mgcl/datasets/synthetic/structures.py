"""Tanks, bridges, roundabouts and harbours of the synthetic scenes."""

import numpy as np

from mgcl.datasets.synthetic.canvas import BOX, blob, pick, vary
from mgcl.datasets.synthetic.pen import WHITE, Pen, arc, rect, shade


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
