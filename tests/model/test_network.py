"""The head and the whole network against the definition; the vote; names and counts."""

import copy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mgcl.model.backbone import Backbone, conv_norm
from mgcl.model.convolution import convolve, usable
from mgcl.model.network import MGCL, SegmentationHead, aggregate_shots, build_model
from mgcl.model.pretrained import build_backbone
from mgcl.model.torchvision_backbones import Bottleneck
from tests import oracle


def feats(g, batch=2, channels=(6, 5, 4), sides=(16, 8, 4)):
    shapes = [(batch, c, s, s) for c, s in zip(channels, sides, strict=True)]
    return [torch.randn(s, generator=g, dtype=torch.float64) for s in shapes]


def case(seed: int, batch: int = 2, side: int = 32):
    g = torch.Generator().manual_seed(seed)
    maps = torch.randint(0, 20, (2, batch, side // 4, side // 4), generator=g, dtype=torch.uint8)
    maps = maps.repeat_interleave(4, -1).repeat_interleave(4, -2)
    label = torch.randint(0, 2, (batch, side, side), generator=g, dtype=torch.uint8)
    return feats(g, batch), feats(g, batch), label, maps[0], maps[1]


def heads() -> tuple[SegmentationHead, oracle.OracleHead]:
    torch.manual_seed(0)
    slow = oracle.OracleHead().double()
    fast = SegmentationHead().double()
    fast.load_state_dict(slow.state_dict())
    return fast, slow


class TinyBackbone(Backbone):
    """A convolution with BatchNorm and two poolings: three levels at strides 8, 16 and 32."""

    channels = (4, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, 8)
        self.bn = nn.BatchNorm2d(4)

    def levels(self, images):
        x = self.bn(self.conv(images))
        s16 = torch.nn.functional.avg_pool2d(x, 2)
        return [x, s16, torch.nn.functional.avg_pool2d(s16, 2)]


def tiny_networks() -> tuple[MGCL, oracle.OracleMGCL]:
    torch.manual_seed(3)
    fast = MGCL(TinyBackbone(), SegmentationHead())
    slow = oracle.OracleMGCL(fast.backbone, lambda net, image: net.levels(image))
    slow.segmentation_head.load_state_dict(fast.segmentation_head.state_dict())
    return fast.eval(), slow.eval()


def episode(shots: int, batch: int = 2, side: int = 64):
    g = torch.Generator().manual_seed(shots)
    query = torch.randint(0, 256, (batch, 3, side, side), generator=g, dtype=torch.uint8)
    supports = torch.randint(0, 256, (batch, shots, 3, side, side), generator=g, dtype=torch.uint8)
    maps = torch.randint(0, 30, (batch, shots + 1, 8, 8), generator=g, dtype=torch.uint8)
    maps = maps.repeat_interleave(side // 8, -1).repeat_interleave(side // 8, -2)
    labels = torch.randint(0, 2, (batch, shots, side, side), generator=g, dtype=torch.uint8)
    return query, maps[:, 0], supports, labels, maps[:, 1:]


def test_the_head_has_700818_parameters():
    assert sum(p.numel() for p in SegmentationHead().parameters()) == 700_818


def test_parameter_names_are_the_published_ones():
    got = {k: v.shape for k, v in SegmentationHead().state_dict().items()}
    assert got == {k: v.shape for k, v in oracle.OracleHead().state_dict().items()}
    assert got["mgcd.encoder_layer4to3.6.conv1.weight"] == (64, 64, 3, 3)


@pytest.mark.parametrize("seed", range(3))
def test_the_head_s_logits_are_the_definition_s(seed):
    fast, slow = heads()
    query, support, label, query_map, support_map = case(seed)
    got = fast(query, support, label, query_map, support_map)
    stacks = oracle.mask_stack(query_map), oracle.mask_stack(support_map)
    expected = slow(query, support, label, *stacks)
    assert torch.allclose(got, expected, rtol=1e-7, atol=1e-9)


def test_the_head_s_gradients_are_the_definition_s():
    fast, slow = heads()
    query, support, label, query_map, support_map = case(5)
    maps = {fast: (query_map, support_map)}
    maps[slow] = tuple(oracle.mask_stack(m) for m in maps[fast])
    grads = []
    for head in (fast, slow):
        leaves = [f.clone().requires_grad_() for f in (*query, *support)]
        logits = head(leaves[:3], leaves[3:], label, *maps[head])
        oracle.loss(logits, label[:, :: label.shape[1] // logits.shape[2]]).backward()
        grads.append([x.grad for x in (*leaves, *head.parameters())])
    for got, expected in zip(*grads, strict=True):
        assert torch.allclose(got, expected, rtol=1e-6, atol=1e-6 * expected.abs().max().item())


def test_float32_logits_stay_within_1e5_of_float64():
    fast, _ = heads()
    query, support, label, query_map, support_map = case(6)
    exact = fast(query, support, label, query_map, support_map)
    fast.float()
    got = fast(
        [q.float() for q in query], [s.float() for s in support], label, query_map, support_map
    )
    assert ((got - exact).norm() / exact.norm()).item() < 1e-5


def test_the_head_compiles_to_one_graph_forward_and_backward():
    torch.manual_seed(0)
    head = SegmentationHead()
    query, support, label, query_map, support_map = case(4, batch=1)
    feats = [[f.float().requires_grad_() for f in side] for side in (query, support)]
    compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
    expected = head(*feats, label, query_map, support_map)
    logits = compiled(*feats, label, query_map, support_map)
    logits.sum().backward()
    assert torch.allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert all(p.grad is not None for p in head.parameters())


def test_the_network_equals_full_passes_of_the_definition():
    fast, slow = tiny_networks()
    query, query_map, supports, labels, maps = episode(3)
    with torch.no_grad():
        got = fast(query, query_map, supports, labels, maps)
        stacks = torch.stack([oracle.mask_stack(m) for m in maps.unbind(1)], dim=1)
        expected = slow(query, oracle.mask_stack(query_map), supports, labels, stacks)
    assert got.shape == expected.shape == (2, 3, 2, 64, 64)
    assert ((got - expected).norm() / expected.norm()).item() < 1e-5


def test_five_shot_equals_five_one_shots():
    model, _ = tiny_networks()
    query, query_map, supports, labels, maps = episode(5)
    with torch.no_grad():
        together = model(query, query_map, supports, labels, maps)
        alone = [
            model(
                query, query_map, supports[:, k : k + 1], labels[:, k : k + 1], maps[:, k : k + 1]
            )
            for k in range(5)
        ]
    assert torch.allclose(together, torch.cat(alone, dim=1), rtol=1e-4, atol=1e-6)


def test_a_batch_equals_its_images_one_by_one():
    model, _ = tiny_networks()
    inputs = episode(1, batch=3)
    with torch.no_grad():
        together = model(*inputs)
        alone = [model(*(x[b : b + 1] for x in inputs)) for b in range(3)]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-4, atol=1e-6)


def test_a_training_pass_leaves_batchnorm_statistics_alone_and_reaches_every_parameter():
    model, _ = tiny_networks()
    model.train()
    before = {k: v.clone() for k, v in model.named_buffers()}
    model(*episode(1)).square().mean().backward()
    assert before and all(torch.equal(v, before[k]) for k, v in model.named_buffers())
    silent = [k for k, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20), st.integers(1, 2), st.integers(1, 10))
def test_votes_follow_the_rule(seed, batch, shots):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, shots, 2, 3, 4, generator=g)
    if seed % 3 == 0:
        logits[0, :, 0] += 100  # an image without any vote
    assert torch.equal(aggregate_shots(logits), oracle.vote(logits.argmax(2)))


def test_the_threshold_decides_what_counts_as_a_vote():
    p = torch.tensor([0.15, 0.25, 0.45, 0.55])
    logits = torch.stack([torch.zeros(4), (p / (1 - p)).log()])[None, None, :, None]
    for threshold in (0.2, 0.3, 0.5):
        assert (
            aggregate_shots(logits, threshold=threshold)[0, 0].tolist()
            == (p > threshold).int().tolist()
        )


def test_an_image_without_votes_stays_background():
    logits = torch.zeros(1, 5, 2, 2, 2)
    logits[:, :, 0] = 1
    assert not aggregate_shots(logits).any()


@pytest.mark.parametrize(
    "switches", [{"mgfe": False}, {"background": False}, {"decoder_masks": False}]
)
def test_each_ablation_switch_takes_away_what_it_names(switches):
    torch.manual_seed(0)
    query, support, label, query_map, support_map = case(7)
    head = SegmentationHead(**switches).double()
    base = head(query, support, label, query_map, support_map)
    blank = torch.zeros_like(query_map)
    # With MGFE off the support's masks are not looked at; with the decoder's masks off the query's
    # are looked at by MGFE alone; with the background off a pixel outside the object does nothing.
    if "mgfe" in switches:
        assert torch.equal(base, head(query, support, label, query_map, blank))
        assert not torch.equal(base, head(query, support, label, blank, support_map))
    if "background" in switches:
        without = torch.where(label == 1, 1, 255).to(torch.uint8)
        assert torch.equal(base, head(query, support, without, query_map, support_map))
    if "decoder_masks" in switches:
        head.mgfe = False
        plain = head(query, support, label, query_map, support_map)
        assert torch.equal(plain, head(query, support, label, blank, blank))


def test_all_switches_off_ignores_the_masks():
    torch.manual_seed(0)
    query, support, label, query_map, support_map = case(8)
    head = SegmentationHead(mgfe=False, background=False, decoder_masks=False).double()
    blank = torch.zeros_like(query_map)
    assert torch.equal(
        head(query, support, label, query_map, support_map),
        head(query, support, label, blank, blank),
    )


def test_an_episode_without_any_mask_or_foreground_gives_finite_logits_and_gradients():
    model, _ = tiny_networks()
    query, query_map, supports, labels, maps = episode(1)
    logits = model(query, query_map * 0, supports * 0, labels * 0, maps * 0)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    "name, channels",
    [("resnet50", (512, 1024, 2048)), ("vgg16", (256, 512, 512))],
)
def test_backbones_give_strides_8_16_and_32(name, channels):
    backbone = build_backbone(name, "none").eval()
    with torch.no_grad():
        levels = backbone(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert [tuple(f.shape) for f in levels] == [
        (1, c, s, s) for c, s in zip(channels, (8, 4, 2), strict=True)
    ]


def test_resnet50_features_are_torchvision_s_layers():
    from torchvision.models import resnet50

    torch.manual_seed(0)
    published = resnet50().eval()
    backbone = build_backbone("resnet50", "none").eval()
    backbone.load_state_dict(published.state_dict(), strict=False)
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = oracle.resnet_features(published, oracle.normalise(image))
        got = backbone(image)
    for a, b in zip(got, expected, strict=True):
        assert ((a - b).norm() / b.norm()).item() < 1e-5


def test_norms_taken_up_by_convolutions_give_the_features_and_gradients_of_torchvision_s():
    from torchvision.models import resnet

    torch.manual_seed(0)
    down = nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16))
    published = resnet.Bottleneck(8, 4, 2, down).double().eval()
    for norm in (m for m in published.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    folded = Bottleneck(8, 4, 2, copy.deepcopy(down)).double().eval()
    folded.load_state_dict(published.state_dict())
    outputs = []
    for block in (published, folded):
        x = torch.linspace(-1, 1, 2 * 8 * 6 * 6, dtype=torch.float64).view(2, 8, 6, 6)
        x.requires_grad_()
        y = block(x.sin())
        y.square().sum().backward()
        outputs.append([y, x.grad, *(p.grad for p in block.parameters())])
    for a, b in zip(*outputs, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def apart(found, expected) -> float:
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True))


def test_convolutions_without_a_gradient_are_those_with_one_and_follow_their_weights():
    torch.manual_seed(0)
    network = build_backbone("efficientnet_lite0", "none").eval()
    images = [torch.rand(n, 3, 72, 56) for n in (1, 2, 3, 1)]  # odd sizes on the way: 9 by 7

    def worst() -> float:
        with torch.no_grad():
            found = [network.levels(x) for x in images]
        return max(apart(got, network.levels(x)) for got, x in zip(found, images, strict=True))

    assert worst() < 1e-5
    with torch.no_grad():
        network._blocks[3]._depthwise_conv.weight.mul_(2)
        network._bn0.running_mean.add_(1)
    assert worst() < 1e-5
    network.load_state_dict(build_backbone("efficientnet_lite0", "none").state_dict())
    assert worst() < 1e-5
    exact = copy.deepcopy(network).double()
    with torch.no_grad():
        assert apart(network.levels(images[1]), exact.levels(images[1].double())) < 1e-5


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2", "resnet50"])
def test_no_tap_is_overwritten_by_what_follows(name):
    torch.manual_seed(0)
    backbone, images = build_backbone(name, "none").eval(), torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        found = backbone.taps(images)
    for tap, expected in zip(found, backbone.taps(images), strict=True):
        assert expected.any() and apart(tap, expected.detach()) < 1e-5


def fused_step(conv, kind=torch.optim.SGD):
    conv.weight.grad = torch.ones_like(conv.weight)
    kind([conv.weight], lr=0.1, fused=True).step()


def tensors_where_the_first_ones_were(conv):
    for factor in (2, 0.7):
        conv.weight.data = conv.weight.data * factor


def tensors_whose_changes_are_not_counted(conv):
    with torch.inference_mode():
        conv.weight = nn.Parameter(torch.rand(4, 4, 3, 3), requires_grad=False)


CHANGES = [
    fused_step,
    partial(fused_step, kind=torch.optim.Adam),
    tensors_where_the_first_ones_were,
    tensors_whose_changes_are_not_counted,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_convolution_that_is_kept_is_made_anew_after(change):
    torch.manual_seed(0)
    conv, norm, x = nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4).eval(), torch.rand(1, 4, 8, 8)
    with torch.no_grad():
        before = conv_norm(x, conv, norm)
        change(conv)
        found = conv_norm(x, conv, norm)
    assert not torch.allclose(found, before, rtol=1e-2)
    torch.testing.assert_close(found, norm(conv(x)).detach())


@torch.no_grad()
def test_what_pytorch_does_not_count_as_a_change_is_seen_after_eval():
    network, given = tiny_networks()[0].eval(), episode(2)
    network(*given)
    for parameter in network.parameters():
        parameter.data.mul_(1.3)
    assert torch.equal(network.eval()(*given), copy.deepcopy(network)(*given))


@pytest.mark.parametrize("padding", [None, ((0, 0), (1, 1)), ((0, 0), (1, 0))])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("activation", ["", "relu", "relu6"])
def test_sum_and_activation_behind_a_convolution_are_those_with_gradients(
    activation, groups, padding
):
    torch.manual_seed(0)
    conv, x = nn.Conv2d(4, 8, 3, stride=2, groups=groups), 9 * torch.randn(3, 4, 9, 6)
    plus = 9 * torch.randn_like(convolve(x, conv, padding=padding))
    how = {"padding": padding, "activation": activation}
    for more in ({}, {"plus": plus}, {"plus": plus, "spent": True}):
        expected = convolve(x, conv, **how, **more)
        with torch.no_grad():
            found = convolve(x, conv, **how, **more)
            assert ("plus" in more and torch.equal(found, plus)) == ("spent" in more)
        torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:TF32")
@torch.no_grad()
def test_onednn_is_left_out_by_who_switches_it_off():
    with torch.backends.mkldnn.flags(enabled=False):
        assert not usable(torch.rand(1, 3, 8, 8))
    assert usable(torch.rand(1, 3, 8, 8))


def test_unknown_backbone_and_missing_weights_are_named():
    with pytest.raises(ValueError, match="resnet18.*resnet50"):
        build_model("resnet18", "none")
    with pytest.raises(ValueError, match="no/such/file.pth"):
        build_model("resnet50", "no/such/file.pth")
