"""Scenes by bands: the same bytes in one piece and in many, begun again after a kill."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import from_origin
from rio_cogeo.cogeo import cog_validate

from mgcl.predict.bands import BandStore, finish, make_bands
from mgcl.predict.finder import InMemory
from mgcl.predict.maps import colour_of
from mgcl.predict.scene import Style, paths_of, quick_look, step_of, write_results
from mgcl.predict.vectors import Grid
from tests.predict.test_finder import finder
from tests.predict.test_predictor import SIDE, picture
from tests.small_run import REPOSITORY

HEIGHT, WIDTH = 300, 220
IMAGE = InMemory(picture(3, HEIGHT, WIDTH))
UTM = Grid(HEIGHT, WIDTH, CRS.from_epsg(32633), from_origin(500_000, 5_000_000, 2, 2))
NAMES = ["ship", "harbour"]
STYLE = Style(NAMES, [colour_of(1), colour_of(2)], probabilities=True)


class HalfEmpty(InMemory):
    def valid(self, window):
        y, x, h, w = window
        return np.broadcast_to(np.arange(x, x + w) >= 90, (h, w))


def bands_of(made, store: BandStore, rows=None, source=IMAGE, **how) -> int:
    down, _ = made.grid(HEIGHT, WIDTH, SIDE)
    make_bands(
        made, source, store, rows or range(len(down)), window=SIDE,
        thresholds=[0.53] * len(made.names), step=1, keep_all=True, **how,
    )  # fmt: skip
    return len(down)


def written(folder: Path, store: BandStore, rows: int, grid: Grid = UTM, style: Style = STYLE):
    return write_results(store, rows, grid, paths_of(folder, "a", grid, style), style)


@pytest.mark.parametrize("shots", [1, 3])
def test_in_one_piece_and_in_many_the_results_are_the_same_bytes(shots, tmp_path):
    made = finder(2, shots)
    store = BandStore(None, {})
    rows = bands_of(made, store)
    one = written(tmp_path / "one", store, rows)
    parts = BandStore(tmp_path / "bands", {"a": 1})
    for some in ([5, 2], [0], [7, 8], range(rows)):
        bands_of(made, BandStore(tmp_path / "bands", {"a": 1}), sorted(some))
    many = written(tmp_path / "many", parts, rows)
    for kind in ("masks", "probabilities", "overlays"):
        assert one.files[kind].read_bytes() == many.files[kind].read_bytes()
    first, second = (pyogrio.raw.read(w.files["objects"])[2:] for w in (one, many))
    assert (first[0] == second[0]).all() and len(first[0]) > 5
    assert one.tally == many.tally


def test_a_killed_run_goes_on_behind_its_last_band_and_remakes_torn_ones(tmp_path):
    made, folder = finder(1), tmp_path / "bands"
    rows = bands_of(made, BandStore(folder, {"a": 1}))
    torn = folder / "000003.band"
    torn.write_bytes(torn.read_bytes()[:-40])
    flipped = bytearray((folder / "000005.band").read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (folder / "000005.band").write_bytes(flipped)
    (folder / "000001.band").unlink()
    assert BandStore(folder, {"a": 1}).missing(range(rows)) == [1, 3, 5]
    with pytest.raises(ValueError, match="damaged.*start again"):
        BandStore(folder, {"a": 1}).read(3, "classes")
    counted: list[int] = []
    bands_of(made, BandStore(folder, {"a": 1}), on_windows=counted.append)
    assert 0 < sum(counted) < len(made.grid(HEIGHT, WIDTH, SIDE)[1]) * rows
    assert BandStore(folder, {"a": 1}).missing(range(rows)) == []
    assert BandStore(folder, {"a": 2}).missing(range(rows)) == list(range(rows)), "other facts"


def test_the_class_map_is_a_valid_cog_in_the_scene_s_place(tmp_path):
    store = BandStore(None, {})
    rows = bands_of(finder(2), store, source=HalfEmpty(IMAGE.image))
    files = written(tmp_path, store, rows).files
    assert cog_validate(files["masks"], strict=True)[0]
    assert cog_validate(files["probabilities"], strict=True)[0]
    with rasterio.open(files["masks"]) as file:
        assert file.crs == UTM.crs and file.transform == UTM.transform and file.nodata == 255
        classes = file.read(1)
        assert file.dtypes == ("uint8",) and file.colormap(1)[2][:3] == colour_of(2)
        assert {k: v for k, v in file.tags().items() if k.startswith("CLASS")} == {
            "CLASS_0": "none",
            "CLASS_1": "ship",
            "CLASS_2": "harbour",
        }
    assert (classes[:, :90] == 255).all() and set(np.unique(classes[:, 90:])) == {0, 1, 2}
    with rasterio.open(files["probabilities"]) as file:
        assert file.descriptions == tuple(NAMES) and file.scales == (1 / 65535, 1 / 65535)
        levels = file.read()
    assert (levels[:, :, :90] == 65535).all()
    inside = levels[:, :, 90:]
    assert ((inside.max(axis=0) > 0.53 * 65535 + 1) <= (classes[:, 90:] > 0)).all()
    assert (inside.argmax(axis=0) + 1 == classes[:, 90:])[classes[:, 90:] > 0].all()
    meta, _, geometry, columns = pyogrio.raw.read(files["objects"])
    assert CRS.from_user_input(meta["crs"]) == UTM.crs
    drawn = zip(shapely.from_wkb(geometry), columns[1], strict=True)
    back = rasterize(
        [(shape, NAMES.index(name) + 1) for shape, name in drawn],
        out_shape=classes.shape,
        transform=UTM.transform,
        dtype="uint8",
    )
    assert (back == np.where(classes == 255, 0, classes)).all()


def test_a_plain_image_gets_pictures_and_pixels(tmp_path):
    store, grid = BandStore(None, {}), Grid(HEIGHT, WIDTH)
    rows = bands_of(finder(2), store)
    files = written(tmp_path, store, rows, grid).files
    names = {kind: path.name for kind, path in files.items()}
    assert names == {
        "masks": "a.png", "overlays": "a.png", "probabilities": "a.tif", "objects": "a.geojson",
    }  # fmt: skip
    classes = np.concatenate([part.classes for part in finish(store, rows, WIDTH, vote_share=0.4)])
    with Image.open(files["masks"]) as picture:
        assert picture.mode == "P" and (np.asarray(picture) == classes).all()
        assert picture.getpalette()[3:6] == list(colour_of(1))
    objects = json.loads(files["objects"].read_text())["features"]
    assert sum(o["properties"]["pixels"] for o in objects) == (classes > 0).sum()
    one = Style(["ship"], [colour_of(1)], objects="none")
    assert set(paths_of(tmp_path, "a", grid, one)) == {"masks", "overlays"}


def test_overlays_of_large_scenes_show_every_small_object(tmp_path, monkeypatch):
    monkeypatch.setattr("mgcl.predict.scene.LARGEST_PICTURE", 100 * 70)
    step = step_of(HEIGHT, WIDTH)
    assert step == 4
    store, made = BandStore(None, {}), finder(1)
    down, _ = made.grid(HEIGHT, WIDTH, SIDE)
    make_bands(
        made,
        IMAGE,
        store,
        range(len(down)),
        window=SIDE,
        thresholds=[0.53] * len(made.names),
        step=step,
    )
    image, classes = quick_look(finish(store, len(down), WIDTH, vote_share=0.4), UTM)
    assert (image == IMAGE.image[::4, ::4]).all()
    whole = np.concatenate([p.classes for p in finish(store, len(down), WIDTH, vote_share=0.4)])
    blocks = np.pad(whole, ((0, -HEIGHT % 4), (0, -WIDTH % 4))).reshape(75, 4, 55, 4)
    assert (classes == blocks.max(axis=(1, 3))).all()


@pytest.mark.parametrize("kilobytes", [1, 2, 60])
def test_a_full_disk_is_named_and_leaves_no_half_map(kilobytes, tmp_path):
    code = f"""if True:
        import resource, signal, numpy as np
        from pathlib import Path
        from mgcl.files import DiskFullError
        from mgcl.predict.layers import write_layer
        from mgcl.predict.maps import write_class_map
        from mgcl.predict.objects import find_objects
        from tests.predict.test_scene import UTM, HEIGHT, WIDTH

        noise = np.random.default_rng(0).integers(0, 3, (HEIGHT, WIDTH)).astype(np.uint8)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes} << 10, {kilobytes} << 10))
        colours, objects = [(1, 2, 3)] * 2, find_objects([(noise, noise)])
        for write in (
            lambda: write_class_map(Path("a.tif"), [noise], UTM, "ab", colours),
            lambda: write_layer(Path("a.gpkg"), objects, "ab", UTM),
        ):
            try:
                write()
                print("written")
            except DiskFullError as error:
                print("full", error)
    """
    words = [sys.executable, "-c", code]
    place = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=tmp_path, env=place, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    for line, name in zip(lines, ("a.tif", "a.gpkg"), strict=True):
        assert (tmp_path / name).exists() == (line == "written")
    assert lines[1].startswith("full") and (lines[0].startswith("full") or kilobytes == 60)
    assert [p.name for p in tmp_path.iterdir() if p.suffix not in (".tif", ".gpkg")] == []
