"""Segment by example: a class marked in a few images, found in others.

`load_predictor` and `Predictor` are imported when they are asked for: `--help` does without torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgcl.predict.load import load_predictor
    from mgcl.predict.predictor import Predictor

__all__ = ["Predictor", "load_predictor"]


def __getattr__(name: str) -> Any:
    """Hand on what stands in the files of this folder."""
    if name == "load_predictor":
        from mgcl.predict.load import load_predictor

        return load_predictor
    if name == "Predictor":
        from mgcl.predict.predictor import Predictor

        return Predictor
    raise AttributeError(name)
