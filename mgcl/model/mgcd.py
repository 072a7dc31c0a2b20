"""Mask-guided correlation decoding (MGCD), Sec. III-D of the paper.

A 4-D correlation is kept as (B, hs, ws, hq, wq, C) throughout: the support dims in front, the
channels last. Either convolution of a centre-pivot block is then an ordinary convolution over a
view of that memory, without a copy.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mgcl.model.convolution import Weights, convolve, forget, run
from mgcl.model.fbc import Correlation
from mgcl.model.mgfe import mask_mean

CHUNK = 2**26  # products held at a time (256 MiB in float32); more are computed a part at a time


class CenterPivotConv4d(nn.Module):
    """4-D convolution reduced to the two planes through its centre.

    `conv1` works on the query dims at the support positions that the stride keeps, `conv2` on the
    support dims with that stride; the results are added.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        """Kernel and support stride are the same for both dims."""
        super().__init__()
        self.stride = stride
        self.pad = kernel // 2
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel, 1, kernel // 2)
        self.conv2 = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, hs, ws, hq, wq, C) -> (B, ceil(hs/stride), ceil(ws/stride), hq, wq, C')."""
        if x.shape[1:3] == (1, 1):
            return self._single_support_position(x)
        kept = x[:, :: self.stride, :: self.stride]
        return self._over_query(kept, plus=self._over_support(x.flatten(3, 4)))

    def _over_query(self, x: Tensor, plus: Tensor) -> Tensor:
        """conv1 at every support position, with the biases of both, plus (B, hs, ws, hq*wq, C')."""
        B, hs, ws, hq, wq, _ = x.shape
        planes = x.flatten(0, 2).permute(0, 3, 1, 2)  # (B*hs*ws, C, hq, wq), channels last
        plus = plus.reshape(B * hs * ws, hq, wq, -1).permute(0, 3, 1, 2)
        weight, one, other = parameters = (self.conv1.weight, *self._biases())
        weights = Weights(parameters, lambda: (weight, one + other))
        planes = convolve(planes, self.conv1, weights, plus=plus, spent=True)
        return planes.permute(0, 2, 3, 1).unflatten(0, (B, hs, ws))

    def _biases(self) -> tuple[Tensor, Tensor]:
        assert self.conv1.bias is not None and self.conv2.bias is not None
        return self.conv1.bias, self.conv2.bias

    def _over_support(self, x: Tensor) -> Tensor:
        """conv2 without its bias: (B, hs, ws, Q, C) -> (B, hs', ws', Q, C')."""
        volume = x.permute(0, 4, 1, 2, 3)  # (B, C, hs, ws, Q), channels last
        weight = self.conv2.weight
        volume = convolve(volume, self.conv2, Weights((weight,), lambda: (weight, None)))
        return volume.permute(0, 2, 3, 4, 1)

    def _single_support_position(self, x: Tensor) -> Tensor:
        """With one support position conv2 is its centre alone, which conv1's centre takes up."""
        pad, (one, other), biases = self.pad, (self.conv1.weight, self.conv2.weight), self._biases()

        def make() -> tuple[Tensor, Tensor]:
            centre = other[:, :, pad : pad + 1, pad : pad + 1]
            return one + F.pad(centre, (pad, pad, pad, pad)), biases[0] + biases[1]

        planes = x.flatten(0, 2).permute(0, 3, 1, 2)
        planes = convolve(planes, self.conv1, Weights((one, other, *biases), make))
        return planes.permute(0, 2, 3, 1)[:, None, None]


class CorrelationConv4d(CenterPivotConv4d):
    """The first convolution of an encoder: it reads a correlation that is not multiplied out."""

    def forward(self, correlation: Correlation) -> Tensor:  # type: ignore[override]
        """-> (B, ceil(hs/stride), ceil(ws/stride), hq, wq, C')."""
        chunks = list(correlation.chunks(CHUNK))
        if len(chunks) > 1 and torch.is_grad_enabled():  # the products are made again backward
            parts = [checkpoint(self._chunk, chunk, use_reentrant=False) for chunk in chunks]
        else:
            parts = [self._chunk(chunk) for chunk in chunks]
        over_support, kept = (_join(x) for x in zip(*parts, strict=True))
        return self._over_query(kept.unflatten(3, correlation.query.size), plus=over_support)

    def _chunk(self, correlation: Correlation) -> tuple[Tensor, Tensor]:
        """For some query pixels: conv2 of the correlation, and what of it conv1 needs."""
        both, kept = correlation.dense(self.stride)  # (B, hs, ws, some of hq*wq, C)
        return self._over_support(both), kept


def _join(chunks: tuple[Tensor, ...]) -> Tensor:
    return chunks[0] if len(chunks) == 1 else torch.cat(chunks, dim=3)


class GroupNormReLU4d(nn.GroupNorm):
    """Group normalisation of a (B, hs, ws, hq, wq, C) correlation, and ReLU.

    ReLU works in place, on the norm's own result: in place on a view of it, the backward pass would
    copy the whole four times.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`."""
        flat = x.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)  # (B, C, hs*ws, hq*wq)
        return super().forward(flat).relu_().permute(0, 2, 3, 1).reshape(x.shape)


def encoder(
    channels: list[int],
    kernels: list[int],
    strides: list[int],
    first: type[CenterPivotConv4d] = CenterPivotConv4d,
) -> nn.Sequential:
    """Centre-pivot convolution, group norm (4 groups) and ReLU, once for each kernel."""
    layers: list[nn.Module] = []
    for i, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
        layers += [
            (CenterPivotConv4d if i else first)(channels[i], channels[i + 1], kernel, stride),
            GroupNormReLU4d(4, channels[i + 1]),
            nn.Identity(),  # the ReLU's number in the published names
        ]
    return nn.Sequential(*layers)


def resize_query(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of the query dims: (B, hs, ws, h, w, C) -> (B, hs, ws, *size, C)."""
    planes = x.flatten(0, 2).permute(0, 3, 1, 2)
    planes = F.interpolate(planes, size=size, mode="bilinear", align_corners=True)
    return planes.permute(0, 2, 3, 1).unflatten(0, x.shape[:3])


class MGCD(nn.Module):
    """Squeeze three correlations, merge them top-down, decode with the query's masks."""

    def __init__(self, in_channels: int = 2, decoder_masks: bool = True) -> None:
        """`in_channels`: 2 for foreground and background, 1 for foreground alone."""
        super().__init__()
        squeeze = [in_channels, 16, 32, 64]
        self.encoder_layer4 = encoder(squeeze, [3, 3, 3], [2, 2, 2], CorrelationConv4d)
        self.encoder_layer3 = encoder(squeeze, [5, 3, 3], [4, 2, 2], CorrelationConv4d)
        self.encoder_layer2 = encoder(squeeze, [5, 5, 3], [4, 4, 2], CorrelationConv4d)
        self.encoder_layer4to3 = encoder([64] * 4, [3, 3, 3], [1, 1, 1])
        self.encoder_layer3to2 = encoder([64] * 4, [3, 3, 3], [1, 1, 1])
        self.decoder_masks = decoder_masks
        self.decoder1 = nn.Sequential(
            nn.Conv2d(128 if decoder_masks else 64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 32, 3, padding=1),
            nn.ReLU(),
        )
        self.decoder2 = nn.Sequential(
            nn.Conv2d(32, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 2, 3, padding=1)
        )

    def train(self, mode: bool = True) -> "MGCD":
        """As nn.Module's; what is kept of the convolutions is made anew."""
        forget(self)
        return super().train(mode)

    def forward(self, correlations: list[Correlation], query_mask_map: Tensor) -> Tensor:
        """Three levels, stride 8 first -> (B, 2, 2*hq8, 2*wq8) logits."""
        x8 = self.encoder_layer2(correlations[0])
        x16 = self.encoder_layer3(correlations[1])
        x32 = self.encoder_layer4(correlations[2])
        x = self.encoder_layer4to3(x16 + resize_query(x32, x16.shape[3:5]))
        x = self.encoder_layer3to2(x8 + resize_query(x, x8.shape[3:5]))
        x = x.mean(dim=(1, 2)).permute(0, 3, 1, 2)  # (B, 64, hq8, wq8)
        if self.decoder_masks:
            x = torch.cat([x, mask_mean(x, query_mask_map)], dim=1)
        x = run(self.decoder1, x)
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        return run(self.decoder2, x)
