"""Panels, overlays and plots: what is drawn where, in which colour."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mgcl.datasets.episodes import Episode
from mgcl.images.write import write_png
from mgcl.visualize.overlays import mask_overlay, outlined
from mgcl.visualize.panels import episode_panel
from mgcl.visualize.plots import learning_curve, threshold_plot
from mgcl.visualize.tiles import CAPTION, INK, Tile, _shortened, compose, font

TILE, GAP = 256, 10


def make_episode(shots: int = 1, size: tuple[int, int] = (128, 128)) -> Episode:
    """A mid-grey query: upper half foreground, lower half background, last quarter ignored."""
    H, W = size
    label = torch.zeros(H, W, dtype=torch.uint8)
    label[: H // 2] = 1
    label[-H // 4 :] = 255
    masks = torch.ones(H, W, dtype=torch.uint8)
    return Episode(
        query_image=torch.full((3, H, W), 128, dtype=torch.uint8),
        query_label=label,
        query_mask_map=masks,
        support_images=torch.full((shots, 3, H, W), 128, dtype=torch.uint8),
        support_labels=label.repeat(shots, 1, 1),
        support_mask_maps=masks.repeat(shots, 1, 1),
        class_id=3,
        episode_id=7,
    )


def last_tile(panel: np.ndarray, place: int = 0) -> np.ndarray:
    """A tile of the lowest row, counted from the right."""
    right = panel.shape[1] - GAP - place * (TILE + GAP)
    return panel[-GAP - TILE : -GAP, right - TILE : right]


def draw(episode: Episode, prediction: np.ndarray, title: str = "ship") -> np.ndarray:
    return episode_panel(episode, prediction.astype(np.float32), prediction, title=title)


def colour(tile: np.ndarray, y: float, x: float) -> str:
    """Name of the dominant channel around a place given in shares of the tile."""
    H, W, _ = tile.shape
    r, g, b = tile[int(y * H), int(x * W)].astype(int)
    if max(r, g, b) - min(r, g, b) < 25:
        return "grey"
    return ["red", "green", "blue"][int(np.argmax([r, g, b]))]


def test_errors_are_green_red_blue_and_grey_where_the_label_says_ignore():
    prediction = np.zeros((128, 128), np.uint8)
    prediction[:, :64] = 1  # the left half
    errors = last_tile(draw(make_episode(), prediction))
    assert colour(errors, 0.2, 0.2) == "green"  # hit
    assert colour(errors, 0.2, 0.8) == "blue"  # miss
    assert colour(errors, 0.6, 0.2) == "red"  # false alarm
    assert colour(errors, 0.6, 0.8) == "grey"  # rightly background
    assert colour(errors, 0.9, 0.2) == "grey"  # ignored, although predicted
    assert colour(errors, 0.9, 0.8) == "grey"


def test_truth_is_tinted_where_the_label_is_foreground_alone():
    truth = last_tile(draw(make_episode(), np.zeros((128, 128), np.uint8)), place=1)
    assert colour(truth, 0.2, 0.5) != "grey"
    assert colour(truth, 0.65, 0.5) == colour(truth, 0.9, 0.5) == "grey"


def test_an_empty_prediction_leaves_the_query_as_it_is():
    prediction = last_tile(draw(make_episode(), np.zeros((128, 128), np.uint8)), place=2)
    assert (prediction == 128).all()


def test_probability_is_brighter_where_it_is_higher():
    ramp = np.linspace(0, 1, 128, dtype=np.float32)[None].repeat(128, axis=0)
    panel = episode_panel(make_episode(), ramp, ramp > 0.5, title="")
    light = last_tile(panel, place=3).astype(int).sum(axis=2)[128]
    assert (np.diff(light[::16]) > 0).all()


@pytest.mark.parametrize("shots", [1, 2, 5])
@pytest.mark.parametrize("size", [(32, 32), (256, 256), (300, 300)])
def test_tiles_are_256_pixels_whatever_the_image(shots, size):
    panel = draw(make_episode(shots, size), np.zeros(size, np.uint8))
    columns = 4 if shots == 1 else 6
    assert panel.dtype == np.uint8
    assert panel.shape[1] == GAP + columns * (TILE + GAP)
    assert (panel[:, -GAP:] == 255).all() and (last_tile(panel) != 255).any()


def test_a_panel_of_a_wide_image_keeps_its_proportions():
    wide = draw(make_episode(1, (64, 128)), np.zeros((64, 128), np.uint8))
    square = draw(make_episode(1, (128, 128)), np.zeros((128, 128), np.uint8))
    assert square.shape[0] - wide.shape[0] == 2 * TILE // 2


def test_a_long_title_goes_over_several_lines_and_a_long_name_loses_its_middle():
    one = Tile(np.full((256, 256, 3), 128, np.uint8), [("a" * 60 + "_end", INK)])
    short, long = compose([[one]], "short"), compose([[one]], "a long title " * 10 + "w" * 90)
    more = long.picture.shape[0] - short.picture.shape[0]
    assert more >= 8 * 26 and more % 26 == 0
    assert (long.picture[:, -GAP:] == 255).all(), "nothing runs over the edge"
    assert (long.picture[38 : 38 + more] != 255).any(axis=(1, 2)).sum() > more // 3
    assert _shortened("a" * 60 + "_end", font(15), 200).endswith("_end")


def test_the_boxes_of_a_sheet_are_its_tiles_with_their_captions():
    tiles = [Tile(np.full((40, 60, 3), v, np.uint8), [("x", INK)]) for v in (50, 100, 150)]
    sheet = compose([tiles[:2], tiles[2:]], "title")
    for row, shown in zip(sheet.boxes, ([50, 100], [150]), strict=True):
        for (left, top, right, bottom), value in zip(row, shown, strict=True):
            box = sheet.picture[top:bottom, left:right]
            assert box.shape == (40 + CAPTION, 60, 3) and (box[CAPTION:] == value).all()


def test_outlines_are_finer_in_a_smaller_picture():
    widths = []
    for side in (256, 1536):
        label = np.zeros((side, side), np.uint8)
        label[:, side // 2 :] = 1
        marked = outlined(np.full((side, side, 3), 128, np.uint8), label, (255, 0, 0))
        widths.append(int((marked[side // 2, :, 0] > 200).sum()) / 2)
    assert widths[0] <= 1 < widths[1] <= 4


def test_a_panel_leaves_the_episode_as_it_was():
    episode, copy = make_episode(2), make_episode(2)
    draw(episode, np.ones((128, 128), np.uint8))
    for before, after in zip(copy, episode, strict=True):
        assert torch.equal(torch.as_tensor(before), torch.as_tensor(after))


def test_a_mask_keeps_its_colour_and_no_mask_stays_grey():
    image = np.full((40, 60, 3), 128, np.uint8)
    mask_map = np.zeros((40, 60), np.uint8)
    mask_map[:, 20:40], mask_map[:, 40:] = 1, 2
    overlay = mask_overlay(image, mask_map)
    none, first, second = overlay[20, 10], overlay[20, 30], overlay[20, 50]
    assert len(set(none.tolist())) == 1
    assert len(set(first.tolist())) > 1 and len(set(second.tolist())) > 1
    assert (first != second).any()
    assert (mask_overlay(image, mask_map[:, ::-1])[20, 30] == first).all()
    assert overlay[20, 19].min() > 180, "a light line lies between two masks"
    assert (image == 128).all()


def test_an_overlay_of_128_masks_has_128_colours():
    numbers = np.arange(1, 129, dtype=np.uint8)
    mask_map = numbers.repeat(2)[:, None].repeat(4, axis=1)  # (256, 4), two rows a mask
    overlay = mask_overlay(np.full((256, 4, 3), 90, np.uint8), mask_map)
    assert len(np.unique(overlay[::2, 0], axis=0)) == 128


def test_a_png_comes_back_as_written_and_leaves_no_temporary(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    write_png(tmp_path / "panels" / "a.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "panels" / "a.png")), image)
    assert [p.name for p in (tmp_path / "panels").iterdir()] == ["a.png"]


def picture(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_the_threshold_plot_shows_every_curve_and_mark(tmp_path):
    curves = {"1-shot": {0.2: 30.0, 0.4: 20.0, 0.6: 5.0}, "5-shot": {0.2: 35.0, 0.4: 30.0}}
    threshold_plot(tmp_path / "all.png", curves, marks={"calibrated 0.23": 0.23}, title="t")
    threshold_plot(tmp_path / "no_mark.png", curves, marks={}, title="t")
    one = {"1-shot": curves["1-shot"]}
    threshold_plot(tmp_path / "one.png", one, marks={}, title="t")
    all_of_it, no_mark, single = (picture(tmp_path / f"{n}.png") for n in ("all", "no_mark", "one"))
    assert (all_of_it != no_mark).any() and (no_mark != single).any()
    orange = no_mark - np.array([232, 89, 12])
    assert (abs(orange).sum(axis=2) < 12).sum() > 100, "the second curve has its colour"
    assert (abs(single - np.array([232, 89, 12])).sum(axis=2) < 12).sum() == 0


def test_the_learning_curve_draws_epochs_and_passes_over_other_records(tmp_path):
    scores = {"miou": 20.0, "miou_calibrated": 30.0, "fb_iou": 50.0, "fb_iou_calibrated": 55.0}
    epochs = [
        {"kind": "epoch", "epoch": 0, "loss": 0.7},  # not validated
        {"kind": "epoch", "epoch": 1, "loss": 0.5, **scores, "threshold": 0.2},
        {"kind": "epoch", "epoch": 2, "loss": 0.4, **scores, "threshold": 0.2},
    ]
    steps = [{"kind": "step", "epoch": 1, "step": 20, "loss": 9.0}]
    learning_curve(tmp_path / "a.png", epochs)
    learning_curve(tmp_path / "b.png", [*steps, *epochs])
    learning_curve(tmp_path / "c.png", epochs[:2])
    a, b, c = (picture(tmp_path / f"{name}.png") for name in "abc")
    assert (a == b).all() and (a.shape != c.shape or (a != c).any())


def test_a_learning_curve_without_a_validated_epoch_can_be_drawn(tmp_path):
    learning_curve(tmp_path / "a.png", [{"kind": "epoch", "epoch": 0, "loss": 0.7}])
    assert picture(tmp_path / "a.png").std() > 0


def test_importing_the_pictures_and_the_report_imports_no_heavy_library():
    words = (
        "import sys, mgcl.visualize, mgcl.report, mgcl.report.tables\n"
        "print([m for m in ('torch', 'matplotlib', 'cv2', 'PIL') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
