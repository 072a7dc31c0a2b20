"""Mask maps can be looked at; SAM 2 and others' generators plug in."""

import importlib.util
import json
import re
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from mgcl.config import MasksSection
from mgcl.masks.generator import build_generator
from mgcl.masks.mask_map import as_mask_map
from mgcl.masks.store import MaskStore
from mgcl.visualize import masks
from tests.small_run import REPOSITORY

HALVES = np.repeat([[0, 2, 1, 1]], 10, axis=0).astype(np.uint8).repeat(5, axis=1)  # (10, 20)


def test_the_facts_of_a_map_count_masks_and_covered_pixels():
    found = masks.facts(HALVES)
    assert found.masks == 2 and found.coverage == 0.75
    assert found.shares.tolist() == [0.5, 0.25]
    nothing = masks.facts(np.zeros((4, 4), np.uint8))
    assert nothing.masks == 0 and nothing.coverage == 0


def test_overlays_and_a_summary_of_the_folder_are_written(tmp_path, capsys):
    store = MaskStore(tmp_path / "maps", {"name": "x"})
    for key in ("train/a", "train/b"):
        store.save(key, HALVES if key == "train/a" else np.zeros_like(HALVES))
        image = tmp_path / "data" / "train" / "images" / f"{key[-1]}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((10, 20, 3), 128, np.uint8)).save(image)
    words = [str(tmp_path / "maps"), "--images", str(tmp_path / "data"), "--to", str(tmp_path)]
    assert masks.main(words) == 0
    assert "2 images, 1 without masks" in capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["masks_an_image"]["max"] == 2 and summary["coverage"]["max"] == 0.75
    with Image.open(tmp_path / "train_a.png") as picture:
        halves = np.asarray(picture)[40:]  # below the words
    middle = halves.shape[1] // 2
    assert (halves[:, 5 : middle - 5] == 128).all()
    assert len(np.unique(halves[:, middle:].reshape(-1, 3), axis=0)) >= 3
    assert Image.open(tmp_path / "summary.png").width > 500


def test_what_cannot_be_shown_is_named(tmp_path, capsys):
    assert masks.main([str(tmp_path / "none")]) == 1
    store = MaskStore(tmp_path / "maps", {"name": "x"})
    assert masks.main([str(tmp_path / "maps")]) == 1
    store.save("a", HALVES)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    options = ["--to", str(tmp_path / "out"), "--images", str(tmp_path)]
    assert masks.main([str(tmp_path / "maps"), "b", *options]) == 1
    assert "no image for b" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("sam2") is not None, reason="sam2 is installed here")
def test_sam_2_without_its_package_says_what_to_install():
    with pytest.raises(ValueError, match="pip install sam2"):
        build_generator(MasksSection(generator="sam2"))


@pytest.mark.skipif(importlib.util.find_spec("sam2") is None, reason="needs the package sam2")
def test_sam_2_without_weights_names_their_address_and_size(tmp_path):
    section = MasksSection(generator="sam2", sam_checkpoint=tmp_path / "none.pt")
    with pytest.raises(ValueError, match=r"https://.*sam2.1_hiera_large.pt \(898 MB\)"):
        build_generator(section)


class FakeSam2(torch.nn.Module):
    """What the adapter needs of a model of the package; it has one weight."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.device = torch.device("cpu")


class FakeSam2Generator:
    """Takes the settings of the package's generator (version 1.1.0); makes one mask or none."""

    def __init__(
        self,
        model,
        points_per_side=32,
        points_per_batch=64,
        pred_iou_thresh=0.8,
        stability_score_thresh=0.95,
        box_nms_thresh=0.7,
    ):
        self.model, self.points, self.quality = model, points_per_batch, pred_iou_thresh

    def generate(self, image):
        mask = np.ones(image.shape[:2], bool)
        return [{"segmentation": mask}] if self.model.weight > self.quality else []


@pytest.fixture
def fake_sam2(monkeypatch):
    """A package `sam2` of the adapter's needs, and the architectures that it was asked for."""
    asked = []
    builder, automatic = ModuleType("sam2.build_sam"), ModuleType("sam2.automatic_mask_generator")
    builder.build_sam2 = lambda config, device: asked.append((config, device)) or FakeSam2()
    automatic.SAM2AutomaticMaskGenerator = FakeSam2Generator
    for module in (ModuleType("sam2"), builder, automatic):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return asked


def test_sam_2_runs_through_its_package_with_the_configs_settings(fake_sam2, tmp_path):
    weights = tmp_path / "tiny.pt"
    torch.save({"model": {"weight": torch.ones(1)}}, weights)
    section = MasksSection(generator="sam2", sam2_model="hiera_t", sam_checkpoint=weights)
    generator = build_generator(section)
    assert fake_sam2 == [("configs/sam2.1/sam2.1_hiera_t.yaml", "cpu")]
    assert generator.spec["model"] == "hiera_t" and generator.spec["pred_iou_thresh"] == 0.88
    image = np.zeros((4, 5, 3), np.uint8)
    assert as_mask_map(generator(image)).tolist() == np.ones((4, 5)).tolist()
    none = build_generator(section.model_copy(update={"pred_iou_thresh": 2.0}))
    assert none(image).shape == (0, 4, 5)


def test_weights_of_another_sam_2_or_torn_ones_are_refused(fake_sam2, tmp_path):
    torn, foreign = tmp_path / "torn.pt", tmp_path / "foreign.pt"
    torn.write_bytes(b"half a file")
    torch.save({"model": {"other": torch.ones(1)}}, foreign)
    with pytest.raises(ValueError, match="download it again"):
        build_generator(MasksSection(generator="sam2", sam_checkpoint=torn))
    with pytest.raises(ValueError, match="does not hold the weights of hiera_l"):
        build_generator(MasksSection(generator="sam2", sam_checkpoint=foreign))


@pytest.mark.parametrize("page", ["docs/masks.md"])
def test_the_example_of_an_own_generator_in_the_docs_runs(tmp_path, monkeypatch, page):
    text = (REPOSITORY / page).read_text()
    (example,) = re.findall(r"```python\n(# my_masks.py.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save("pictures/a.png")
    exec(compile(example, "my_masks.py", "exec"), {})
    assert MaskStore("my_masks").load("a").max() == 4
