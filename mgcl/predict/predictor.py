"""Segmentation by example: mark a class in a few images, find it in others of any size.

Arrays in, arrays out; no files, no config, no command line. `python -m mgcl.predict` stands on it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mgcl import old_names
from mgcl.engine.forward import Setup
from mgcl.images import windows
from mgcl.images.resize import resize_image, resize_nearest
from mgcl.masks.generator import MaskGenerator
from mgcl.model.fewshot import Encoded, FewShotNetwork
from mgcl.model.network import logit, votes_needed
from mgcl.predict.support import Example, check_image, check_mask_map, cut_example, make_mask_maps

MAX_SUPPORTS = 255  # votes are counted in bytes


class Prediction(NamedTuple):
    """What was found in an image of H x W pixels."""

    mask: np.ndarray
    """(H, W) uint8, 1 = foreground."""
    probability: np.ndarray
    """(H, W) float32 in [0, 1]: the foreground probability, mean over the supports."""
    votes: np.ndarray
    """(H, W) uint8: supports by which the pixel's probability is over the threshold."""


class _Support(NamedTuple):
    encoded: Encoded
    label: Tensor  # (1, S, S)


class Predictor:
    """Holds encoded supports and segments images by them.

    An image is segmented window by window. A window spans `window` pixels of the image and is
    resized to the resolution of the training: their ratio is the scale at which objects are seen.
    Windows overlap, and each support's log-odds are blended over them: a window fades out as its
    neighbour fades in. Only then the supports vote, by the rule of `aggregate_shots`. Its largest
    vote is that of the whole image: were it the window's own, a single support would decide
    wherever nothing else is found, and the windows' borders would show. An image of one window gets
    what `aggregate_shots` makes of the network's logits.
    """

    @old_names.in_call
    def __init__(
        self,
        model: FewShotNetwork,
        mask_generator: MaskGenerator | None,
        *,
        image_size: int,
        setup: Setup,
        window: int | None = None,
        overlap: float = 0.5,
        threshold: float = 0.5,
        vote_share: float = 0.4,
        batch_size: int = 8,
    ) -> None:
        """Nothing is computed yet.

        Args:
            model: the network; it is moved to the device and set to eval mode.
            mask_generator: cuts every window into masks; None for a network without masks.
            image_size: side at which the network was trained, a multiple of 32.
            setup: device, precision, and what 255 in a label means.
            window: pixels of the image that a window spans; None takes `image_size`, 1:1.
            overlap: least share of a window that its neighbour covers again, 0 <= overlap < 1.
            threshold: a support votes foreground where its probability is over this.
            vote_share: foreground where votes / max(1, largest vote of the image) reaches this.
            batch_size: windows of a forward pass; memory grows with it and with nothing else.

        Raises:
            ValueError: a number out of its range.
        """
        window = image_size if window is None else window
        if image_size < 32 or image_size % 32 or window < 1 or batch_size < 1:
            raise ValueError(
                f"image_size {image_size}, window {window}, batch_size {batch_size}: the first "
                "must be a multiple of 32, the others at least 1"
            )
        if not (0 <= overlap < 1 and 0 < threshold < 1 and 0 <= vote_share <= 1):
            raise ValueError(
                f"overlap {overlap}, threshold {threshold}, vote_share {vote_share}: "
                "shares lie between 0 and 1"
            )
        self.model = model.to(setup.device).eval()
        self.mask_generator = mask_generator
        self.image_size, self.window, self.overlap = image_size, window, overlap
        self.threshold, self.vote_share, self.batch_size = threshold, vote_share, batch_size
        self.setup = setup
        self.examples: list[Example] = []
        self._supports: list[_Support] = []

    def set_support(
        self,
        images: Sequence[np.ndarray],
        labels: Sequence[np.ndarray],
        mask_maps: Sequence[np.ndarray] | None = None,
    ) -> None:
        """Take and encode the supports; they replace earlier ones.

        Of a support larger than the window, the window around its labelled objects is taken (see
        `windows.around_objects`), so that a small object in a large image is seen as large as in a
        query; a smaller one is mirrored at its borders. `examples` holds what was taken.

        Args:
            images: one to 255 arrays (H, W, 3) uint8 RGB, of any sizes.
            labels: (H, W) each: 1 or True the class, 0 or False anything else, 255 ignored.
            mask_maps: (H, W) uint8 each, 0 = no mask; None makes them.

        Raises:
            ValueError: shapes or values that do not fit, a label without foreground, or with
                objects too small to be seen; the message names the support, counted from 1.
        """
        maps = [None] * len(images) if mask_maps is None else mask_maps
        if not len(images) == len(labels) == len(maps) or not 1 <= len(images) <= MAX_SUPPORTS:
            raise ValueError(
                f"{len(images)} support images, {len(labels)} labels, {len(maps)} mask maps: need "
                f"as many of each, 1 to {MAX_SUPPORTS}"
            )
        examples, encoded = [], []
        for k, support in enumerate(zip(images, labels, maps, strict=True), start=1):
            try:
                examples.append(cut_example(*support, self.window, self.mask_generator))
                encoded.append(self._support(examples[-1]))
            except ValueError as error:
                raise ValueError(f"support {k}: {error}") from None
        self.examples, self._supports = examples, encoded

    def count_windows(self, height: int, width: int) -> int:
        """The number of windows that an image of this size takes."""
        down, across = (windows.starts(n, self.window, self.overlap) for n in (height, width))
        return len(down) * len(across)

    @torch.inference_mode()
    def predict(
        self,
        image: np.ndarray,
        mask_map: np.ndarray | None = None,
        *,
        on_windows: Callable[[int], object] | None = None,
    ) -> Prediction:
        """Segment an image of any size.

        Beside the image and the result (6 bytes a pixel), memory holds one row of windows, however
        many there are. The image is read by slices alone, a window at a time: a `numpy.memmap` will
        do.

        Args:
            image: (H, W, 3) uint8 RGB.
            mask_map: (H, W) uint8, 0 = no mask; None makes one for each window.
            on_windows: called with a number of windows as they are finished, for a progress bar.

        Raises:
            ValueError: no support is set, or an array of another kind.
        """
        if not self._supports:
            raise ValueError("no support yet: call set_support first")
        height, width = check_image(image)
        check_mask_map(mask_map, (height, width))
        votes = np.empty((height, width), np.uint8)
        probability = np.empty((height, width), np.float32)
        for rows, margins in self._bands(image, mask_map, on_windows or (lambda count: None)):
            votes[rows] = (margins > logit(self.threshold)).sum(dim=0).byte().cpu().numpy()
            probability[rows] = margins.sigmoid().mean(dim=0).cpu().numpy()
        mask = votes >= votes_needed(max(1, int(votes.max())), self.vote_share)
        return Prediction(mask.astype(np.uint8), probability, votes)

    def _bands(
        self, image: np.ndarray, mask_map: np.ndarray | None, on_windows: Callable[[int], object]
    ) -> Iterator[tuple[slice, Tensor]]:
        """Finished rows of the image from top to bottom: (rows, (K, rows, W) blended log-odds).

        K is 1 where the network gives one answer of all supports.
        """
        side, (height, width) = self.window, image.shape[:2]
        tops, lefts = (windows.starts(n, side, self.overlap) for n in (height, width))
        down, across = (torch.from_numpy(windows.weights(b, side)) for b in (tops, lefts))
        down, across = down.to(self.setup.device), across.to(self.setup.device)
        pending = down.new_zeros(1, side, lefts[-1] + side)  # rows from `top` on
        for row, top in enumerate(tops):
            for first in range(0, len(lefts), self.batch_size):
                batch = lefts[first : first + self.batch_size]
                margins = self._margins(image, mask_map, top, batch)  # (B, K, side, side)
                if len(pending) != margins.shape[1]:  # the first ones tell how many votes there are
                    pending = pending.repeat(margins.shape[1], 1, 1)
                for i, left in enumerate(batch):
                    weight = down[row, :, None] * across[first + i]  # (side, side)
                    pending[..., left : left + side] += margins[i] * weight
                on_windows(len(batch))
            end = tops[row + 1] if row + 1 < len(tops) else height
            yield slice(top, end), pending[:, : end - top, :width]
            pending = F.pad(pending[:, end - top :], (0, 0, 0, end - top))  # zeros below

    def _margins(
        self, image: np.ndarray, mask_map: np.ndarray | None, top: int, lefts: list[int]
    ) -> Tensor:
        """Log-odds of the foreground in the windows at (top, left): (B, K, window, window)."""
        parts = [windows.cut(image, top, left, self.window) for left in lefts]
        if mask_map is None:
            maps = make_mask_maps(self.mask_generator, parts)
        else:
            maps = [windows.cut(mask_map, top, left, self.window) for left in lefts]
        query = self._encode(parts, maps)
        labels = torch.stack([support.label for support in self._supports], dim=1)  # (1, K, S, S)
        logits = self.setup.compare(
            self.model,
            query,
            [support.encoded for support in self._supports],
            labels.expand(len(parts), -1, -1, -1),
            (self.window, self.window),
        )
        return logits[:, :, 1] - logits[:, :, 0]

    @torch.inference_mode()
    def _support(self, example: Example) -> _Support:
        label = torch.from_numpy(resize_nearest(example.label, self.image_size))
        label = label[None].to(self.setup.device)
        encoded = self._encode([example.image], [example.mask_map])
        if not self.model.sees(encoded, self.setup.target(label)):
            raise ValueError(
                "the labelled object is too small to be seen by the network: choose a window of "
                f"fewer pixels than {self.window}, so that it is enlarged"
            )
        return _Support(encoded, label)

    def _encode(self, images: list[np.ndarray], maps: list[np.ndarray]) -> Encoded:
        """Windows (window, window, 3) and their mask maps (window, window), encoded at S x S."""
        side = self.image_size
        resized = np.stack([resize_image(image, side) for image in images])
        masks = np.stack([resize_nearest(mask_map, side) for mask_map in maps])
        pixels = torch.from_numpy(resized).permute(0, 3, 1, 2)
        return self.setup.encode(self.model, pixels, torch.from_numpy(masks))
