"""Encoding and comparing in two steps: whatever is done to encoded images between them."""

import pytest
import torch

from mgcl.model.baselines import CosinePrototypes, EverythingForeground
from mgcl.model.fewshot import FewShotNetwork, join
from tests.model.test_network import TinyBackbone, episode, tiny_networks


def networks() -> dict[str, FewShotNetwork]:
    return {
        "mgcl": tiny_networks()[0],
        "prototypes": CosinePrototypes(TinyBackbone()).eval(),
        "foreground": EverythingForeground(),
    }


NAMES = list(networks())


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_images_encoded_apart_and_joined_give_the_logits_of_the_whole(name):
    network = networks()[name]
    query, query_map, supports, labels, maps = episode(3)
    together = network(query, query_map, supports, labels, maps)
    images = torch.cat([query[:, None], supports], dim=1).flatten(0, 1)  # (B * (1 + K), 3, H, W)
    mask_maps = torch.cat([query_map[:, None], maps], dim=1).flatten(0, 1)
    kept = [part.clone() for part in network.encode(images, mask_maps).split()]
    shots = [join([kept[k], kept[4 + k]]).to(torch.device("cpu")) for k in range(4)]
    apart = network.compare(shots[0], shots[1:], labels, query_map, (64, 64))
    assert apart.shape == together.shape and apart.shape[1] in (1, 3)
    assert torch.allclose(apart, together, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_one_support_serves_every_query(name):
    network = networks()[name]
    query, query_map, supports, labels, maps = episode(2, batch=3)
    encoded = network.encode(query, query_map)
    ones = [network.encode(supports[0, k : k + 1], maps[0, k : k + 1]) for k in range(2)]
    label = labels[:1].expand(3, -1, -1, -1)
    got = network.compare(encoded, ones, label, query_map, (64, 64))
    many = [one.expand(3) for one in ones]
    assert torch.allclose(got, network.compare(encoded, many, label, query_map, (64, 64)))
    assert got.shape[0] == 3


@torch.inference_mode()
def test_a_kept_image_holds_its_own_memory_and_no_more():
    query, query_map, *_ = episode(1, batch=2)
    whole = tiny_networks()[0].encode(query, query_map)
    view, copy = whole.split()[1], whole.split()[1].clone()
    assert view.nbytes == copy.nbytes == whole.nbytes // 2
    assert copy.levels[0].untyped_storage().nbytes() == copy.levels[0].nbytes
    assert view.levels[0].untyped_storage().nbytes() == whole.levels[0].nbytes


def test_prototypes_keep_what_mgcl_keeps():
    query, query_map, *_ = episode(1)
    mgcl = tiny_networks()[0]
    ours = mgcl.encode(query, query_map)
    theirs = CosinePrototypes(mgcl.backbone).encode(query, query_map)
    pairs = zip(ours.levels, theirs.levels, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_pixel_of_255_in_a_label_is_no_part_of_a_prototype():
    network = networks()["prototypes"]
    query, query_map, supports, labels, maps = episode(1)
    labels[:, :, :32] = 255
    changed = supports.clone()
    changed[:, :, :, :32] = 7
    before, after = (network(query, query_map, s, labels, maps) for s in (supports, changed))
    assert torch.allclose(before, after, atol=1e-6)


def test_the_whole_network_compiles_to_one_graph():
    model, given = tiny_networks()[0], episode(2)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(*given), model(*given), rtol=1e-4, atol=1e-5)
