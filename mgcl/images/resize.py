"""Images, labels and mask maps at another size."""

import numpy as np
from PIL import Image


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) -> (size, size, 3), bilinear with antialiasing as torchvision's `Resize` of PIL."""
    if image.shape[:2] == (size, size):
        return image
    resized = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    return np.array(resized)


def resize_nearest(ids: np.ndarray, size: int) -> np.ndarray:
    """(H, W) -> (size, size) as torch's `mode="nearest"`: row i comes from floor(i * H / size)."""
    height, width = ids.shape
    if (height, width) == (size, size):
        return ids
    return ids[np.ix_(_nearest(height, size), _nearest(width, size))]


def _nearest(length: int, size: int) -> np.ndarray:
    scale = np.float32(length) / np.float32(size)  # torch computes the index in float32
    index = np.floor(np.arange(size, dtype=np.float32) * scale).astype(np.intp)
    return np.minimum(index, length - 1)


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"
