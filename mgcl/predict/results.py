"""What `mgcl.predict` writes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mgcl.files import write_json
from mgcl.images.write import write_png
from mgcl.predict.predictor import Prediction
from mgcl.visualize.overlays import PREDICTED, outlined

KINDS = ("masks", "overlays", "probabilities")  # folders of results
OVERVIEW, FACTS = "overview.png", "predict.json"


class Results:
    """A folder of results: NAME.png in a folder for each kind, and what made them in FACTS."""

    def __init__(self, folder: Path, *, probabilities: bool) -> None:
        """Write nothing yet.

        Raises:
            ValueError: the folder holds folders of these names that were not written as results.
        """
        self.folder = folder
        self.kinds = KINDS if probabilities else KINDS[:2]
        foreign = [kind for kind in self.kinds if (folder / kind).exists()]
        if foreign and not (folder / FACTS).exists():
            raise ValueError(
                f"{folder / foreign[0]} is there and holds no results of this program (there is no "
                f"{FACTS} beside it): give another --to"
            )

    def refuse_overwriting(self, names: Iterable[str], inputs: Iterable[Path]) -> None:
        """Results replace earlier results, but no image or label that is read.

        Raises:
            ValueError: a result would have the path of an input.
        """
        read = {path.resolve() for path in inputs}
        for name in names:
            for path in (self.path(kind, name) for kind in self.kinds):
                if path.resolve() in read:
                    raise ValueError(f"{path} is read and would be overwritten: give another --to")

    def path(self, kind: str, name: str) -> Path:
        """File of a query's result."""
        return self.folder / kind / f"{name}.png"

    def write_facts(self, **facts: Any) -> None:
        """What the results are made with, as JSON."""
        write_json(self.folder / FACTS, facts)

    def write(self, name: str, image: np.ndarray, prediction: Prediction) -> None:
        """Mask 0 / 255 (8 bits), overlay (RGB), probability * 65535 (16 bits) if asked for."""
        write_png(self.path("masks", name), 255 * prediction.mask)
        write_png(self.path("overlays", name), outlined(image, prediction.mask, PREDICTED))
        if "probabilities" in self.kinds:
            levels = np.round(prediction.probability * 65535).astype(np.uint16)
            write_png(self.path("probabilities", name), levels)
