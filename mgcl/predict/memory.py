"""How much memory a picture takes, said before it is taken."""

from pathlib import Path

from mgcl.images.base import Raster
from mgcl.predict.defaults import LARGEST, SMALLEST
from mgcl.predict.finder import Finder

_FREE = Path("/proc/meminfo")


def needed(finder: Finder, height: int, width: int, window: int) -> int:
    """Bytes beside the network: two rows of windows, the log-odds of one, a batch."""
    votes = finder.votes
    across = max(width, window)
    rows = 2 * 4 * min(window, height) * width  # pixels with their data
    pending = 3 * 4 * votes * window * across
    batch = finder.batch_size * window**2 * (8 + 16 * votes)
    return rows + pending + batch


def check_memory(finder: Finder, raster: Raster, window: int) -> None:
    """Refuse what the memory does not hold.

    Raises:
        ValueError: so it is; the message says how much it takes and what to change.
    """
    if not SMALLEST <= window <= LARGEST:
        raise ValueError(
            f"{raster.path}: a window of {window} pixels; it may span {SMALLEST} to {LARGEST}"
        )
    takes, free = needed(finder, raster.height, raster.width, window), available()
    if free is not None and takes > free:
        raise ValueError(
            f"{raster.path}: windows of {window} pixels take about {takes / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free: choose a smaller --window or fewer supports"
        )


def available() -> int | None:
    """Bytes that are free on this machine; None where nobody says."""
    try:
        lines = _FREE.read_text().splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return int(found[0][1]) * 1024 if found else None
