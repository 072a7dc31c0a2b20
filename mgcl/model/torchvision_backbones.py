"""The published backbones, which torchvision has: it takes a second to import."""

from torch import Tensor, nn
from torchvision import models

from mgcl.model.backbone import Backbone, conv_norm, run_through

WEIGHTS = {
    "resnet50": models.ResNet50_Weights.IMAGENET1K_V1,
    "resnet101": models.ResNet101_Weights.IMAGENET1K_V1,
    "vgg16": models.VGG16_Weights.IMAGENET1K_V1,
}


def build(name: str) -> Backbone:
    """`resnet50`, `resnet101` or `vgg16`, untrained."""
    if name == "vgg16":
        return VGG16()
    return ResNet([3, 4, 6, 3] if name == "resnet50" else [3, 4, 23, 3])


class Bottleneck(models.resnet.Bottleneck):
    """torchvision's block with its norms taken up by the convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h / stride, w / stride)."""
        y = conv_norm(x, self.conv1, self.bn1, activation="relu")
        y = conv_norm(y, self.conv2, self.bn2, activation="relu")
        if self.downsample is not None:
            x = conv_norm(x, *self.downsample)
        return conv_norm(y, self.conv3, self.bn3, plus=x, activation="relu")


class ResNet(Backbone, models.ResNet):
    """ResNet-50 or -101: the outputs of layer2, layer3, layer4."""

    channels = (512, 1024, 2048)
    conv1: nn.Conv2d
    bn1: nn.BatchNorm2d
    maxpool: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, blocks: list[int]) -> None:
        """`blocks`: bottleneck blocks in each of the four layers."""
        super().__init__(Bottleneck, blocks)
        del self.fc

    def outputs(self, images: Tensor) -> list[Tensor]:
        """Of layer2, of the last two blocks of layer3, and of layer4."""
        x = self.maxpool(conv_norm(images, self.conv1, self.bn1, activation="relu"))
        x8 = self.layer2(self.layer1(x))
        before16, x16 = run_through(self.layer3, x8)
        return [x8, before16, x16, *run_through(self.layer4, x16)]


class VGG16(Backbone):
    """VGG16: the third, fourth and fifth max-pool."""

    channels = (256, 512, 512)

    def __init__(self) -> None:
        """Untrained."""
        super().__init__()
        self.features = models.vgg16().features

    def outputs(self, images: Tensor) -> list[Tensor]:
        """Of the third max-pool; of the fourth and fifth, each after what it pools."""
        x8 = self.features[:17](images)
        before16, x16 = run_through(self.features[17:24], x8)
        return [x8, before16, x16, *run_through(self.features[24:], x16)]
