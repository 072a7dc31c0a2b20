"""What the objects of the synthetic scenes stand on and among: grounds, roads, houses, trees."""

import cv2
import numpy as np

from mgcl.datasets.synthetic.canvas import (
    BOX,
    Canvas,
    Colour,
    Frame,
    blob,
    fractal,
    noise,
    pick,
    vary,
)


def ground(
    rng: np.random.Generator,
    size: int,
    colours: tuple[Colour, Colour],
    contrast: float,
    *,
    stretch: float = 1,
) -> np.ndarray:
    """A picture (size, size, 3) uint8 that blends two colours by fractal noise, with grain."""
    first, second = (np.asarray(vary(rng, c), np.float32) for c in colours)
    blend = np.clip(0.5 + 0.5 * fractal(rng, size, stretch=stretch), 0, 1)
    grain = contrast * rng.standard_normal((size, size), np.float32)
    degrees = float(rng.uniform(0, 360)) if stretch != 1 else 0.0
    planes = []
    for a, b in zip(first, second, strict=True):  # plane by plane: numpy is slow on rows of three
        plane = a + (b - a) * blend
        plane += grain
        planes.append(_as_bytes(_turn(plane, degrees) if degrees else plane))
    return cv2.merge(planes)


def grass(rng: np.random.Generator, size: int) -> np.ndarray:
    """Meadow, lawn or dry grass."""
    kinds: list[tuple[Colour, Colour]] = [
        ((88, 112, 62), (122, 138, 84)),
        ((66, 94, 54), (98, 118, 68)),
        ((150, 142, 98), (116, 122, 76)),
    ]
    return ground(rng, size, kinds[rng.integers(3)], 7)


def soil(rng: np.random.Generator, size: int) -> np.ndarray:
    """Bare or sandy earth."""
    kinds: list[tuple[Colour, Colour]] = [
        ((168, 142, 110), (194, 172, 138)),
        ((136, 112, 88), (164, 140, 112)),
    ]
    return ground(rng, size, kinds[rng.integers(2)], 8)


def paving(rng: np.random.Generator, size: int) -> np.ndarray:
    """Asphalt or concrete, with joints."""
    kinds: list[tuple[Colour, Colour]] = [
        ((104, 104, 106), (122, 120, 118)),
        ((150, 148, 142), (170, 166, 158)),
        ((82, 84, 88), (98, 98, 100)),
    ]
    picture = ground(rng, size, kinds[rng.integers(3)], 5)
    joints = Canvas(size, rng)
    joints.image = picture
    step, angle = size * rng.uniform(0.12, 0.3), rng.uniform(0, np.pi)
    tone = vary(rng, tuple(picture.mean((0, 1)) - 14), 4)
    middle = Frame(size / 2, size / 2, size, angle)
    for turn in (0.0, np.pi / 2)[: rng.integers(1, 3)]:
        for offset in np.arange(-0.75, 0.75, step / size):
            row = middle.at(0, 0, turn=turn)
            joints.line(row.pixels(np.array([[-1, offset], [1, offset]])), tone, 1)
    return picture


def water(rng: np.random.Generator, size: int) -> np.ndarray:
    """Sea, river or lake with waves."""
    kinds: list[tuple[Colour, Colour]] = [
        ((34, 62, 86), (52, 84, 106)),
        ((52, 88, 92), (76, 112, 112)),
        ((72, 86, 76), (92, 104, 90)),
        ((26, 44, 62), (40, 60, 78)),
    ]
    return ground(rng, size, kinds[rng.integers(4)], 4, stretch=4)


def crops(rng: np.random.Generator, size: int) -> np.ndarray:
    """Farm land: parcels of their own colour with furrows."""
    board = Canvas(size, rng)
    board.image = grass(rng, size)
    angle = rng.uniform(0, np.pi)
    cuts_x = np.sort(np.concatenate([[-1, 1], rng.uniform(-0.7, 0.7, rng.integers(1, 4))]))
    cuts_y = np.sort(np.concatenate([[-1, 1], rng.uniform(-0.7, 0.7, rng.integers(1, 3))]))
    middle = Frame(size / 2, size / 2, size * 0.72, angle)
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    for x0, x1 in zip(cuts_x, cuts_x[1:], strict=False):
        for y0, y1 in zip(cuts_y, cuts_y[1:], strict=False):
            parcel = soil(rng, size) if rng.random() < 0.4 else grass(rng, size)
            turn = angle + np.pi / 2 * rng.integers(2)
            wave = np.sin(
                (columns * np.cos(turn) + rows * np.sin(turn)) * rng.uniform(0.5, 1.3) * 256 / size
            )
            parcel = cv2.add(parcel, cv2.merge([wave * rng.uniform(2, 9)] * 3), dtype=0)
            corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
            board.texture(middle.pixels(corners), parcel)
    return board.image


def road(canvas: Canvas, frame: Frame, width: float) -> None:
    """A straight road along the frame's x axis, `width` and the frame's scale in pixels."""
    half = width / frame.scale / 2
    tone = pick(canvas.rng, ((96, 96, 98), (128, 126, 122), (78, 80, 84)), 8)
    strip = frame.pixels(np.array([[-1, -half], [1, -half], [1, half], [-1, half]]))
    canvas.line(strip, vary(canvas.rng, (170, 164, 150), 10), 2, closed=True)
    canvas.fill(strip, tone)
    canvas.occupy(strip)
    paint = vary(canvas.rng, (214, 208, 186), 10)
    dash = 8 / frame.scale
    for start in np.arange(-1, 1, 3 * dash):
        canvas.line(frame.pixels(np.array([[start, 0], [start + dash, 0]])), paint, 1)


def house(canvas: Canvas, frame: Frame) -> None:
    """A building with a gabled or a flat roof."""
    rng = canvas.rng
    aspect = rng.uniform(0.5, 0.9)
    roof = pick(rng, ((148, 88, 70), (120, 112, 106), (92, 84, 80), (176, 166, 152)), 12)
    outline = frame.pixels(np.array([[-1, -aspect], [1, -aspect], [1, aspect], [-1, aspect]]))
    canvas.shadow(outline, 1.5)
    canvas.fill(outline, roof)
    if rng.random() < 0.6:
        sunny = tuple(min(255.0, c * 1.22) for c in roof)
        half = frame.pixels(np.array([[-1, -aspect], [1, -aspect], [0.8, 0], [-0.8, 0]]))
        canvas.fill(half, sunny)  # type: ignore[arg-type]
        return
    canvas.line(outline, tuple(c * 0.75 for c in roof), 1, closed=True)  # type: ignore[arg-type]
    for _ in range(rng.integers(1, 5)):
        x, y = rng.uniform(-0.7, 0.7), rng.uniform(-0.6, 0.6) * aspect
        unit = frame.at(x, y, scale=rng.uniform(0.08, 0.18)).pixels(BOX)
        canvas.shadow(unit, 0.4)
        canvas.fill(unit, vary(rng, (178, 178, 174), 16))


def tree(canvas: Canvas, x: float, y: float, radius: float) -> np.ndarray:
    """A crown of a few overlapping blobs; returns its outline."""
    rng = canvas.rng
    outline = Frame(x, y, radius, 0).pixels(blob(rng, 11, 0.16))
    canvas.shadow(outline, 1.1)
    base = pick(rng, ((46, 70, 40), (62, 84, 48), (80, 92, 54)), 9)
    canvas.fill(outline, base)
    for _ in range(4):
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.6) * radius
        light = tuple(min(255.0, c * rng.uniform(0.85, 1.35)) for c in base)
        leaf = Frame(x + far * np.cos(angle), y + far * np.sin(angle), radius * 0.4, 0)
        canvas.fill(leaf.pixels(blob(rng, 8, 0.2)), light)  # type: ignore[arg-type]
    return outline


def finish(canvas: Canvas) -> np.ndarray:
    """The camera: weathering, light, colour cast, blur and noise; (S, S, 3) uint8."""
    rng, size = canvas.rng, canvas.size
    light = 1 + 0.035 * noise(rng, size, 0.02) + 0.05 * noise(rng, size, 0.3)
    cast = (rng.uniform(0.9, 1.1) * rng.uniform(0.94, 1.06, 3)).astype(np.float32)
    contrast, brightness = rng.uniform(0.8, 1.15), rng.uniform(-12, 12)
    blur = rng.uniform(0.35, 0.8) * size / 256 if rng.random() < 0.6 else 0.0
    grain = rng.uniform(1.5, 5) * rng.standard_normal((size, size), np.float32)
    planes = []
    for plane, tint in zip(cv2.split(canvas.image), cast, strict=True):
        lit = plane * (light * tint)
        lit -= 118
        lit *= contrast
        lit += 118
        lit += brightness
        planes.append(_as_bytes((cv2.GaussianBlur(lit, (0, 0), blur) if blur else lit) + grain))
    return cv2.merge(planes)


def _as_bytes(plane: np.ndarray) -> np.ndarray:
    return np.clip(plane, 0, 255).astype(np.uint8)


def _turn(picture: np.ndarray, degrees: float) -> np.ndarray:
    size = picture.shape[0]
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), degrees, 1.0)
    return cv2.warpAffine(
        picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
