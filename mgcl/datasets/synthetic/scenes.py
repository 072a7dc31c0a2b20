"""One synthetic scene: a ground, the subject, a few other objects, clutter, the camera."""

import numpy as np

from mgcl.datasets.synthetic import scenery
from mgcl.datasets.synthetic.canvas import BOX, Canvas, Frame, blob, vary
from mgcl.datasets.synthetic.objects import ANCHORED, KINDS, Kind
from mgcl.datasets.synthetic.pen import Pen

MIN_SHARE = 0.03  # a scene is listed for a class that covers at least this share of it


def paint_scene(size: int, class_id: int, *key: int) -> tuple[np.ndarray, np.ndarray]:
    """One scene that shows `class_id`, a pure function of its arguments.

    Args:
        size: side in pixels.
        class_id: the 0-based class that covers at least `MIN_SHARE` of the scene.
        key: integers that tell scenes apart.

    Returns:
        The image (size, size, 3) uint8 RGB and its label (size, size) uint8 of ids 0 to 15.
    """
    for attempt in range(20):
        canvas = Canvas(size, np.random.default_rng([*key, attempt]))
        _compose(canvas, class_id)
        if (canvas.label == class_id + 1).mean() >= MIN_SHARE:
            break
    return scenery.finish(canvas), canvas.label


def _compose(canvas: Canvas, class_id: int) -> None:
    """Ground, the subject, a few other objects, clutter."""
    rng, kind = canvas.rng, KINDS[class_id]
    place = kind.grounds[rng.integers(len(kind.grounds))]
    along = _lay_ground(canvas, place)
    groups = {class_id: rng.uniform(*kind.shares)}
    others = [c for c, other in enumerate(KINDS) if place in other.grounds and c != class_id]
    for other in rng.permutation(others)[: rng.integers(1, 4)]:
        low, high = KINDS[other].shares
        groups[int(other)] = rng.uniform(0.5 * low, 0.6 * high)
    for group in sorted(groups, key=lambda c: KINDS[c].draw not in ANCHORED):
        _place_group(canvas, group, groups[group], along)
    _strew(canvas, place)


def _lay_ground(canvas: Canvas, place: str) -> Frame | None:
    """Paint the ground; returns the frame of the shore or river, if there is one."""
    rng, size = canvas.rng, canvas.size
    if place in ("sea", "coast", "river"):
        return _lay_water(canvas, place)
    if place == "crops":
        canvas.image = scenery.crops(rng, size)
    else:
        paint = {"paving": scenery.paving, "soil": scenery.soil}.get(place, scenery.grass)
        canvas.image = paint(rng, size)
    _patch(canvas, place)
    if rng.random() < (0.9 if place == "suburb" else 0.35):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.42, 0.42) * size
        x, y = size / 2 - offset * np.sin(angle), size / 2 + offset * np.cos(angle)
        scenery.road(canvas, Frame(x, y, size * 1.5, angle), size * rng.uniform(0.06, 0.11))
    return None


def _lay_water(canvas: Canvas, place: str) -> Frame | None:
    rng, size = canvas.rng, canvas.size
    canvas.image = scenery.water(rng, size)
    if place == "sea":
        return None
    land = (scenery.grass, scenery.soil, scenery.paving)[rng.integers(3)](rng, size)
    angle = rng.uniform(0, 2 * np.pi)
    middle = Frame(size / 2, size / 2, size, angle)
    reach = rng.uniform(0.2, 0.32) if place == "coast" else rng.uniform(0.2, 0.3)
    wobble = rng.uniform(0.0, 0.025)
    for side in (1,) if place == "coast" else (1, -1):
        y = np.linspace(-1, 1, 24)
        edge = reach + wobble * np.cumsum(rng.normal(0, 0.5, 24))
        bank = np.concatenate([np.stack([-edge, y], axis=1), [[-1.5, 1], [-1.5, -1]]])
        pixels = middle.pixels(bank * (side, 1))
        canvas.line(pixels, vary(rng, (196, 186, 160), 12), size * 0.02, closed=True)
        canvas.texture(pixels, land)
        canvas.occupy(pixels)
    if place == "coast":
        return middle.at(-reach, 0)
    return middle.at(0, rng.uniform(-0.2, 0.2))


def _patch(canvas: Canvas, place: str) -> None:
    """A few large patches of another ground."""
    rng, size = canvas.rng, canvas.size
    for _ in range(rng.integers(0, 3) if place != "crops" else 0):
        other = (scenery.grass, scenery.soil, scenery.paving)[rng.integers(3)](rng, size)
        x, y = rng.uniform(0, size, 2)
        frame = Frame(x, y, size * rng.uniform(0.15, 0.4), rng.uniform(0, np.pi))
        shape = blob(rng, 14, 0.12) if rng.random() < 0.5 else BOX * (1, rng.uniform(0.3, 1))
        canvas.texture(frame.pixels(shape), other)


def _place_group(canvas: Canvas, class_id: int, share: float, along: Frame | None) -> None:
    """Draw one to many objects of a kind in a loose grid, together about `share` of the scene."""
    rng, kind = canvas.rng, KINDS[class_id]
    count = int(rng.integers(kind.counts[0], kind.counts[1] + 1))
    scale = canvas.size * np.sqrt(share / (count * kind.area))
    scale = min(scale, canvas.size * (0.75 if kind.aspect < 0.2 else 0.47))
    if kind.grounds == ("coast",) and along is not None:
        frames = [along.at(scale / canvas.size * 0.9, rng.uniform(-0.2, 0.2))]
        frames = [Frame(f.x, f.y, scale, f.angle) for f in frames]
    elif kind.grounds == ("river",) and along is not None:
        frames = [Frame(along.x, along.y, scale, along.angle + rng.uniform(-0.3, 0.3))]
    else:
        frames = _find_places(canvas, kind, count, scale)
    for frame in frames:
        kind.draw(Pen(canvas, frame, class_id + 1))
        canvas.occupy(frame.pixels(BOX * (1.05, kind.aspect * 1.1)))


def _find_places(canvas: Canvas, kind: Kind, count: int, scale: float) -> list[Frame]:
    """Frames of a group, the best of some random places; cells that are taken stay empty."""
    rng = canvas.rng
    columns = int(np.ceil(np.sqrt(count * max(1.0, 1 / kind.aspect) / 1.6)))
    columns = min(count, columns)
    rows = -(-count // columns)
    gap = rng.uniform(1.08, 1.5)
    best: list[Frame] = []
    for _ in range(20):
        x, y = rng.uniform(0.2, 0.8, 2) * canvas.size
        middle = Frame(x, y, scale, rng.uniform(0, 2 * np.pi))
        cells = [divmod(i, rows) for i in range(count)]
        frames = []
        for column, row in cells:
            y = (column - (columns - 1) / 2) * 2 * kind.aspect * gap
            x = (row - (rows - 1) / 2) * 2 * gap
            turn = rng.normal(0, 0.06) + np.pi * (rng.random() < 0.3)
            frame = middle.at(x, y, turn=turn)
            if canvas.share_taken(frame.pixels(BOX * (1, kind.aspect))) < 0.01:
                frames.append(frame)
        if len(frames) > len(best):
            best = frames
        if len(best) == count:
            break
    return best


def _strew(canvas: Canvas, place: str) -> None:
    """Unlabelled clutter on what is free: houses, trees, rocks."""
    rng, size = canvas.rng, canvas.size
    wet = place in ("sea", "coast", "river")
    houses = {"suburb": 7, "paving": 2, "grass": 1, "soil": 2}.get(place, 0)
    for _ in range(rng.integers(0, houses + 1)):
        x, y = rng.uniform(0, size, 2)
        frame = Frame(x, y, size * rng.uniform(0.05, 0.11), rng.uniform(0, 3))
        outline = frame.pixels(BOX * 1.15)
        if not wet and canvas.share_taken(outline) < 0.35 and not _covers(canvas, outline):
            scenery.house(canvas, frame)
            canvas.occupy(outline)
    for _ in range(rng.integers(0, 4 if place == "paving" else 14)):
        x, y = rng.uniform(0, size, 2)
        radius = size * rng.uniform(0.015, 0.045)
        on_land = bool(canvas.taken[int(y), int(x)]) == wet
        if on_land and place != "sea":
            crown = Frame(x, y, radius, 0).pixels(BOX)
            if not _covers(canvas, crown):
                scenery.tree(canvas, x, y, radius)


def _covers(canvas: Canvas, outline: np.ndarray) -> bool:
    """Whether an outline's bounding box meets a labelled pixel."""
    left, top = np.maximum(outline.min(0), 0).astype(int)
    right, bottom = np.ceil(outline.max(0)).astype(int) + 1
    return bool(canvas.label[top:bottom, left:right].any())
