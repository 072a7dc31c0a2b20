"""The published weights of Segment Anything: where they are, and loading them."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from segment_anything.modeling import Sam


_SAM = "https://dl.fbaipublicfiles.com/segment_anything/"
_SAM_2 = "https://dl.fbaipublicfiles.com/segment_anything_2/092824/"


class Weights(NamedTuple):
    """One published file."""

    folder: str
    file_name: str
    size: str

    def missing(self, model: str, checkpoint: Path) -> str:
        """What to do where the file is not at `checkpoint`."""
        return (
            f"no weights of Segment Anything {model} at {checkpoint.absolute()} "
            f"(masks.sam_checkpoint): download {self.folder}{self.file_name} ({self.size}) "
            "to there, or cut without weights: --masks.generator superpixels"
        )


PUBLISHED = {
    "vit_h": Weights(_SAM, "sam_vit_h_4b8939.pth", "2.6 GB"),
    "vit_l": Weights(_SAM, "sam_vit_l_0b3195.pth", "1.2 GB"),
    "vit_b": Weights(_SAM, "sam_vit_b_01ec64.pth", "375 MB"),
}
PUBLISHED_2 = {
    "hiera_t": Weights(_SAM_2, "sam2.1_hiera_tiny.pt", "156 MB"),
    "hiera_s": Weights(_SAM_2, "sam2.1_hiera_small.pt", "184 MB"),
    "hiera_b+": Weights(_SAM_2, "sam2.1_hiera_base_plus.pt", "324 MB"),
    "hiera_l": Weights(_SAM_2, "sam2.1_hiera_large.pt", "898 MB"),
}


def load_sam(model: str, checkpoint: Path, device: "torch.device | str") -> "Sam":
    """A published architecture with the weights of a file.

    Raises:
        ValueError: the file is missing (the message says what to download), torn, or of another
            architecture.
    """
    from segment_anything import sam_model_registry

    weights = read_weights(PUBLISHED[model], model, checkpoint)
    sam = fill(sam_model_registry[model](), weights, model, checkpoint)
    return sam.eval().to(device)


def read_weights(published: Weights, model: str, checkpoint: Path) -> Any:
    """What a weights file holds, on the CPU.

    Raises:
        ValueError: the file is missing (the message says what to download) or torn.
    """
    import torch

    if not checkpoint.is_file():
        raise ValueError(published.missing(model, checkpoint))
    try:
        return torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torn bytes can raise anything
        raise ValueError(
            f"{checkpoint} is torn or no weights file ({type(error).__name__}: {error}): "
            "download it again"
        ) from None


def fill(network: Any, weights: Any, model: str, checkpoint: Path) -> Any:
    """The network with those weights.

    Raises:
        ValueError: the weights are of another architecture, or no weights at all.
    """
    try:
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        first = str(error).splitlines()[:3]
        raise ValueError(f"{checkpoint} does not hold the weights of {model}: {first}") from None
    return network


def digest(checkpoint: Path) -> str:
    """MD5 of a weights file, which names it in a store's manifest."""
    with open(checkpoint, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
