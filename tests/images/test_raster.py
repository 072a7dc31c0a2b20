"""Windows of scenes: the same pixels whichever are read, in bounded memory, from local files."""

import http.server
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from mgcl.images import base
from mgcl.images import scene as scenes
from mgcl.images.raster import open_raster
from mgcl.images.read import UnreadableImage, read_image
from tests.small_run import REPOSITORY

pytestmark = pytest.mark.filterwarnings("ignore")  # rasterio's, on files without coordinates
RNG = np.random.default_rng(0)
BANDS = RNG.integers(0, 256, (4, 90, 130), np.uint8)
DEEP = (BANDS.astype(np.uint16) * 12 + 300) * (1 + np.arange(4, dtype=np.uint16))[:, None, None]
TILED = {"tiled": True, "blockxsize": 32, "blockysize": 32}
UTM = {"crs": "EPSG:32633", "transform": from_origin(5e5, 5.3e6, 10, 10)}


def write(path: Path, samples: np.ndarray, **options) -> Path:
    samples = samples if samples.ndim == 3 else samples[None]
    count, height, width = samples.shape
    kind = {"driver": "GTiff", "dtype": samples.dtype, "count": count}
    with rasterio.open(path, "w", height=height, width=width, **{**kind, **options}) as file:
        file.write(samples)
    return path


def windows(height: int, width: int, side: int):
    for y in range(0, height, side):
        for x in range(0, width, side):
            yield y, x, min(side, height - y), min(side, width - x)


def from_windows(path: Path, side: int, **how) -> np.ndarray:
    with open_raster(path, **how) as scene:
        out = np.empty((scene.height, scene.width, 3), np.uint8)
        for y, x, h, w in reversed(list(windows(scene.height, scene.width, side))):
            out[y : y + h, x : x + w] = scene.read((y, x, h, w))
    return out


@pytest.mark.parametrize(
    "samples", [BANDS, DEEP, DEEP.astype(np.float32) / 7], ids=["8", "16", "f"]
)
@pytest.mark.parametrize("options", [{}, {**TILED, "compress": "deflate"}, {"interleave": "band"}])
def test_windows_of_a_scene_are_the_whole_to_the_byte(tmp_path, samples, options, monkeypatch):
    path = write(tmp_path / "x.tif", samples, photometric="minisblack", nodata=7, **options)
    whole = read_image(path)
    for side in (1000, 64, 33):
        np.testing.assert_array_equal(from_windows(path, side), whole)
    monkeypatch.setattr(scenes, "SAMPLED", 9_000)  # as of a scene that is too large to be sampled
    monkeypatch.setattr(base, "READ", 2_000)
    np.testing.assert_array_equal(from_windows(path, 64), read_image(path))


def test_windows_of_pictures_and_jpeg_2000_are_the_whole_to_the_byte(tmp_path):
    picture = BANDS[:3].transpose(1, 2, 0).copy()
    for name in ("x.png", "x.jpg", "x.webp", "x.bmp"):
        Image.fromarray(picture).save(tmp_path / name)
    write(tmp_path / "x.jp2", BANDS[:3], driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(from_windows(path, 50), read_image(path), err_msg=path.name)
    np.testing.assert_array_equal(read_image(tmp_path / "x.jp2"), picture)


def test_the_stretch_of_a_sample_is_near_that_of_all(tmp_path, monkeypatch):
    y, x = np.mgrid[:400, :500]
    samples = (y * 9 + x * 5 + RNG.integers(0, 50, y.shape)).astype(np.uint16)
    for options in (TILED, {}):
        path = write(tmp_path / "x.tif", samples, **options)
        monkeypatch.undo()
        whole = read_image(path).astype(int)
        monkeypatch.setattr(scenes, "SAMPLED", 20_000)
        monkeypatch.setattr(scenes, "READ", 16 * 500 * 4)  # strips are sampled by four rows
        assert 0 < abs(read_image(path) - whole).max() < 24


def test_chosen_bands_are_shown_in_their_order(tmp_path):
    path = write(tmp_path / "x.tif", BANDS, photometric="minisblack")
    np.testing.assert_array_equal(read_image(path), BANDS[:3].transpose(1, 2, 0))
    with open_raster(path, bands=(4, 3, 2)) as scene:
        assert scene.bands == (4, 3, 2)
        np.testing.assert_array_equal(scene.read(), BANDS[[3, 2, 1]].transpose(1, 2, 0))
    with open_raster(path, bands=[4]) as scene:
        np.testing.assert_array_equal(scene.read()[..., 1], BANDS[3])
    for wrong in ((5,), (0, 1, 2), (1, 2)):
        with pytest.raises(ValueError, match=r"bands .*x\.tif: give one or three of 1 to 4"):
            open_raster(path, bands=wrong).__enter__()


def test_bands_that_say_their_colour_are_shown_as_it(tmp_path):
    path = write(tmp_path / "x.tif", BANDS, photometric="minisblack")
    with rasterio.open(path, "r+") as file:
        c = rasterio.enums.ColorInterp
        file.colorinterp = [c.blue, c.green, c.red, c.undefined]
    np.testing.assert_array_equal(read_image(path), BANDS[[2, 1, 0]].transpose(1, 2, 0))


def test_a_window_over_the_border_is_black_there_if_asked_for_and_refused_else(tmp_path):
    path = write(tmp_path / "x.tif", BANDS[:3])
    with open_raster(path) as scene:
        whole = scene.read()
        found = scene.read((-5, 100, 200, 50), boundless=True)
        valid = scene.valid((-5, 100, 200, 50), boundless=True)
        np.testing.assert_array_equal(found[5:95, :30], whole[:, 100:])
        assert not found[:5].any() and not found[95:].any() and not found[:, 30:].any()
        assert valid.sum() == 90 * 30 and valid[5:95, :30].all()
        assert not scene.read((500, 500, 4, 4), boundless=True).any()
        for wrong in ((-1, 0, 4, 4), (88, 0, 4, 4), (0, 0, 0, 4)):
            with pytest.raises(ValueError, match=r"x\.tif is 130 x 90 pixels: there is no window"):
                scene.read(wrong)


def test_no_data_are_black_and_told_in_files_of_any_depth(tmp_path):
    hole = np.zeros((90, 130), bool)
    hole[:40, :50] = True
    for kind, value in (("uint8", 255), ("uint16", 65535), ("int16", -1), ("float32", -9999)):
        samples = np.where(hole, value, np.minimum(BANDS[:3], 254).astype(kind))
        samples[0, 60, 60] = value  # one band alone: a bright pixel, not a missing one
        path = write(tmp_path / "x.tif", samples, nodata=value)
        with open_raster(path) as scene:
            np.testing.assert_array_equal(scene.valid(), ~hole, err_msg=kind)
            assert not scene.read()[hole].any()
            assert scene.read()[60, 60].any()
        assert read_image(path)[~hole].max() > 250


@pytest.mark.parametrize("beside", [True, False])
def test_a_mask_of_a_file_tells_where_there_are_data(tmp_path, beside):
    hole = np.zeros((90, 130), bool)
    hole[20:, 70:] = True
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not beside):
        path = write(tmp_path / "x.tif", BANDS[:3], compress="jpeg", photometric="ycbcr")
        with rasterio.open(path, "r+") as file:
            file.write_mask(~hole)
    assert (tmp_path / "x.tif.msk").exists() == beside
    with open_raster(path) as scene:
        np.testing.assert_array_equal(scene.valid((10, 60, 70, 60)), ~hole[10:80, 60:120])
        assert not scene.read()[hole].any() and scene.read()[~hole].all(axis=-1).mean() > 0.9


def test_an_alpha_band_marks_data_unless_it_is_a_band_of_its_own(tmp_path):
    picture = BANDS.copy()
    path = write(tmp_path / "nir.tif", picture, photometric="rgb", alpha="yes")
    with open_raster(path) as scene:
        assert scene.valid().all(), "the fourth band is near infrared, some of it 0"
        np.testing.assert_array_equal(scene.read(), picture[:3].transpose(1, 2, 0))
    picture[3] = 255
    picture[3, :30] = 0
    with open_raster(write(tmp_path / "alpha.tif", picture, photometric="rgb", alpha="yes")) as s:
        assert not s.valid()[:30].any() and s.valid()[30:].all()
        np.testing.assert_array_equal(s.read(), picture[:3].transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("crs", "pixel", "expected"),
    [
        ("EPSG:32633", (5e5, 5.3e6, 10, 10), 10),
        ("EPSG:3857", (1.6e6, 6.2e6, 1, 1), 0.661),  # Web Mercator stretches by 1 / cos 48.6
        ("EPSG:4326", (15, 48, 1e-5, 1e-5), 0.909),
        ("EPSG:2263", (9.9e5, 2e5, 1, 1), 0.3048),  # feet
    ],
)
def test_the_resolution_on_the_ground_is_in_metres(tmp_path, crs, pixel, expected):
    path = write(tmp_path / "x.tif", BANDS[:3], crs=crs, transform=from_origin(*pixel))
    with open_raster(path) as scene:
        assert scene.crs == rasterio.CRS.from_user_input(crs)
        assert scene.transform == from_origin(*pixel)
        assert scene.metres == pytest.approx(expected, rel=0.01)


def test_a_plain_picture_lies_nowhere_and_one_with_a_world_file_there(tmp_path):
    Image.fromarray(BANDS[0]).save(tmp_path / "x.png")
    with open_raster(tmp_path / "x.png") as scene:
        assert scene.crs is scene.transform is scene.metres is None
    (tmp_path / "x.pgw").write_text("0.5\n0\n0\n-0.5\n100.25\n199.75\n")
    with open_raster(tmp_path / "x.png") as scene:
        assert scene.transform == from_origin(100, 200, 0.5, 0.5) and scene.metres is None


def test_a_scene_far_over_the_memorys_limit_is_read_by_windows_and_refused_as_a_whole(tmp_path):
    options = {**TILED, "blockxsize": 512, "blockysize": 512, "sparse_ok": True, "count": 3}
    path, corner = tmp_path / "x.tif", (49_000, 49_000, 600, 600)
    with rasterio.open(
        path, "w", driver="GTiff", height=50_000, width=50_000, dtype="uint16", nodata=0, **options
    ) as file:
        for y in range(0, 50_000, 10_000):
            file.write(DEEP[:3], window=((y, y + 90), (y, y + 130)))
        file.write(DEEP[:3], window=((49_100, 49_190), (49_100, 49_230)))
    code = (
        "import sys\n"
        "from mgcl.images.raster import open_raster\n"
        "with open_raster(sys.argv[1]) as scene:\n"
        f"    print(scene.read({corner}).max(), scene.valid({corner}).sum())\n"
        # this program's own peak; the system's ru_maxrss counts that of who started it
        "line = next(x for x in open('/proc/self/status') if x.startswith('VmHWM'))\n"
        "print(int(line.split()[1]) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.stderr == ""
    brightest, valid, mib = map(int, done.stdout.split())
    assert brightest == 255 and valid == 90 * 130 and mib < 900
    with pytest.raises(UnreadableImage, match="50000 x 50000 pixels"):
        read_image(path)


def vrt(source: str, relative: int = 1, band: str = "") -> str:
    return (
        '<VRTDataset rasterXSize="130" rasterYSize="90">'
        f'<VRTRasterBand dataType="Byte" band="1" {band}><SimpleSource>'
        f'<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>'
        "<SourceBand>2</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def test_a_vrt_of_local_files_is_read(tmp_path):
    write(tmp_path / "x.tif", BANDS[:3])
    path, second = tmp_path / "x.vrt", tmp_path / "nested.vrt"
    path.write_text(vrt("x.tif"))
    np.testing.assert_array_equal(read_image(path)[..., 0], BANDS[1])
    second.write_text(vrt("x.vrt").replace("<SourceBand>2", "<SourceBand>1"))
    np.testing.assert_array_equal(read_image(second)[..., 0], BANDS[1])


def test_a_vrt_that_reaches_out_computes_or_warps_is_refused(tmp_path):
    write(tmp_path / "x.tif", BANDS[:3])
    path = tmp_path / "x.vrt"
    for text in (
        vrt("/vsicurl/http://127.0.0.1:9/x.tif", 0),
        vrt("http://127.0.0.1:9/x.tif", 0),
        vrt("gone.tif"),
        vrt("x.tif", 0),
        vrt("/etc/passwd", 0),
        vrt("x.vrt"),  # of itself
        vrt("x.tif", band='subClass="VRTDerivedRasterBand"'),
        vrt("x.tif", band='subClass="VRTRawRasterBand"'),
        vrt("x.tif").replace("<VRTDataset", '<VRTDataset subClass="VRTWarpedDataset"'),
        '<VRTDataset><!DOCTYPE x [<!ENTITY a "b">]></VRTDataset>',
        "<VRTDataset",
    ):
        path.write_text(text)
        with pytest.raises(UnreadableImage, match=r"x\.vrt"):
            read_image(path)


def test_nothing_is_fetched_whatever_a_file_names(tmp_path):
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *words):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/x.tif"
    for k, name in enumerate((address, f"/vsicurl/{address}", f"/vsigzip//vsicurl/{address}")):
        path = write(tmp_path / f"{k}.tif", BANDS[:3])
        (tmp_path / f"{k}.tif.aux.xml").write_text(
            '<PAMDataset><Metadata domain="OVERVIEWS">'
            f'<MDI key="OVERVIEW_FILE">{name}</MDI></Metadata></PAMDataset>'
        )
        np.testing.assert_array_equal(read_image(path), BANDS[:3].transpose(1, 2, 0))
    server.shutdown()
    assert asked == []


def test_gdal_is_silent_and_leaves_the_log_and_its_options_alone(tmp_path, capfd):
    path = write(tmp_path / "x.tif", BANDS[:3])
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(UnreadableImage, match=r"x\.tif is damaged"):
        read_image(path)
    assert capfd.readouterr() == ("", "")
    assert not rasterio.env.hasenv()


def test_a_name_is_a_file_and_nothing_else(tmp_path, monkeypatch):
    folder = tmp_path / "GTIFF_DIR:1:"
    folder.mkdir()
    write(folder / "a b#é%.tif", BANDS[:3])
    monkeypatch.chdir(tmp_path)
    for name in (Path("GTIFF_DIR:1:/a b#é%.tif"), "./GTIFF_DIR:1:/a b#é%.tif"):
        assert read_image(name).shape == (90, 130, 3)
    for name in ("/vsicurl/http://127.0.0.1:9/x.tif", "zip:///etc/x.zip!a.tif", "s3://a/b.tif"):
        with pytest.raises(FileNotFoundError):
            read_image(name)


def test_one_vast_strip_is_refused_with_the_remedy(tmp_path, monkeypatch):
    path = write(tmp_path / "x.tif", DEEP[:3], blockysize=90, compress="deflate")
    monkeypatch.setattr(scenes, "_MOST_BLOCK", 60_000)
    with pytest.raises(UnreadableImage, match=r"pieces of 130 x 90 .*TILED=YES"):
        read_image(path)


def test_a_scene_may_be_read_by_another_thread_than_the_one_that_opened_it(tmp_path):
    path = write(tmp_path / "x.tif", DEEP[:3], **TILED)
    with open_raster(path) as scene, ThreadPoolExecutor(1) as pool:
        found = list(pool.map(scene.read, windows(90, 130, 64)))
        for window, part in zip(windows(90, 130, 64), found, strict=True):
            np.testing.assert_array_equal(part, scene.read(window))
