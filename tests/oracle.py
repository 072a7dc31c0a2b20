"""The method in its slow form: every step as the paper defines it, in ordinary vectorised torch.

Nothing here is shared with `mgcl`; the tests hold the fast forms against these, and
`benchmarks.speed` times the two side by side. A mask is one over-segment of an image; a stack
holds the 128 masks of each image of a batch, `(B, 128, H, W)`. Feature lists run from stride 8
to stride 32.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_MASKS = 128


# ---- masks ------------------------------------------------------------------------------------


def merge_masks(masks: np.ndarray, max_masks: int = MAX_MASKS) -> np.ndarray:
    """(M, H, W) bool in any order -> (H, W) uint8: paint large to small, the later mask on top."""
    order = sorted(range(len(masks)), key=lambda m: -int(masks[m].sum()))  # stable
    mask_map = np.zeros(masks.shape[1:], np.uint8)
    for number, m in enumerate(order[:max_masks], start=1):
        mask_map[masks[m] > 0] = number
    return mask_map


def mask_stack(mask_map: Tensor, max_masks: int = MAX_MASKS) -> Tensor:
    """(B, H, W) uint8 mask maps -> (B, M, H, W) uint8 stacks, mask i in channel i - 1."""
    numbers = torch.arange(1, max_masks + 1, dtype=mask_map.dtype)
    return (mask_map[:, None] == numbers[:, None, None]).to(torch.uint8)


def rle_encode(mask: np.ndarray) -> dict:
    """(H, W) bool -> column-major run lengths, starting with the zeros' run."""
    flat = mask.T.ravel() > 0  # (W*H,)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def rle_decode(rle: Mapping) -> np.ndarray:
    """Inverse of `rle_encode` -> (H, W) bool."""
    height, width = rle["size"]
    flat = np.zeros(height * width, bool)
    position, inside = 0, False
    for run in rle["counts"]:
        flat[position : position + run] = inside
        position, inside = position + run, not inside
    return flat.reshape(width, height).T


# ---- MGFE: mask-guided feature enhancement ----------------------------------------------------


def mask_mean(feature: Tensor, masks: Tensor) -> Tensor:
    """(B, C, h, w), (B, M, H, W) -> (B, C, h, w): each pixel becomes the mean of its mask."""
    masks = F.interpolate(masks, feature.shape[-2:], mode="nearest").to(feature.dtype)
    results = []
    for image, its_masks in zip(feature, masks, strict=True):  # (C, h, w), (M, h, w)
        result = torch.zeros_like(image)
        for mask in its_masks:
            mean = (image * mask).sum((1, 2)) / (mask.sum() + 1e-8)  # (C,)
            result = result + mean[:, None, None] * mask
        results.append(result)
    return torch.stack(results)


def enhance(feature: Tensor, masks: Tensor) -> Tensor:
    """(B, C, h, w), (B, M, H, W) -> (B, 2C, h, w): the mask means behind the feature."""
    return torch.cat([feature, mask_mean(feature, masks)], dim=1)


# ---- FBC: foreground and background correlation -----------------------------------------------


def cosine_correlation(query: Tensor, support: Tensor) -> Tensor:
    """(B, C, hq, wq), (B, C, hs, ws) -> (B, hq, wq, hs, ws), at least 0."""
    query = query / (query.norm(dim=1, keepdim=True) + 1e-5)
    support = support / (support.norm(dim=1, keepdim=True) + 1e-5)
    product = torch.bmm(query.flatten(2).transpose(1, 2), support.flatten(2))  # (B, hq*wq, hs*ws)
    product = product.view(len(query), *query.shape[-2:], *support.shape[-2:])
    return product.clamp(min=0)


def correlation(query: Tensor, support: Tensor, label: Tensor) -> Tensor:
    """(B, C, hq, wq), (B, C, hs, ws), (B, H, W) integer label -> (B, 2, hq, wq, hs, ws).

    Channel 0 is the foreground (label 1), channel 1 the background (label 0).
    """
    foreground = (label == 1).to(query.dtype)[:, None]
    background = (label == 0).to(query.dtype)[:, None]
    sides = []
    for side in (foreground, background):
        size = support.shape[-2:]
        side = F.interpolate(side, size, mode="bilinear", align_corners=True)
        sides.append(cosine_correlation(query, support * side))
    return torch.stack(sides, dim=1)


# ---- MGCD: mask-guided correlation decoder ----------------------------------------------------


class CenterPivotConv4d(nn.Module):
    """A 2-D convolution over the query dims plus one over the support dims, by permute and copy."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride, pad = stride, kernel // 2
        self.conv1 = nn.Conv2d(channels_in, channels_out, kernel, padding=pad)
        self.conv2 = nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=pad)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, hq, wq, hs, ws) -> (B, C', hq, wq, ceil(hs/s), ceil(ws/s))."""
        B, C, hq, wq, hs, ws = x.shape
        kept = x[..., :: self.stride, :: self.stride]
        HS, WS = kept.shape[-2:]
        over_query = kept.permute(0, 4, 5, 1, 2, 3).reshape(B * HS * WS, C, hq, wq)
        over_query = self.conv1(over_query).view(B, HS, WS, -1, hq, wq)
        over_query = over_query.permute(0, 3, 4, 5, 1, 2)  # (B, C', hq, wq, HS, WS)
        over_support = x.permute(0, 2, 3, 1, 4, 5).reshape(B * hq * wq, C, hs, ws)
        over_support = self.conv2(over_support).view(B, hq, wq, -1, HS, WS)
        return over_query + over_support.permute(0, 3, 1, 2, 4, 5)


def blocks(channels: Sequence[int], kernels: Sequence[int], strides: Sequence[int]) -> nn.Module:
    """Centre-pivot convolution, GroupNorm and ReLU, once for each kernel."""
    layers: list[nn.Module] = []
    for i, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
        layers += [
            CenterPivotConv4d(channels[i], channels[i + 1], kernel, stride),
            nn.GroupNorm(4, channels[i + 1]),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def resize_query_dims(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize of dims 2 and 3 of (B, C, hq, wq, hs, ws)."""
    B, C, hq, wq, hs, ws = x.shape
    x = x.permute(0, 4, 5, 1, 2, 3).reshape(B * hs * ws, C, hq, wq)
    x = F.interpolate(x, size, mode="bilinear", align_corners=True)
    return x.view(B, hs, ws, C, *size).permute(0, 3, 4, 5, 1, 2)


class MGCD(nn.Module):
    """The three encoders, the top-down path and the mask-guided decoder."""

    def __init__(self) -> None:
        super().__init__()
        channels = (2, 16, 32, 64)
        self.encoder_layer4 = blocks(channels, (3, 3, 3), (2, 2, 2))
        self.encoder_layer3 = blocks(channels, (5, 3, 3), (4, 2, 2))
        self.encoder_layer2 = blocks(channels, (5, 5, 3), (4, 4, 2))
        self.encoder_layer4to3 = blocks((64,) * 4, (3, 3, 3), (1, 1, 1))
        self.encoder_layer3to2 = blocks((64,) * 4, (3, 3, 3), (1, 1, 1))
        self.decoder1 = nn.Sequential(
            nn.Conv2d(128, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 32, 3, padding=1), nn.ReLU()
        )
        self.decoder2 = nn.Sequential(
            nn.Conv2d(32, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 2, 3, padding=1)
        )

    def squeeze(self, correlations: Sequence[Tensor]) -> list[Tensor]:
        """Correlations of stride 8, 16, 32 -> the encoders' outputs, (B, 64, hq, wq, 1, 1)."""
        encoders = (self.encoder_layer2, self.encoder_layer3, self.encoder_layer4)
        return [encode(c) for encode, c in zip(encoders, correlations, strict=True)]

    def forward(self, correlations: Sequence[Tensor], query_masks: Tensor) -> Tensor:
        """Correlations of stride 8, 16, 32 and the query's masks -> (B, 2, 2*h8, 2*w8) logits."""
        s8, s16, s32 = self.squeeze(correlations)
        s16 = self.encoder_layer4to3(s16 + resize_query_dims(s32, s16.shape[2:4]))
        s8 = self.encoder_layer3to2(s8 + resize_query_dims(s16, s8.shape[2:4]))
        mixed = s8.mean((4, 5))  # (B, 64, h8, w8)
        x = self.decoder1(enhance(mixed, query_masks))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        return self.decoder2(x)


class OracleHead(nn.Module):
    """MGFE, FBC and MGCD under the parameter names of the published checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.mgcd = MGCD()

    def forward(
        self,
        query_feats: Sequence[Tensor],
        support_feats: Sequence[Tensor],
        support_label: Tensor,
        query_masks: Tensor,
        support_masks: Tensor,
    ) -> Tensor:
        """Three levels of features, (B, H, W) label, (B, M, H, W) stacks -> logits."""
        correlations = [
            correlation(enhance(q, query_masks), enhance(s, support_masks), support_label)
            for q, s in zip(query_feats, support_feats, strict=True)
        ]
        return self.mgcd(correlations, query_masks)


# ---- the network ------------------------------------------------------------------------------

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalise(image: Tensor) -> Tensor:
    """(..., 3, H, W) uint8 -> float, by the ImageNet statistics; floats are normalised already."""
    if image.is_floating_point():
        return image
    mean = torch.tensor(IMAGENET_MEAN)[:, None, None]
    std = torch.tensor(IMAGENET_STD)[:, None, None]
    return (image / 255 - mean) / std


def resnet_features(resnet: nn.Module, image: Tensor) -> list[Tensor]:
    """The outputs of layer2, layer3 and layer4 of a torchvision ResNet."""
    x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(image))))
    s8 = resnet.layer2(resnet.layer1(x))
    s16 = resnet.layer3(s8)
    return [s8, s16, resnet.layer4(s16)]


class OracleMGCL(nn.Module):
    """Backbone and head; K shots are K full passes."""

    def __init__(
        self, backbone: nn.Module, features: Callable[[nn.Module, Tensor], Sequence[Tensor]]
    ) -> None:
        super().__init__()
        self.backbone, self.features = backbone, features
        self.segmentation_head = OracleHead()

    def train(self, mode: bool = True) -> "OracleMGCL":
        """The BatchNorm layers of the backbone stay in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def one_shot(
        self, query: Tensor, query_masks: Tensor, support: Tensor, label: Tensor, masks: Tensor
    ) -> Tensor:
        """(B, 3, H, W) uint8 images, (B, M, H, W) stacks, (B, H, W) label -> (B, 2, H, W)."""
        query_feats = self.features(self.backbone, normalise(query))
        support_feats = self.features(self.backbone, normalise(support))
        logits = self.segmentation_head(query_feats, support_feats, label, query_masks, masks)
        return F.interpolate(logits, query.shape[-2:], mode="bilinear", align_corners=True)

    def forward(
        self, query: Tensor, query_masks: Tensor, supports: Tensor, labels: Tensor, masks: Tensor
    ) -> Tensor:
        """As `one_shot` with K supports in dim 1 -> (B, K, 2, H, W)."""
        shots = zip(supports.unbind(1), labels.unbind(1), masks.unbind(1), strict=True)
        return torch.stack([self.one_shot(query, query_masks, *shot) for shot in shots], dim=1)


def vote(votes: Tensor) -> Tensor:
    """(B, K, H, W) in {0, 1} -> (B, H, W): votes / max(1, the image's largest) >= 0.4."""
    votes = votes.long().sum(1)
    largest = votes.amax((1, 2), keepdim=True).clamp(min=1)
    return (5 * votes >= 2 * largest).to(torch.uint8)


# ---- metric -----------------------------------------------------------------------------------


def scores(
    predictions: Sequence[Tensor], labels: Sequence[Tensor], class_ids: Sequence[int]
) -> tuple[float, float, dict[int, float]]:
    """(H, W) predictions and labels of all episodes -> mIoU, FB-IoU, class IoUs in percent."""
    inter = {c: [0, 0] for c in class_ids}  # background, foreground
    union = {c: [0, 0] for c in class_ids}
    for prediction, label, c in zip(predictions, labels, class_ids, strict=True):
        counted = label != 255
        for side in (0, 1):
            p, t = (prediction == side) & counted, (label == side) & counted
            inter[c][side] += int((p & t).sum())
            union[c][side] += int((p | t).sum())
    class_iou = {c: 100 * inter[c][1] / max(1, union[c][1]) for c in sorted(inter)}
    pooled = [
        100 * sum(i[side] for i in inter.values()) / max(1, sum(u[side] for u in union.values()))
        for side in (0, 1)
    ]
    return sum(class_iou.values()) / len(class_iou), sum(pooled) / 2, class_iou


# ---- training ---------------------------------------------------------------------------------


def poly_rate(base: float, epoch: int, epochs: int) -> float:
    """The base rate of an epoch, counted from 0."""
    return base * (1 - epoch / epochs) ** 0.9


def multiplier(name: str) -> float:
    """Of the base rate, by the parameter's name."""
    return (2 if name.endswith("bias") else 1) / (1000 if name.startswith("backbone.") else 1)


def loss(logits: Tensor, label: Tensor) -> Tensor:
    """(B, 2, H, W), (B, H, W) -> mean over all pixels of -log p of the right class."""
    foreground = label == 1
    log_p = logits - logits.logsumexp(1, keepdim=True)
    return -torch.where(foreground, log_p[:, 1], log_p[:, 0]).mean()


class Optimiser:
    """SGD with momentum 0.9, or Adam; weight decay 5e-4 as L2 in the gradient."""

    def __init__(self, model: nn.Module, kind: str) -> None:
        self.model, self.kind, self.steps = model, kind, 0
        zeros = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        self.first, self.second = zeros, {name: z.clone() for name, z in zeros.items()}

    @torch.no_grad()
    def step(self, base: float) -> None:
        self.steps += 1
        for name, p in self.model.named_parameters():
            if p.grad is None:
                continue
            grad, rate = p.grad + 5e-4 * p, base * multiplier(name)
            if self.kind == "sgd":
                self.first[name] = 0.9 * self.first[name] + grad
                p -= rate * self.first[name]
            else:
                self.first[name] = 0.9 * self.first[name] + 0.1 * grad
                self.second[name] = 0.999 * self.second[name] + 0.001 * grad**2
                mean = self.first[name] / (1 - 0.9**self.steps)
                spread = (self.second[name] / (1 - 0.999**self.steps)).sqrt()
                p -= rate * mean / (spread + 1e-8)


def train_step(
    model: OracleMGCL, optimiser: Optimiser, episode: Sequence[Tensor], label: Tensor, base: float
) -> float:
    """One 1-shot step on (query, masks, support, label, masks) and the query's label -> loss."""
    model.train()
    model.zero_grad()
    value = loss(model.one_shot(*episode), label)
    if not math.isfinite(value.item()):
        raise FloatingPointError(f"loss is {value.item()}")
    value.backward()
    optimiser.step(base)
    return value.item()
