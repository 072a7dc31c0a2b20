"""The masks under the cursor, finer and coarser ones."""

import threading
from collections.abc import Sequence

import cv2
import numpy as np

from mgcl.engine.features import Recent
from mgcl.images import windows
from mgcl.masks.generator import MaskGenerator
from mgcl.masks.superpixels import SuperpixelMaskGenerator
from mgcl.page.pictures import Picture, Pictures
from mgcl.predict.inputs import StoredMaps
from mgcl.predict.support import make_mask_maps

LEVELS = 4  # finer superpixels, the network's own masks, and those joined twice
OWN = 1
JOINED = (10.0, 20.0)  # neighbours whose mean colours (8-bit Lab) are nearer than this become one
HELD = 1 << 26  # bytes of masks
Corner = tuple[int, int]


class Regions:
    """Cuts the surroundings of a place into masks on four levels, from fine to coarse."""

    def __init__(
        self,
        pictures: Pictures,
        generator: MaskGenerator | None,
        maps: StoredMaps | None,
        window: int,
    ) -> None:
        """Nothing is cut yet.

        Args:
            pictures: to be cut.
            generator: of the network's masks; None: superpixels.
            maps: masks made beforehand, instead.
            window: side of what is cut at once; around a place it is the one whose middle is
                nearest of those that overlap by half, so that no mask ends near the cursor.
        """
        self.pictures, self.maps, self.window = pictures, maps, window
        self.generator = generator or SuperpixelMaskGenerator()
        self.finer = SuperpixelMaskGenerator(scale=12.0, min_size=0.0002, long_side=256)
        self._held: Recent[np.ndarray] = Recent(HELD, lambda array: array.nbytes)
        self._lock = threading.Lock()

    @property
    def usual(self) -> int:
        """The level to begin with: superpixels are joined, masks of objects are not."""
        own = self.maps is None and isinstance(self.generator, SuperpixelMaskGenerator)
        return OWN + 1 if own else OWN

    def around(self, picture: Picture, y: int, x: int) -> Corner:
        """(y, x) of the window that is cut for a place."""
        found = []
        for at, length in ((y, picture.height), (x, picture.width)):
            begins = np.array(windows.starts(length, self.window, 0.5))
            found.append(int(begins[np.abs(begins + self.window / 2 - at).argmin()]))
        return found[0], found[1]

    def level(self, picture: Picture, corner: Corner, level: int) -> np.ndarray:
        """Mask map of a window: (h, w) uint8, 0 = no mask.

        Raises:
            ValueError, OSError: the picture is damaged, or has no masks.
        """
        with self._lock:  # another thread that wants the same waits
            key = (picture.number, corner, level)
            if key not in self._held:
                image = self._image(picture, corner)
                made = [self.finer(image)] if level == 0 else self._joined(picture, corner, image)
                first = 0 if level == 0 else OWN
                self._held.use({(*key[:2], first + n): one for n, one in enumerate(made)})
            return self._held[key]

    def _image(self, picture: Picture, corner: Corner) -> np.ndarray:
        y, x = corner
        size = min(self.window, picture.height - y), min(self.window, picture.width - x)
        return self.pictures.read(picture, (y, x, *size))

    def _joined(self, picture: Picture, corner: Corner, image: np.ndarray) -> list[np.ndarray]:
        (y, x), (h, w) = corner, image.shape[:2]
        if self.maps is not None:
            own = self.maps.load(picture.path)[y : y + h, x : x + w]
        else:  # mirrored as the network sees it
            whole = windows.cut(image, 0, 0, self.window)
            own = make_mask_maps(self.generator, [whole])[0][:h, :w]
        return [own, *join_alike(image, own, JOINED)]

    def region(self, picture: Picture, y: int, x: int, level: int) -> tuple[Corner, np.ndarray]:
        """Corner and (h, w) bool of the mask at a place; empty where there is none.

        Raises:
            ValueError: the place lies outside, or there is no such level.
        """
        if not (0 <= y < picture.height and 0 <= x < picture.width and 0 <= level < LEVELS):
            raise ValueError(f"{picture.key}: no mask of level {level} at x {x}, y {y}")
        corner = self.around(picture, y, x)
        found = self.level(picture, corner, level)
        number = found[y - corner[0], x - corner[1]]
        return corner, (found == number) & (number > 0)


def join_alike(image: np.ndarray, own: np.ndarray, distances: Sequence[float]) -> list[np.ndarray]:
    """Coarser mask maps: the two most alike neighbours become one, again and again.

    Args:
        image: (h, w, 3) uint8 RGB.
        own: (h, w) uint8 mask map; what has no mask joins nothing.
        distances: of mean colours, rising: a map for each, in which no neighbours are nearer.
    """
    count = int(own.max()) + 1
    sizes = np.bincount(own.ravel(), minlength=count).astype(float)
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    sums = np.stack([np.bincount(own.ravel(), band, count) for band in lab.T], axis=1)
    touch = np.zeros((count, count), bool)
    for a, b in ((own[1:], own[:-1]), (own[:, 1:], own[:, :-1])):
        touch[a.ravel(), b.ravel()] = touch[b.ravel(), a.ravel()] = True
    touch[0] = touch[:, 0] = False
    np.fill_diagonal(touch, False)
    became, found = np.arange(count), []
    for distance in distances:
        while True:
            means = sums / np.maximum(sizes, 1)[:, None]
            apart = np.linalg.norm(means[:, None] - means[None], axis=2)
            apart[~touch] = np.inf
            a, b = np.unravel_index(apart.argmin(), apart.shape)
            if not apart[a, b] < distance:
                break
            sizes[a] += sizes[b]
            sums[a] += sums[b]
            became[became == b] = a
            touch[a] |= touch[b]
            touch[:, a] = touch[a]
            touch[b] = touch[:, b] = touch[a, a] = False
        found.append(became[own].astype(np.uint8))
    return found
