"""Extraction over many images: sharded, restartable, honest about what failed."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgcl.console import Lines
from mgcl.files import DiskFullError
from mgcl.images.find import find_images
from mgcl.masks import extract as extract_module
from mgcl.masks.extract import extract
from mgcl.masks.store import MaskStore
from tests.small_run import REPOSITORY


class Bands:
    """Cuts at the image's mean grey: enough of a generator for a test."""

    spec = {"name": "bands"}

    def __init__(self):
        self.seen = 0

    def __call__(self, image):
        self.seen += 1
        grey = image.mean(axis=2)
        return np.stack([grey > grey.mean(), grey <= grey.mean()])


class BatchedBands(Bands):
    batch_size = 3

    def many(self, images):
        assert 1 <= len(images) <= 3
        return [self(image) for image in images]


def write_images(folder: Path, count: int = 10) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / ("train" if i % 2 else "val") / f"P{i:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + i, 24, 3), dtype=np.uint8)).save(path)
    return find_images(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def run(images, root, generator=None, **options):
    generator = generator or Bands()
    return extract(images, generator, MaskStore(root, generator.spec), quiet=True, **options)


def test_a_second_run_does_only_what_is_missing(tmp_path):
    images = write_images(tmp_path / "images")
    assert run(images, tmp_path / "maps")[:2] == (10, 0)
    before = contents(tmp_path / "maps")
    MaskStore(tmp_path / "maps").path("val/P0004").unlink()
    again = Bands()
    assert run(images, tmp_path / "maps", again)[:2] == (1, 9)
    assert again.seen == 1
    assert contents(tmp_path / "maps") == before


def test_three_shards_and_batches_give_the_files_of_one_run(tmp_path):
    images = write_images(tmp_path / "images")
    run(images, tmp_path / "one")
    made = [run(images, tmp_path / "three", BatchedBands(), shard=(i, 3)).made for i in range(3)]
    assert made == [4, 3, 3]  # no image twice
    assert contents(tmp_path / "three") == contents(tmp_path / "one")


class BandsInProcesses(Bands):
    in_processes = True


def test_a_generator_that_allows_it_cuts_in_processes_and_gives_the_same_files(tmp_path):
    images = write_images(tmp_path / "images")
    torn = images["train/P0003"]
    torn.write_bytes(torn.read_bytes()[:200])
    alone, together = Bands(), BandsInProcesses()
    expected = run(images, tmp_path / "one", alone)
    assert run(images, tmp_path / "two", together) == expected and expected.made == 9
    assert (alone.seen, together.seen) == (9, 0)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_further_run_picks_up_what_a_dead_shard_left(tmp_path):
    images = write_images(tmp_path / "images")
    run(images, tmp_path / "maps", shard=(1, 2))
    assert run(images, tmp_path / "maps")[:2] == (5, 5)


def test_a_log_gets_lines_instead_of_a_bar_and_a_quiet_run_gets_nothing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(Lines, "SECONDS", 0.0)
    images = write_images(tmp_path / "images")
    extract(images, Bands(), MaskStore(tmp_path / "maps", Bands.spec))
    shown = capsys.readouterr()
    assert "masks: 10 of 10" in shown.err and shown.out == ""
    MaskStore(tmp_path / "maps").path("val/P0000").write_bytes(b"torn")
    run(images, tmp_path / "maps")
    assert capsys.readouterr() == ("", "")


def test_an_unreadable_image_is_named_and_counted_and_the_rest_goes_on(tmp_path):
    images = write_images(tmp_path / "images")
    torn = images["train/P0003"]
    torn.write_bytes(torn.read_bytes()[:200])
    summary = run(images, tmp_path / "maps")
    assert summary.made == 9 and list(summary.unreadable) == ["train/P0003"]
    assert "P0003.png" in summary.unreadable["train/P0003"]
    assert "train/P0003" not in MaskStore(tmp_path / "maps")


def test_damaged_maps_are_found_named_and_made_again(tmp_path):
    images = write_images(tmp_path / "images")
    root = tmp_path / "maps"
    run(images, root)
    before = contents(root)
    store = MaskStore(root)
    whole = store.path("val/P0000").read_bytes()
    store.path("val/P0000").write_bytes(whole[:-30])
    store.path("val/P0002").write_bytes(b"not a PNG")
    store.path("val/P0004").write_bytes(whole)  # of another size than its image
    MaskStore(tmp_path / "other", {"name": "y"}).save("x", store.load("val/P0006"))
    store.path("val/P0006").write_bytes((tmp_path / "other" / "x.png").read_bytes())
    summary = run(images, root)
    assert set(summary.damaged) == {"val/P0000", "val/P0002", "val/P0004", "val/P0006"}
    assert all(key in reason for key, reason in summary.damaged.items())
    assert contents(root) == before


def test_an_image_without_masks_gives_an_all_zero_map(tmp_path):
    class Nothing(Bands):
        def __call__(self, image):
            return np.zeros((0, *image.shape[:2]), bool)

    images = write_images(tmp_path / "images", 1)
    run(images, tmp_path / "maps", Nothing())
    mask_map = MaskStore(tmp_path / "maps").load("val/P0000")
    assert mask_map.shape == (20, 24) and not mask_map.any()


def test_leftovers_of_a_killed_run_go_but_those_of_a_living_one_stay(tmp_path):
    images = write_images(tmp_path / "images", 4)
    root = tmp_path / "maps"
    (root / "val").mkdir(parents=True)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stale = root / "val" / f".P0000.png.{dead.pid}.tmp"
    living = root / "val" / f".P0002.png.{os.getppid()}.tmp"
    manifest = root / f".manifest.json.{dead.pid}.tmp"
    for leftover in (stale, living, manifest):
        leftover.write_bytes(b"half")
    run(images, root, shard=(0, 2))
    assert manifest.exists()  # another machine's share may be writing it just now
    run(images, root)
    assert not stale.exists() and living.exists() and not manifest.exists()


JOB = """
    import sys, time
    import numpy as np
    from mgcl.masks.extract import extract
    from mgcl.images.find import find_images
    from mgcl.masks.store import MaskStore

    class Slow:
        spec = {"name": "slow"}

        def __call__(self, image):
            time.sleep(0.004)
            return np.stack([image[..., 0] > level for level in range(0, 250, 10)])

    print("go", flush=True)
    extract(find_images(sys.argv[1]), Slow(), MaskStore(sys.argv[2], Slow.spec), quiet=True)
"""


def start_job(job: Path, images: Path, maps: Path) -> subprocess.Popen:
    command = [sys.executable, str(job), str(images), str(maps)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    process.stdout.readline()
    return process


def test_twenty_kills_at_random_times_leave_no_trace_in_the_final_files(tmp_path):
    job = tmp_path / "job.py"
    job.write_text(textwrap.dedent(JOB))
    write_images(tmp_path / "images", 60)
    assert start_job(job, tmp_path / "images", tmp_path / "calm").wait() == 0
    undisturbed = contents(tmp_path / "calm")
    assert len(undisturbed) == 61

    rng = random.Random(0)
    killed = 0
    for attempt in range(20):
        maps = tmp_path / f"killed{attempt // 5}"  # four folders, each killed five times
        process = start_job(job, tmp_path / "images", maps)
        time.sleep(rng.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed >= 15  # most kills met a run at work
    for folder in range(4):
        maps = tmp_path / f"killed{folder}"
        assert start_job(job, tmp_path / "images", maps).wait() == 0
        assert contents(maps) == undisturbed


@pytest.fixture
def tiny_disk(tmp_path):
    """A folder on a file system of 64 KiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount command here, which a small disk needs")
    if mounted.returncode:
        pytest.skip(f"may not mount a small disk here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def check_full_disk(images, root):
    with pytest.raises(DiskFullError, match="make room there and start again") as caught:
        run(images, root)
    assert str(root) in str(caught.value)
    files = contents(root)
    assert not [name for name in files if name.endswith(".tmp")]
    store = MaskStore(root)
    maps = [name.removesuffix(".png") for name in files if name.endswith(".png")]
    assert all(store.problem(key) is None for key in maps)
    return maps


def test_a_full_disk_ends_with_a_clear_message_and_no_torn_file(tmp_path, tiny_disk):
    images = write_images(tmp_path / "images", 60)
    maps = check_full_disk(images, tiny_disk / "maps")
    assert 0 < len(maps) < 60


def test_a_write_that_fails_for_want_of_space_ends_the_same_way(tmp_path, monkeypatch):
    images = write_images(tmp_path / "images")
    save = MaskStore.save

    def save_some(self, key, mask_map, picture):
        if len(list(self.root.rglob("*.png"))) >= 3:
            raise OSError(28, "No space left on device")
        save(self, key, mask_map, picture)

    monkeypatch.setattr(extract_module.MaskStore, "save", save_some)
    assert len(check_full_disk(images, tmp_path / "maps")) >= 3
