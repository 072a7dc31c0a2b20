"""Mask maps can be looked at; SAM 2 and others' generators plug in."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgcl.config import MasksSection
from mgcl.masks import build_generator, show
from mgcl.masks.store import MaskStore

HALVES = np.repeat([[0, 2, 1, 1]], 10, axis=0).astype(np.uint8).repeat(5, axis=1)  # (10, 20)


def test_the_facts_of_a_map_count_masks_and_covered_pixels():
    found = show.facts(HALVES)
    assert found.masks == 2 and found.coverage == 0.75
    assert found.shares.tolist() == [0.5, 0.25]
    nothing = show.facts(np.zeros((4, 4), np.uint8))
    assert nothing.masks == 0 and nothing.coverage == 0


def test_overlays_and_a_summary_of_the_folder_are_written(tmp_path, capsys):
    store = MaskStore(tmp_path / "maps", {"name": "x"})
    for key in ("train/a", "train/b"):
        store.save(key, HALVES if key == "train/a" else np.zeros_like(HALVES))
        image = tmp_path / "data" / "train" / "images" / f"{key[-1]}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((10, 20, 3), 128, np.uint8)).save(image)
    words = [str(tmp_path / "maps"), "--images", str(tmp_path / "data"), "--to", str(tmp_path)]
    assert show.main(words) == 0
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
    assert show.main([str(tmp_path / "none")]) == 2
    store = MaskStore(tmp_path / "maps", {"name": "x"})
    assert show.main([str(tmp_path / "maps")]) == 2
    store.save("a", HALVES)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    options = ["--to", str(tmp_path / "out"), "--images", str(tmp_path)]
    assert show.main([str(tmp_path / "maps"), "b", *options]) == 2
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


def test_the_example_of_an_own_generator_in_the_docs_runs(tmp_path, monkeypatch):
    text = (Path(__file__).resolve().parents[1] / "docs" / "masks.md").read_text()
    (example,) = re.findall(r"```python\n(# my_masks.py.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save("pictures/a.png")
    exec(compile(example, "my_masks.py", "exec"), {})
    assert MaskStore("my_masks").load("a").max() == 4
