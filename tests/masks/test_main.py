"""main_0_extract_masks.py as a user runs it."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from PIL import Image

import main_0_extract_masks
from mgcl.config import MasksSection
from mgcl.files import DiskFullError
from mgcl.masks.generator import build_generator
from mgcl.masks.store import MaskStore
from tests.small_run import REPOSITORY


def run_main(*words: object, **environment: str) -> SimpleNamespace:
    """The script in this process, with other variables in the environment."""
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, environment), redirect_stdout(out), redirect_stderr(err):
        try:
            status = main_0_extract_masks.main([str(word) for word in words])
        except SystemExit as stop:
            status = stop.code
    return SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=err.getvalue())


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        pixels = rng.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.{'png' if i % 2 else 'tif'}")
    return folder


def own(pictures: Path, *words: object) -> list:
    return ["--masks.images", pictures, "--masks.generator", "superpixels", *words]


def test_the_script_runs_from_the_command_line(pictures):
    command = [
        sys.executable,
        str(REPOSITORY / "main_0_extract_masks.py"),
        *map(str, own(pictures)),
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert result.returncode == 0, result.stderr
    assert "5 made, 0 were there" in result.stdout
    assert result.stderr == ""  # no progress bar where it would fill a log


def test_a_folder_of_own_images_is_cut_and_a_second_run_finds_all_there(pictures):
    first = run_main(*own(pictures))
    assert first.returncode == 0, first.stderr
    assert "5 made, 0 were there" in first.stdout
    store = MaskStore(pictures.with_name("pictures_masks"))
    assert store.load("3").shape == (43, 50) and store.load("3").min() == 1
    assert "0 made, 5 were there" in run_main(*own(pictures)).stdout


def test_processes_of_torchrun_on_several_machines_divide_the_images():
    shares = []
    for machine in range(2):
        for rank in range(3):
            environment = {"RANK": str(rank), "WORLD_SIZE": "3"}
            with mock.patch.dict(os.environ, environment):
                shares.append(main_0_extract_masks.shard(f"{machine}/2"))
    assert shares == [(i, 6) for i in range(6)]


def test_torchrun_makes_all_maps_though_one_process_meets_an_unreadable_image(pictures):
    (pictures / "0.tif").write_bytes(b"no image")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    command += [str(REPOSITORY / "main_0_extract_masks.py"), *map(str, own(pictures))]
    result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert result.returncode == 1
    assert result.stdout.count("5 images ->") == result.stdout.count("made, ") == 1
    assert "4 made, 0 were there" in result.stdout and "0.tif" in result.stdout
    assert MaskStore(pictures.with_name("pictures_masks")).keys() == ["1", "2", "3", "4"]


def test_an_unreadable_image_is_named_and_the_status_tells(pictures):
    (pictures / "9.png").write_bytes(b"no image")
    result = run_main(*own(pictures))
    assert result.returncode == 1
    assert "1 images could not be read" in result.stdout and "9.png" in result.stdout
    assert "5 made" in result.stdout


def test_other_options_in_the_same_folder_are_refused(pictures):
    run_main(*own(pictures))
    result = run_main(*own(pictures, "--masks.superpixel_scale", 90))
    assert result.returncode == 1
    assert "scale: there 50.0, wanted 90.0" in result.stderr


@pytest.mark.parametrize(
    "words, status, message",
    [
        (["--masks.generator", "sam"], 1, "https://dl.fbaipublicfiles.com"),
        (["--masks.images", "nowhere"], 1, "no images"),
        (["--masks.shard", "2/2"], 2, "counts from 0 to 1"),
        (["--masks.colour", "1"], 2, "unknown"),
    ],
)
def test_what_is_missing_ends_with_status_1_and_a_mistake_with_2(pictures, words, status, message):
    result = run_main(*own(pictures), *words)
    assert result.returncode == status
    assert message in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "stop, status, message",
    [
        (DiskFullError(28, "full", "maps"), 1, "make room"),
        (MemoryError("set a lower prompt_batch"), 1, "set a lower prompt_batch"),
        (PermissionError(13, "Permission denied", "maps"), 1, "pictures_masks cannot be written"),
        (KeyboardInterrupt(), 130, "run it again"),
    ],
)
def test_a_run_that_has_to_end_says_why_in_words(pictures, monkeypatch, stop, status, message):
    monkeypatch.setattr(main_0_extract_masks, "extract", mock.Mock(side_effect=stop))
    result = run_main(*own(pictures))
    assert result.returncode == status
    assert message in result.stderr and "Traceback" not in result.stderr


def test_no_generator_is_built_for_none():
    with pytest.raises(ValueError, match="'none' cuts no masks"):
        build_generator(MasksSection(generator="none"))
