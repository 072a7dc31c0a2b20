"""Any image file as 8-bit RGB: PNG, JPEG, (Geo)TIFF; grey, palette, alpha, CMYK, 16-bit."""

import os
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
_TIFF = (".tif", ".tiff")
_STRETCH = (2.0, 98.0)  # percentiles that become black and white where there are over 8 bits

Image.MAX_IMAGE_PIXELS = None  # aerial scenes are larger than what Pillow takes for an attack


class UnreadableImage(ValueError):
    """An image file that cannot be read; the message names it and says why."""


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB.

    Grey becomes three equal channels, alpha and further bands are dropped. Samples of more than
    8 bits are stretched from their 2nd to their 98th percentile, over all bands together.

    Raises:
        UnreadableImage: missing, torn, or of a kind that is not known.
    """
    try:
        return _read(Path(path))
    except FileNotFoundError:
        raise UnreadableImage(f"{path}: no such file") from None
    except (OSError, ValueError, SyntaxError, tifffile.TiffFileError) as error:
        raise UnreadableImage(f"{path}: {error}") from None


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(H, W) of an image file, from its header where that is possible.

    Raises:
        UnreadableImage: as `read_image`.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError:
        height, width, _ = read_image(path).shape
        return height, width


def find_images(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """All images below a folder, by their path in it without the suffix, sorted.

    Raises:
        ValueError: no folder, no image in it, or two images of one name ("a.png", "a.tif").
    """
    root = Path(folder)
    paths = [p for p in sorted(root.rglob("*")) if p.suffix.lower() in SUFFIXES and p.is_file()]
    if not paths:
        raise ValueError(f"no images ({' '.join(SUFFIXES)}) in {root}")
    images: dict[str, Path] = {}
    for path in paths:
        key = path.relative_to(root).with_suffix("").as_posix()
        if key in images:
            raise ValueError(f"{images[key]} and {path} would share one mask map: rename one")
        images[key] = path
    return images


def _read(path: Path) -> np.ndarray:
    if _bits(path) > 8:
        return _to_rgb8(_read_deep(path))
    try:
        with Image.open(path) as image:
            if image.mode not in _EIGHT_BIT_MODES:
                raise ValueError(f"pixels of Pillow's mode {image.mode}: save it as PNG or TIFF")
            return np.array(image.convert("RGB"))
    except UnidentifiedImageError:
        if path.suffix.lower() in _TIFF:  # more bands than Pillow knows
            return _to_rgb8(_read_tiff(path))
        raise ValueError("not an image, or torn") from None


def _bits(path: Path) -> int:
    """Bits a sample; Pillow shows deep PNGs as 8 bits and misreads deep TIFFs with planes."""
    with open(path, "rb") as file:
        header = file.read(25)
    if header.startswith(b"\x89PNG"):
        return header[24] if len(header) == 25 else 0
    if header[:2] not in (b"II", b"MM"):
        return 8
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages.first.bitspersample


def _read_deep(path: Path) -> np.ndarray:
    """Samples (H, W) or (H, W, bands) of a PNG or TIFF with more than 8 bits."""
    if path.suffix.lower() in _TIFF:
        try:
            return _read_tiff(path)
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
    import cv2  # knows 16-bit PNG, and TIFF compressions that tifffile needs a package for

    samples = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None:
        raise ValueError("torn, or a compression that is not known")
    return samples[..., 2::-1] if samples.ndim == 3 else samples


def _read_tiff(path: Path) -> np.ndarray:
    """First picture of a TIFF, (H, W) or (H, W, bands), of any sample type."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        samples, axes = page.asarray(), page.axes
    return np.moveaxis(samples, 0, -1) if axes == "SYX" else samples  # a plane each band


def _to_rgb8(samples: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, bands) of any number type -> (H, W, 3) uint8."""
    if samples.ndim == 2:
        samples = samples[..., None]
    rgb = samples[..., :3] if samples.shape[-1] >= 3 else samples[..., :1].repeat(3, axis=-1)
    if rgb.dtype == np.uint8:
        return np.ascontiguousarray(rgb)
    values = np.nan_to_num(rgb.astype(np.float32))
    low, high = np.percentile(values, _STRETCH)
    return np.clip((values - low) * (255 / max(high - low, 1e-12)) + 0.5, 0, 255).astype(np.uint8)
