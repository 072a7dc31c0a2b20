"""Samples of any depth as 8-bit RGB.

Samples of more than 8 bits (sensors deliver 10 to 16, or floats) have no agreed white: they are
stretched from their 2nd to their 98th percentile, over all bands of the file together. Cut large
scenes into 8-bit tiles first (`mgcl.datasets.prepare`), so that a scene is stretched as a whole and
not tile by tile.
"""

import numpy as np

_STRETCH = (2.0, 98.0)  # percentiles that become black and white
_SAMPLED = 1 << 24  # samples that the percentiles are taken from, in evenly spread rows
_BLOCK = 1 << 20  # samples that are stretched at a time


def to_rgb8(samples: np.ndarray, nodata: float | None = None) -> np.ndarray:
    """(H, W) or (H, W, bands) of any real number type -> (H, W, 3) uint8.

    Grey is repeated, bands after the third are dropped; NaN, infinity and `nodata` become black.
    """
    if samples.ndim == 2:
        samples = samples[..., None]
    samples = samples[..., :3] if samples.shape[-1] >= 3 else samples[..., :1]
    grey = samples if samples.dtype == np.uint8 else _stretch(samples, nodata)
    return np.ascontiguousarray(np.broadcast_to(grey, (*grey.shape[:2], 3)))


def _stretch(samples: np.ndarray, nodata: float | None) -> np.ndarray:
    """(H, W, bands) -> uint8, from black at the low percentile to white at the high one."""
    seen = samples[:: 1 + samples.size // _SAMPLED]
    seen = seen[_is_data(seen, nodata)]
    out = np.empty(samples.shape, np.uint8)
    rows = 1 + _BLOCK // samples[0].size  # no array of floats as large as the image
    with np.errstate(all="ignore"):  # floats may overflow
        low, high = np.percentile(seen, _STRETCH).tolist() if seen.size else (0.0, 1.0)
        scale = 255 / max(high - low, 1e-12)
        for top in range(0, len(samples), rows):
            block = samples[top : top + rows]
            grey = np.clip((block.astype(np.float64) - low) * scale + 0.5, 0, 255)
            out[top : top + rows] = np.where(_is_data(block, nodata), grey, 0)
    return out


def _is_data(samples: np.ndarray, nodata: float | None) -> np.ndarray:
    finite = np.isfinite(samples)
    return finite if nodata is None else finite & (samples != nodata)
