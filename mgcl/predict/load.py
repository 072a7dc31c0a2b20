"""A predictor from a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING

from mgcl import old_names

if TYPE_CHECKING:
    from mgcl.predict.predictor import Predictor


WINDOW = 256  # pixels: the tiles of the benchmarks, on which their networks are trained


@old_names.in_call
def load_predictor(
    checkpoint: Path | str,
    *,
    config: Path | None = None,
    masks: str = "",
    threshold: float | str | None = None,
    window: int = WINDOW,
    overlap: float = 0.5,
    device: str = "auto",
) -> "Predictor":
    """A predictor with the weights and the constants of a checkpoint.

    Args:
        checkpoint: of this project, or of the authors.
        config: file of constants; the authors' checkpoints hold none, this project's their own.
        masks: generator of the mask maps: superpixels, sam, sam2 or none; empty: as in training.
        threshold: foreground is over this probability, or "calibrated"; None: as in training.
        window: pixels of the image that a window spans; should be the side of the training's tiles.
        overlap: least share of a window that the next one covers again.
        device: auto, cuda or cpu.

    Raises:
        ValueError: the checkpoint is missing, torn or of another network than `config` says, or
            something that the masks need is missing.
    """
    from mgcl.build import build_setup, build_trained, resolve_threshold
    from mgcl.config import load, with_values
    from mgcl.device import choose_device
    from mgcl.masks.generator import build_generator
    from mgcl.predict.predictor import Predictor

    given = load(["--config", str(config)]) if config else None
    model, constants, said = build_trained(given, Path(checkpoint))
    constants = with_values(constants, masks={"generator": masks} if masks else {})
    place = choose_device(device)
    section = constants.masks
    return Predictor(
        model,
        None if section.generator == "none" else build_generator(section, place),
        image_size=constants.data.image_size,
        setup=build_setup(constants, place),
        window=window,
        overlap=overlap,
        threshold=resolve_threshold(
            constants.test.threshold if threshold is None else threshold, said.get("threshold")
        ),
        vote_share=constants.test.vote_share,
        batch_size=constants.test.batch_size,
    )
