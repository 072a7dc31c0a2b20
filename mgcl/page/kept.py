"""What is computed once and kept on disk: encoded windows, and maps of levels.

Everything here can be deleted at any time: it is made again.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mgcl.files import write_bytes
from mgcl.model.fewshot import Encoded


def digest(*facts: Any) -> str:
    """A short name for what something depends on; arrays count by their bytes."""
    found = hashlib.blake2b(digest_size=12)
    for fact in facts:
        whole = np.ascontiguousarray(fact) if isinstance(fact, np.ndarray) else None
        found.update(f"{fact!r};".encode() if whole is None else whole.tobytes())
    return found.hexdigest()


class KeptFeatures:
    """Encoded images, in half precision, a file each."""

    def __init__(self, folder: Path, like: Encoded) -> None:
        """`like`: an encoded image, by which the shapes are known."""
        self.folder = folder
        self._shapes = [level.shape[1:] for level in like.levels]
        self._dtypes = [level.dtype for level in like.levels]
        self._map = like.mask_map.shape[1:]
        self._there: set[str] = set()

    def __contains__(self, name: str) -> bool:
        """Whether it is kept."""
        if name not in self._there and self._path(name).exists():
            self._there.add(name)
        return name in self._there

    def keep(self, name: str, encoded: Encoded) -> None:
        """Write a single image."""
        levels = [level[0].half().cpu().numpy().tobytes() for level in encoded.levels]
        data = b"".join([*levels, encoded.mask_map[0].cpu().numpy().tobytes()])
        write_bytes(self._path(name), data, durable=False)
        self._there.add(name)

    def load(self, names: Sequence[str]) -> Encoded:
        """Several images as a batch, on the CPU.

        Raises:
            OSError, ValueError: a file was deleted or cut short.
        """
        raw = [self._path(name).read_bytes() for name in names]
        at, levels = 0, []
        for shape, dtype in zip(self._shapes, self._dtypes, strict=True):
            count = shape.numel()
            parts = [np.frombuffer(r, np.float16, count, at) for r in raw]
            levels.append(torch.from_numpy(np.stack(parts)).to(dtype).view(len(raw), *shape))
            at += 2 * count
        maps = [np.frombuffer(r, np.uint8, self._map.numel(), at) for r in raw]
        return Encoded(tuple(levels), torch.from_numpy(np.stack(maps)).view(len(raw), *self._map))

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name


class KeptMaps:
    """Levels (H, W) uint8 of pictures: probability * 255, by what found them and the picture."""

    MOST = 12  # sets that are kept, those used last: undone marks find theirs again

    def __init__(self, folder: Path) -> None:
        """Maps of earlier sessions are taken up."""
        self.folder = folder

    def has(self, made_by: str, picture: str) -> bool:
        """Whether there is a whole map."""
        return self._path(made_by, picture).exists()

    def keep(self, made_by: str, picture: str, levels: np.ndarray) -> None:
        """Write a map, with smaller ones that show the highest of four levels."""
        z = 0
        while True:
            write_bytes(self._path(made_by, picture, z), levels.tobytes(), durable=False)
            if max(levels.shape) <= 256:
                return
            levels, z = highest(levels, 1), z + 1

    def load(self, made_by: str, picture: str, size: tuple[int, int], z: int = 0) -> np.ndarray:
        """The map of a picture of `size`, 2^z times smaller; read as it is looked at.

        Raises:
            OSError, ValueError: it was deleted or cut short.
        """
        for _ in range(z):
            size = -(-size[0] // 2), -(-size[1] // 2)
        return np.memmap(self._path(made_by, picture, z), np.uint8, "r", shape=size)

    def drop_old(self, used: Sequence[str]) -> None:
        """Delete the sets that were used longest ago, but never `used`."""
        for made_by in used:
            if (self.folder / made_by).exists():
                os.utime(self.folder / made_by)
        folders = sorted(self.folder.glob("*"), key=lambda f: f.stat().st_mtime, reverse=True)
        for old in folders[self.MOST :]:
            if old.name not in used:
                shutil.rmtree(old, ignore_errors=True)

    def _path(self, made_by: str, picture: str, z: int = 0) -> Path:
        return self.folder / made_by / f"{picture}.{z}"


def highest(levels: np.ndarray, z: int) -> np.ndarray:
    """(H, W) uint8, 2^z times smaller: the highest of each square, so that small marks show."""
    for _ in range(z):
        height, width = levels.shape
        padded = np.pad(levels, ((0, height % 2), (0, width % 2)))
        levels = np.maximum.reduce([padded[i::2, j::2] for i in (0, 1) for j in (0, 1)])
    return levels


def votes_to_level(margins: Tensor, vote: int) -> np.ndarray:
    """Log-odds of K supports (K, H, W) -> (H, W) uint8: the `vote`-th largest probability * 255."""
    chosen = margins[0] if len(margins) == 1 else margins.topk(vote, dim=0).values[-1]
    return (chosen.sigmoid() * 255).round().byte().cpu().numpy()
