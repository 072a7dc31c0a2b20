"""Checkpoints: the authors' files in both directions, and files that must not be trusted."""

import pickle
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from mgcl import checkpoint
from mgcl.checkpoint import CheckpointError
from mgcl.model.network import MGCL, build_model

PUBLISHED = ("vgg16", "resnet50", "resnet101")
NAMINGS = {
    "new": lambda name: name,
    "old": lambda name: name.replace(".mgcd.", ".hpn_learner."),
    "several GPUs": lambda name: f"module.{name}",
    "old, several GPUs": lambda name: "module." + name.replace(".mgcd.", ".hpn_learner."),
    "any other prefix": lambda name: f"state.of_my.net.{name}",
}


def empty_network(backbone: str, **switches: bool) -> MGCL:
    """A network whose values are arbitrary, built without the time of drawing them."""
    with torch.device("meta"):
        model = build_model(backbone, "none", **switches)
    return model.to_empty(device="cpu").eval()


def constants(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """A tensor of one value for each name, all in one small storage."""
    values = torch.arange(1.0, len(shapes) + 1)
    return {name: v.expand(shape) for (name, shape), v in zip(shapes.items(), values, strict=True)}


def authors_shapes(backbone: str) -> dict[str, torch.Size]:
    """Names and shapes of an authors' file, the unused classifier included."""
    with torch.device("meta"):
        published = getattr(models, backbone)().state_dict()
        head = build_model(backbone, "none").segmentation_head.state_dict()
    shapes = {f"backbone.{name}": value.shape for name, value in published.items()}
    return shapes | {f"segmentation_head.{name}": value.shape for name, value in head.items()}


@pytest.mark.parametrize("backbone", PUBLISHED)
def test_the_authors_files_load_whatever_their_names(backbone, tmp_path):
    model, state = empty_network(backbone), constants(authors_shapes(backbone))
    several = NAMINGS if backbone == "resnet50" else ["old, several GPUs"]
    for naming in (NAMINGS[name] for name in several):
        nn.init.zeros_(next(model.parameters()))
        checkpoint.save(tmp_path / "authors.pt", {naming(k): v for k, v in state.items()})
        said = checkpoint.load_weights(model, tmp_path / "authors.pt")
        assert said == {}
        loaded = model.state_dict()
        assert [k for k, v in loaded.items() if not torch.equal(v, state[k].to(v.dtype))] == []
        unused = {name.split(".")[1] for name in state.keys() - loaded.keys()}
        assert unused == {"classifier"} if backbone == "vgg16" else unused == {"fc"}


def test_a_mismatch_lists_what_is_missing_left_over_and_of_another_shape(tmp_path):
    state = constants(authors_shapes("resnet50"))
    del state["backbone.layer3.2.conv1.weight"], state["segmentation_head.mgcd.decoder1.2.bias"]
    state["backbone.layer5.weight"] = torch.zeros(1)
    state["backbone.conv1.weight"] = torch.zeros(64, 4, 7, 7)
    checkpoint.save(tmp_path / "other.pt", state)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_weights(empty_network("resnet50"), tmp_path / "other.pt")
    _, missing, left_over, shapes = str(caught.value).splitlines()
    assert "other.pt" in str(caught.value)
    assert missing.strip() == (
        "missing: 2: backbone.layer3.2.conv1.weight, segmentation_head.mgcd.decoder1.2.bias"
    )
    assert left_over.strip() == "left over: 1: backbone.layer5.weight"
    assert shapes.strip() == (
        "other shape: 1: backbone.conv1.weight (64, 4, 7, 7) instead of (64, 3, 7, 7)"
    )


def test_a_refused_file_changes_no_weight(tmp_path):
    state = constants(authors_shapes("resnet50"))
    state.pop("segmentation_head.mgcd.decoder1.2.bias")
    checkpoint.save(tmp_path / "other.pt", state)
    model = empty_network("resnet50")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError):
        checkpoint.load_weights(model, tmp_path / "other.pt")
    for name, value in model.state_dict().items():
        assert value.numpy().tobytes() == before[name].numpy().tobytes(), name


def test_another_switch_is_a_mismatch_of_shapes(tmp_path):
    checkpoint.save(tmp_path / "full.pt", constants(authors_shapes("resnet50")))
    with pytest.raises(CheckpointError, match="encoder_layer4.0.conv1.weight .* instead of"):
        checkpoint.load_weights(empty_network("resnet50", background=False), tmp_path / "full.pt")


def own_checkpoint(path: Path, backbone: str = "resnet50") -> MGCL:
    torch.manual_seed(0)
    model = build_model(backbone, "none").eval()
    config = {"model": {"backbone": backbone}, "data": {"benchmark": "isaid", "fold": 0}}
    checkpoint.save(
        path, {"model": model.state_dict(), "config": config, "epoch": 3, "threshold": 0.25}
    )
    return model


def test_an_export_has_the_authors_names_and_loads_back_to_identical_logits(tmp_path, capsys):
    model = own_checkpoint(tmp_path / "best.pt")
    out = tmp_path / "authors.pt"
    assert checkpoint.main(["export", str(tmp_path / "best.pt"), "--to", str(out)]) == 0
    written = torch.load(out, weights_only=True)
    assert {k: v.shape for k, v in written.items()} == authors_shapes("resnet50")
    again = build_model("resnet50", "none").eval()
    assert checkpoint.load_weights(again, out) == {}
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    maps, label = torch.ones(1, 32, 32, dtype=torch.uint8), torch.eye(32, dtype=torch.uint8)
    episode = image, maps, image[None], label[None, None], maps[None]
    with torch.inference_mode():
        assert torch.equal(model(*episode), again(*episode))


def test_own_checkpoints_say_what_they_are(tmp_path):
    model = own_checkpoint(tmp_path / "best.pt", "efficientnet_lite0")
    said = checkpoint.load_weights(model, tmp_path / "best.pt")
    assert (said["epoch"], said["threshold"], said["config"]["data"]["fold"]) == (3, 0.25, 0)
    assert "model" not in said


def test_what_cannot_be_exported_is_said(tmp_path, capsys):
    own_checkpoint(tmp_path / "lite.pt", "efficientnet_lite0")
    checkpoint.save(tmp_path / "authors.pt", {"backbone.conv1.weight": torch.zeros(1)})
    for name, said in ("lite.pt", "no efficientnet_lite0"), ("authors.pt", "no checkpoint of this"):
        words = ["export", str(tmp_path / name), "--to", str(tmp_path / "out.pt")]
        assert checkpoint.main(words) == 1
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out.pt").exists()


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("writer", ["torch", "torch, before zip", "pickle"])
def test_a_hostile_pickle_is_refused_and_runs_nothing(writer, tmp_path):
    path, mark = tmp_path / "hostile.pt", tmp_path / "mark"
    state = {"model": {"backbone.conv1.weight": torch.zeros(1)}, "epoch": Hostile(mark)}
    if writer == "pickle":
        path.write_bytes(pickle.dumps(state, protocol=2))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=writer == "torch")
    with pytest.raises(CheckpointError, match="hostile.pt"):
        checkpoint.load(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Hostile(mark)))
    assert mark.exists()  # so the pickle was a hostile one


def test_a_truncated_file_is_named_wherever_it_was_cut(tmp_path):
    whole = tmp_path / "whole.pt"
    checkpoint.save(whole, {"model": {"a": torch.arange(999.0)}, "epoch": 1})
    data, cut = whole.read_bytes(), tmp_path / "cut.pt"
    for length in [0, 1, 4, 100, len(data) // 2, len(data) - 1]:
        cut.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match="cut.pt"):
            checkpoint.load(cut)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_foreign_file_is_named_whatever_it_holds(tmp_path):
    path, numbers = tmp_path / "foreign.pt", random.Random(0)
    texts = [b"hello\n", b"PK\x03\x04", b"\x80\x02.", b"\x80\x02K\x01.", b"{}", b"\x80\x04N."]
    texts += [pickle.dumps([1, 2]), pickle.dumps({"model": 5}), b"I1\n.", b"(lp0\n."]
    texts += [bytes(numbers.choices(range(256), k=50)) for _ in range(100)]
    texts += [b"\x80\x02" + bytes(numbers.choices(range(256), k=20)) for _ in range(100)]
    for text in texts:
        path.write_bytes(text)
        with pytest.raises(CheckpointError, match="foreign.pt"):
            checkpoint.load_weights(nn.Linear(1, 1), path)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "empty: copy or download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>Quota exceeded</html>", "a web page"),
        (pickle.dumps({"model": Path()}, protocol=2), "it holds pathlib"),
        (b"hello", "torn or no checkpoint"),
    ],
)
def test_what_a_file_is_that_is_no_checkpoint_is_said_in_one_line_with_no_risky_advice(
    content, said, tmp_path
):
    path = tmp_path / "foreign.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=said) as refused:
        checkpoint.load(path)
    message = str(refused.value)
    assert str(path) in message and "weights_only" not in message and "\n" not in message


def test_a_folder_is_no_checkpoint_and_no_file_to_write(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder: give a file"):
        checkpoint.load(tmp_path)
    with pytest.raises(IsADirectoryError) as refused:
        checkpoint.save(tmp_path, {"model": {}})
    assert refused.value.filename == str(tmp_path) and not [*tmp_path.parent.glob(".*.tmp")]


@pytest.mark.parametrize("state", [{"model": 5}, {"model": {"weight": "text"}}, {"model": [1]}, {}])
def test_a_checkpoint_without_weights_is_refused(state, tmp_path):
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match="odd.pt"):
        checkpoint.load_weights(nn.Linear(1, 1), tmp_path / "odd.pt")


def test_a_missing_checkpoint_says_what_makes_it(tmp_path):
    with pytest.raises(CheckpointError, match="nothing.pt.*main_1_mgcl_train.py"):
        checkpoint.load(tmp_path / "nothing.pt")
