"""Segmentation by example: mark a class in a few images, find it in others of any size.

Arrays in, arrays out; no files, no config, no command line. `python -m mgcl.predict` stands on it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mgcl import old_names
from mgcl.engine.forward import Setup
from mgcl.masks.generator import MaskGenerator
from mgcl.model.fewshot import FewShotNetwork
from mgcl.model.network import logit, votes_needed
from mgcl.predict.defaults import KEEP_PRESENT
from mgcl.predict.finder import Finder, InMemory
from mgcl.predict.support import Example, check_image, check_mask_map, cut_example

MAX_SUPPORTS = 255  # votes are counted in bytes


class Prediction(NamedTuple):
    """What was found in an image of H x W pixels."""

    mask: np.ndarray
    """(H, W) uint8, 1 = foreground."""
    probability: np.ndarray
    """(H, W) float32 in [0, 1]: the foreground probability, mean over the supports."""
    votes: np.ndarray
    """(H, W) uint8: supports by which the pixel's probability is over the threshold."""
    presence: np.ndarray | None = None
    """(rows, columns) float32: log-odds that each window shows the class; 0 keeps nine of ten that
    do, and the largest is the image's. None where the network does not tell."""


class Predictor:
    """Holds encoded supports and segments images by them.

    An image is segmented window by window. A window spans `window` pixels of the image and is
    resized to the resolution of the training: their ratio is the scale at which objects are seen.
    Windows overlap, and each support's log-odds are blended over them: a window fades out as its
    neighbour fades in. Only then the supports vote, by the rule of `aggregate_shots`. Its largest
    vote is that of the whole image: were it the window's own, a single support would decide
    wherever nothing else is found, and the windows' borders would show. An image of one window gets
    what `aggregate_shots` makes of the network's logits, capped by its presence.
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
        keep_present: float | None = KEEP_PRESENT,
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
            keep_present: see `Finder.bands`.
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
        self.finder = Finder(
            model,
            mask_generator,
            image_size=image_size,
            setup=setup,
            overlap=overlap,
            batch_size=batch_size,
        )
        self.window, self.threshold, self.vote_share = window, threshold, vote_share
        self.keep_present = keep_present
        self.examples: list[Example] = []

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
        examples = []
        for k, support in enumerate(zip(images, labels, maps, strict=True), start=1):
            try:
                examples.append(cut_example(*support, self.window, self.finder.mask_generator))
            except ValueError as error:
                raise ValueError(f"support {k}: {error}") from None
        self.finder.learn({"": examples})
        self.examples = examples

    def count_windows(self, height: int, width: int) -> int:
        """The number of windows that an image of this size takes."""
        down, across = self.finder.grid(height, width, self.window)
        return len(down) * len(across)

    def predict(
        self,
        image: np.ndarray,
        mask_map: np.ndarray | None = None,
        *,
        on_windows: Callable[[int], object] | None = None,
    ) -> Prediction:
        """Segment an image of any size.

        Beside the image and the result (6 bytes a pixel), memory holds two rows of windows, however
        many there are. The image is read by slices alone, a window at a time: a `numpy.memmap` will
        do.

        Args:
            image: (H, W, 3) uint8 RGB.
            mask_map: (H, W) uint8, 0 = no mask; None makes one for each window.
            on_windows: called with a number of windows as they are finished, for a progress bar.

        Raises:
            ValueError: no support is set, or an array of another kind.
        """
        if not self.examples:
            raise ValueError("no support yet: call set_support first")
        height, width = check_image(image)
        check_mask_map(mask_map, (height, width))
        votes = np.empty((height, width), np.uint8)
        probability = np.empty((height, width), np.float32)
        bands = self.finder.bands(
            InMemory(image),
            self.window,
            mask_map=mask_map,
            presence=True,
            keep_present=self.keep_present,
            on_windows=on_windows or (lambda count: None),
        )
        shown = []
        for band in bands:
            shown.append(band.presence)
            rows, (margins,) = slice(band.top, band.top + len(band.valid)), band.margins
            votes[rows] = (margins > logit(self.threshold)).sum(dim=0).byte().cpu().numpy()
            probability[rows] = margins.sigmoid().mean(dim=0).cpu().numpy()
        mask = votes >= votes_needed(max(1, int(votes.max())), self.vote_share)
        told = [row[0] for row in shown if row is not None]
        presence = np.stack(told) if told else None
        return Prediction(mask.astype(np.uint8), probability, votes, presence)
