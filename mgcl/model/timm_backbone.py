"""Backbones of the timm library: `model.backbone = "timm:NAME"` (requirements-timm.txt).

A network whose stages have the strides 8, 16 and 32 gives these. A plain vision transformer
(DINOv2, DINOv3) has one stride: the image is resized so that a patch is 16 of its pixels, and the
layers at half, three quarters and the end of its depth become the three levels.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mgcl.model.backbone import Backbone

PREFIX = "timm:"
STRIDES = (8, 16, 32)


class TimmBackbone(Backbone):
    """A network of timm, by its own mean and standard deviation."""

    def __init__(self, name: str, *, pretrained: bool) -> None:
        """Build it; its weights come from timm's hub if `pretrained`.

        Raises:
            ValueError: timm is not installed, does not know the name, or the network gives no
                three levels; its weights cannot be fetched.
        """
        self.mean, self.std = _statistics(name)  # what the base class keeps as a buffer
        super().__init__()
        self.network = _create(name, pretrained=pretrained)
        info = self.network.feature_info
        strides = info.reduction()
        self.patch = strides[0] if len(set(strides)) == 1 else 0
        if self.patch:
            self.places = (0, 1, 2)
        elif set(STRIDES) <= set(strides):
            self.places = tuple(strides.index(stride) for stride in STRIDES)
        else:
            raise ValueError(f"{PREFIX}{name} has the strides {strides}, but 8, 16, 32 are needed")
        self.channels = tuple(info.channels()[place] for place in self.places)

    def levels(self, images: Tensor) -> list[Tensor]:
        """Strides 8, 16, 32."""
        H, W = images.shape[2:]
        if self.patch:
            size = (H // 16 * self.patch, W // 16 * self.patch)
            images = F.interpolate(images, size=size, mode="bilinear", antialias=True)
        found = self.network(images)
        levels = [_channels_first(found[i], c) for i, c in zip(self.places, self.channels)]  # noqa: B905
        if not self.patch:
            return levels
        return [
            F.interpolate(level, size=(H // stride, W // stride), mode="bilinear")
            if stride < 16
            else F.adaptive_avg_pool2d(level, (H // stride, W // stride))
            for level, stride in zip(levels, STRIDES, strict=True)
        ]


def _channels_first(x: Tensor, channels: int) -> Tensor:
    """(B, h, w, C), as some networks have it, -> (B, C, h, w)."""
    return x if x.shape[1] == channels else x.permute(0, 3, 1, 2)


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise ValueError(
            f"a backbone {PREFIX}NAME needs the library timm: pip install -r requirements-timm.txt"
        ) from None
    return timm


def _statistics(name: str) -> tuple[Any, Any]:
    timm = _timm()
    if not timm.is_model(name.partition(".")[0]):
        raise ValueError(f"timm knows no network {name!r}: timm.list_models() has all names")
    config = timm.get_pretrained_cfg(name)
    return (config.mean, config.std) if config else (Backbone.mean, Backbone.std)


def _create(name: str, *, pretrained: bool) -> Any:
    timm = _timm()
    options: dict[str, Any] = {"pretrained": pretrained, "features_only": True}
    try:
        network = timm.create_model(name, **options)
        strides = network.feature_info.reduction()
        if len(set(strides)) > 1:
            return network
        depth = len(timm.create_model(name, pretrained=False).blocks)
        layers = [depth // 2 - 1, depth * 3 // 4 - 1, depth - 1]
        return timm.create_model(name, out_indices=layers, dynamic_img_size=True, **options)
    except (RuntimeError, OSError, AttributeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{PREFIX}{name} cannot be built ({reason}); where there is no network, download its "
            "weights elsewhere and give their path as model.weights"
        ) from None
