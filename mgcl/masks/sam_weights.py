"""The published weights of Segment Anything: where they are, and loading them."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from segment_anything.modeling import Sam

_ADDRESS = "https://dl.fbaipublicfiles.com/segment_anything/"


class Weights(NamedTuple):
    """One published file; the end of its name is the start of its MD5 digest."""

    file_name: str
    size: str

    @property
    def address(self) -> str:
        """Where it can be downloaded."""
        return _ADDRESS + self.file_name


PUBLISHED = {
    "vit_h": Weights("sam_vit_h_4b8939.pth", "2.6 GB"),
    "vit_l": Weights("sam_vit_l_0b3195.pth", "1.2 GB"),
    "vit_b": Weights("sam_vit_b_01ec64.pth", "375 MB"),
}


def load_sam(model: str, checkpoint: Path, device: "torch.device | str") -> "Sam":
    """A published architecture with the weights of a file.

    Raises:
        ValueError: the file is missing (the message says what to download), torn, or of another
            architecture.
    """
    import torch
    from segment_anything import sam_model_registry

    if not checkpoint.is_file():
        published = PUBLISHED[model]
        raise ValueError(
            f"no weights of Segment Anything {model} at {checkpoint} (masks.sam_checkpoint): "
            f"download {published.address} ({published.size}) to there, "
            "or cut without weights: --masks.generator superpixels"
        )
    try:
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torn bytes can raise anything
        raise ValueError(
            f"{checkpoint} is torn or no weights file ({error}): download it again"
        ) from None
    sam = sam_model_registry[model]()
    try:
        sam.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        first = str(error).splitlines()[:3]
        raise ValueError(f"{checkpoint} does not hold the weights of {model}: {first}") from None
    return sam.eval().to(device)


def digest(checkpoint: Path) -> str:
    """MD5 of a weights file, which names it in a store's manifest."""
    with open(checkpoint, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
