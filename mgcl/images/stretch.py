"""Samples of any depth as 8-bit shades.

Samples of more than 8 bits (sensors deliver 10 to 16, or floats) have no agreed white: they are
stretched from their 2nd to their 98th percentile, over all bands that are shown together.
"""

from typing import NamedTuple

import numpy as np

PERCENTILES = (2.0, 98.0)  # they become black and white
SAMPLED = 1 << 24  # samples that the percentiles are taken from, of a larger picture
_BLOCK = 1 << 20  # samples that are stretched at a time: no array of floats as large as the image


class Stretch(NamedTuple):
    """What is black and what is white."""

    low: float
    high: float

    def shades(self, samples: np.ndarray) -> np.ndarray:
        """Samples of any shape and real type as uint8; NaN and infinity are black."""
        out = np.empty(samples.shape, np.uint8)
        flat, shades = samples.reshape(-1), out.reshape(-1)
        with np.errstate(all="ignore"):  # floats may overflow
            scale = 255 / max(self.high - self.low, 1e-12)
            for at in range(0, flat.size, _BLOCK):
                block = flat[at : at + _BLOCK]
                grey = np.clip((block.astype(np.float64) - self.low) * scale + 0.5, 0, 255)
                shades[at : at + _BLOCK] = np.where(np.isfinite(block), grey, 0)
        return out


def decide(samples: np.ndarray) -> Stretch:
    """The stretch of a picture from its samples, those without data left out already."""
    seen = samples[np.isfinite(samples)]
    if not seen.size:
        return Stretch(0.0, 1.0)
    with np.errstate(all="ignore"):
        return Stretch(*np.percentile(seen, PERCENTILES).tolist())


def to_rgb8(samples: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, bands) of any real number type -> (H, W, 3) uint8.

    Grey is repeated, bands after the third are dropped; NaN and infinity become black.
    """
    if samples.ndim == 2:
        samples = samples[..., None]
    samples = np.ascontiguousarray(samples[..., : 3 if samples.shape[-1] >= 3 else 1])
    if samples.dtype != np.uint8:
        samples = decide(samples[:: 1 + samples.size // SAMPLED]).shades(samples)
    return np.ascontiguousarray(np.broadcast_to(samples, (*samples.shape[:2], 3)))
