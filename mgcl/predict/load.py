"""What segments: the network of a checkpoint, or the matcher, which needs none."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mgcl import old_names

if TYPE_CHECKING:
    from mgcl.engine.forward import Setup
    from mgcl.masks.generator import MaskGenerator
    from mgcl.model.fewshot import FewShotNetwork
    from mgcl.predict.predictor import Predictor


WINDOW = 256  # pixels: the tiles of the benchmarks, where a checkpoint does not say
KEPT = 8 << 20  # bytes of a freed block that is kept: the arrays of a scene's rows are larger
BACKBONE = "efficientnet_lite0"  # of the matcher: its weights come with the package


class Loaded(NamedTuple):
    """A network and how it is asked."""

    model: "FewShotNetwork"
    mask_generator: "MaskGenerator | None"
    image_size: int
    setup: "Setup"
    threshold: float
    vote_share: float
    batch_size: int
    window: int
    """Side of the tiles of the training, pixels."""

    def digest(self) -> str:
        """Of the weights."""
        found = hashlib.sha256(type(self.model).__name__.encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            found.update(name.encode())
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()


def load_network(
    checkpoint: Path | str | None,
    *,
    config: Path | None = None,
    masks: str = "",
    threshold: float | str | None = None,
    turns: int = 1,
    device: str = "auto",
) -> Loaded:
    """The network of a checkpoint with its constants, or the matcher.

    Args:
        checkpoint: of this project, or of the authors; None: the matcher, which is not trained.
        config: file of constants; the authors' checkpoints hold none, this project's their own.
        masks: generator of the mask maps: superpixels, sam, sam2 or none; empty: as in training,
            the matcher's are superpixels.
        threshold: foreground is over this probability, or "calibrated"; None: as in training.
        turns: quarter turns of an image that the matcher averages where there is no checkpoint:
            four find more, in four times the time.
        device: auto, cuda or cpu.

    Raises:
        ValueError: the checkpoint is missing, torn or of another network than `config` says,
            something that the masks need is missing, or `threshold` is no probability.
    """
    from mgcl.build import build_network, build_setup, build_trained, resolve_threshold
    from mgcl.config import Config, load, with_values
    from mgcl.device import choose_device, keep_freed_memory
    from mgcl.masks.generator import build_generator
    from mgcl.model.untrained_presence import UntrainedPresence

    if isinstance(threshold, float | int) and not 0 < threshold < 1:
        raise ValueError(f"threshold {threshold}: a probability between 0 and 1")
    constants = load(["--config", str(config)]) if config else None
    said: Any = {}
    model: FewShotNetwork
    if checkpoint is None:
        constants = with_values(
            constants or Config(),
            model={"head": "matcher", "metric": "untrained", "backbone": BACKBONE, "turns": turns},
            masks={"generator": masks or "superpixels"},
            test={"threshold": 0.5},
            data={"ignore_label": 255},
        )
        model = build_network(constants)
        model.presence = UntrainedPresence()
    else:
        if not Path(checkpoint).exists():
            raise ValueError(
                f"no checkpoint {Path(checkpoint).absolute()}: give one that training wrote, or "
                "none for the matcher, which needs no training"
            )
        model, constants, said = build_trained(constants, Path(checkpoint))
        constants = with_values(constants, masks={"generator": masks} if masks else {})
    keep_freed_memory(KEPT)
    place = choose_device(device)
    section = constants.masks
    wanted = constants.test.threshold if threshold is None else threshold
    return Loaded(
        model,
        None if section.generator == "none" else build_generator(section, place),
        image_size=constants.data.image_size,
        setup=build_setup(constants, place),
        threshold=resolve_threshold(wanted, said.get("threshold")),
        vote_share=constants.test.vote_share,
        batch_size=constants.test.batch_size,
        window=int((said.get("data") or {}).get("side") or WINDOW),
    )


@old_names.in_call
def load_predictor(
    checkpoint: Path | str | None = None,
    *,
    config: Path | None = None,
    masks: str = "",
    threshold: float | str | None = None,
    turns: int = 1,
    window: int | None = None,
    overlap: float = 0.5,
    device: str = "auto",
) -> "Predictor":
    """A predictor with the weights and the constants of a checkpoint, or the matcher's.

    Args:
        checkpoint: as of `load_network`, and so are config, masks, threshold, turns and device.
        config: see there.
        masks: see there.
        threshold: see there.
        turns: see there.
        window: pixels of the image that a window spans; None: the side of the training's tiles.
        overlap: least share of a window that the next one covers again.
        device: see there.

    Raises:
        ValueError: as `load_network`.
    """
    from mgcl.predict.predictor import Predictor

    loaded = load_network(
        checkpoint, config=config, masks=masks, threshold=threshold, turns=turns, device=device
    )
    return Predictor(**loaded._asdict() | ({"window": window} if window else {}), overlap=overlap)
