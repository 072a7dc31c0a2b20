import torch

from mgcl import checkpoint
from mgcl.model.matcher import Matcher
from mgcl.model.network import SegmentationHead
from mgcl.model.pretrained import build_backbone
from mgcl.model.residual import ResidualMGCL


def episode(shots):
    torch.manual_seed(0)
    image = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    maps = torch.randint(0, 9, (2, 64, 64), dtype=torch.uint8)
    images = torch.randint(0, 255, (2, shots, 3, 64, 64), dtype=torch.uint8)
    labels = torch.randint(0, 2, (2, shots, 64, 64))
    return image, maps, images, labels, torch.stack([maps] * shots, 1)


def test_it_begins_as_the_matcher_with_any_number_of_supports():
    backbone = build_backbone("efficientnet_lite0", "none")
    network = ResidualMGCL(backbone, SegmentationHead()).eval()
    with torch.inference_mode():
        for shots in (1, 3):
            wanted = Matcher(backbone).eval()(*episode(shots))
            torch.testing.assert_close(network(*episode(shots)), wanted)


def test_only_the_head_learns_and_it_leaves_the_matcher():
    network = ResidualMGCL(build_backbone("efficientnet_lite0", "none"), SegmentationHead()).train()
    assert not network.backbone.training and not network.matcher.training
    learning = {name for name, p in network.named_parameters() if p.requires_grad}
    assert learning and all(name.startswith("mgcl.segmentation_head.") for name in learning)
    before = network(*episode(1)).detach()
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        network(*episode(1))[:, :, 1].mean().backward()
        optimizer.step()
    assert not torch.allclose(network(*episode(1)), before)


def test_a_support_without_foreground_speaks_to_the_matcher_alone():
    network = ResidualMGCL(build_backbone("efficientnet_lite0", "none"), SegmentationHead()).eval()
    torch.nn.init.normal_(network.mgcl.segmentation_head.mgcd.decoder2[2].weight)
    query, maps, images, labels, support_maps = episode(3)
    labels[:, 2] = 0
    with torch.inference_mode():
        found = network(query, maps, images, labels, support_maps)
        matched = network.matcher(query, maps, images, labels, support_maps)
        shown = (query, maps, images[:, :2], labels[:, :2], support_maps[:, :2])
        added = network(*shown) - network.matcher(*shown)
    assert added.abs().max() > 0.01
    torch.testing.assert_close(found - matched, added, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(matched, network.matcher(*shown), atol=1e-3)


def test_its_checkpoint_reads_back_whole(tmp_path):
    first = ResidualMGCL(build_backbone("efficientnet_lite0", "none"), SegmentationHead())
    second = ResidualMGCL(build_backbone("efficientnet_lite0", "none"), SegmentationHead())
    with torch.no_grad():
        first.matcher.threshold_of(1).bias.fill_(0.3)
        first.mgcl.segmentation_head.mgcd.decoder2[2].bias.fill_(7.0)
    checkpoint.save(tmp_path / "x.pt", {"model": first.state_dict()})
    checkpoint.load_weights(second, tmp_path / "x.pt")
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
