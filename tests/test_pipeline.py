"""The three scripts as a user runs them."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import main_1_mgcl_train as main_1
import main_2_mgcl_test as main_2
from mgcl.report.records import Condition
from tests.small_run import MASKS, REPOSITORY, TEST, TRAIN, words


def test_the_scripts_leave_checkpoints_logs_reports_and_pictures(pipeline):
    folder = pipeline.folder
    kept = ["config.toml", "log.jsonl", "last.pt", "best.pt", "report.json", "report.md"]
    kept += ["threshold.png", "learning_curve.png", "episodes_1shot.jsonl", "episodes_5shot.jsonl"]
    assert [name for name in kept if not (folder / name).stat().st_size] == []
    assert list((folder / "tensorboard").glob("events*"))
    assert not list(folder.rglob("*.tmp"))
    report = json.loads((folder / "report.json").read_text())
    for kind in ("best", "median", "worst"):
        for shots in (1, 5):
            assert [p for p in report["panels"] if (p["shots"], p["kind"]) == (shots, kind)]
    pictures = [folder / p["path"] for p in report["panels"]]
    pictures += [folder / "threshold.png", folder / "learning_curve.png"]
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.width > 200 and len(picture.convert("RGB").getcolors(1 << 24)) > 20


def test_the_reports_table_holds_the_model_by_each_rule_at_both_thresholds_beside_the_baselines(
    pipeline,
):
    report = json.loads((pipeline.folder / "report.json").read_text())
    for shots in (1, 5):
        found = [row for row in report["rows"] if row["shots"] == shots]
        ours = [row for row in found if row["checkpoints"] == found[0]["checkpoints"]]
        rules = ["vote"] if shots == 1 else ["vote", "mean"]  # several may also be averaged
        decisions = [(rule, kind) for rule in rules for kind in ("0.5", "calibrated")]
        assert [(row["rule"], row["threshold_kind"]) for row in ours] == decisions
        assert {(row["method"], row["trained"]) for row in ours} == {("MGCL", True)}
        assert {"everything foreground", "cosine prototypes, untrained"} <= {
            row["method"] for row in found
        }
        for rule, ending in (("vote", ""), ("mean", ", mean"))[: len(rules)]:
            curve = report["curves"][f"{shots}-shot{ending}"]
            assert len(curve) == 19
            for row in ours:
                if row["rule"] == rule:
                    assert row["miou"] == curve[str(row["threshold"])]
        for row in found:
            asked = [iou for iou in row["class_iou"].values() if iou is not None]
            assert len(row["class_iou"]) == 5
            assert asked and row["miou"] == pytest.approx(sum(asked) / len(asked))
    notes = " ".join(report["notes"])
    assert "1-shot: 7 episodes" in notes and "a second" in notes
    assert "chosen on 6 episodes on held-out images of the training classes" in notes
    assert report["data"] == {"root": str(pipeline.root), "origin": "synthetic scenes"}
    assert "6 episodes on held-out images" in report["facts"]["5-shot calibrated on"]
    assert "synthetic scenes" in report["title"] and len(report["verdict"]) == 2


def test_images_without_the_class_are_reported_for_every_method_and_the_matcher_decides(pipeline):
    report = json.loads((pipeline.folder / "report.json").read_text())
    told = {row["method"] for row in report["absent"] if row["decided"]}
    assert told == {"matcher, untrained"}
    assert {Condition.from_json(row) for row in report["absent"]} == {
        Condition.from_json(row) for row in report["rows"]
    }
    for row in report["absent"]:
        assert 0 < row["images"] <= 7
        if row["method"] == "everything foreground":
            assert row["plain"]["alarms"] == row["plain"]["marked"] == 100


def test_precision_and_recall_agree_with_the_ious_of_the_table(pipeline):
    report = json.loads((pipeline.folder / "report.json").read_text())
    rows = {Condition.from_json(row): row["class_iou"] for row in report["rows"]}
    assert {Condition.from_json(row) for row in report["precision_recall"]} == {*rows}
    for row in report["precision_recall"]:
        iou = rows[Condition.from_json(row)][row["class"]]
        assert row["iou"] == pytest.approx(iou)
        p, r = ((row[key] or 0) / 100 for key in ("precision", "recall"))
        assert row["iou"] == pytest.approx(100 * p * r / (p + r - p * r) if p * r else 0)
    assert (pipeline.folder / "precision_recall.png").stat().st_size


def test_the_list_of_episodes_names_their_images(pipeline):
    with open(pipeline.folder / "episodes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    plans = (pipeline.folder / "episodes_5shot.jsonl").read_text().splitlines()
    keys = ("checkpoint", "shots", "rule", "threshold_kind")
    wanted = (rows[0]["checkpoint"], "5", "vote", "0.5")
    ours = [row for row in rows if tuple(row[key] for key in keys) == wanted]
    assert ours
    for row, plan in zip(ours, map(json.loads, plans), strict=True):
        assert (row["query"], row["supports"].split()) == (plan["query"], plan["supports"])


def test_what_the_scripts_print_leads_to_the_next_step(pipeline):
    said = {script: done.stdout for script, done in pipeline.scripts.items()}
    assert re.search(r"150 made, 0 were there", said[MASKS])
    assert "epoch 2: validation mIoU" in said[TRAIN] and TEST in said[TRAIN]
    report = (pipeline.folder / "report.json").read_text()
    miou = json.loads(report)["rows"][0]["miou"]
    assert f"{miou:.2f}" in said[TEST] and "FB-IoU" in said[TEST]
    assert str(pipeline.folder / "report.md") in said[TEST] and "tensorboard --logdir" in said[TEST]


def test_training_without_mask_maps_says_to_run_main_0(isaid_root, tmp_path, capsys):
    line = words(isaid_root, tmp_path / "masks", tmp_path / "run")
    assert main_1.main(line) == 1
    said = capsys.readouterr().err
    assert str(tmp_path / "masks") in said and MASKS in said
    assert not (tmp_path / "run").exists()


def test_testing_without_a_checkpoint_says_to_run_main_1(pipeline, tmp_path, capsys):
    assert main_2.main(words(pipeline.root, pipeline.masks, tmp_path / "run")) == 1
    said = capsys.readouterr().err
    assert str(tmp_path / "run" / "best.pt") in said and TRAIN in said
    assert not (tmp_path / "run").exists()


def test_a_missing_mask_map_is_named_before_the_training_begins(pipeline, tmp_path, capsys):
    masks = tmp_path / "masks"
    masks.mkdir()
    maps = sorted(pipeline.masks.rglob("*.png"))
    for path in [*maps[:-1], *pipeline.masks.glob("*.json")]:
        place = masks / path.relative_to(pipeline.masks)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)
    assert main_1.main(words(pipeline.root, masks, tmp_path / "run")) == 1
    said = capsys.readouterr().err
    assert maps[-1].stem in said and MASKS in said
    assert not (tmp_path / "run").exists()


def test_missing_lists_and_data_are_named(tmp_path, capsys):
    line = words(tmp_path / "nowhere", tmp_path, tmp_path / "run", masks_generator="none")
    assert main_1.main(line) == 1
    assert str(tmp_path / "nowhere") in capsys.readouterr().err


@pytest.mark.parametrize("script", [MASKS, TRAIN, TEST])
def test_a_mistake_in_the_config_ends_a_script_with_status_2(script):
    done = subprocess.run(
        [sys.executable, REPOSITORY / script, "--data.fold", "7"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "data.fold" in done.stderr and "7" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("script", [TRAIN, TEST])
def test_help_takes_less_than_a_second_and_a_half_of_user_time(script):
    before = os.times()
    words = [sys.executable, str(Path(script)), "--help"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0 and "--train.lr" in done.stdout
    assert os.times().children_user - before.children_user < 1.5
