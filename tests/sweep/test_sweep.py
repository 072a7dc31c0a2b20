"""The sweep, with stand-ins for the two scripts.

STAND-INS: the two scripts below train and test nothing. They read the command line of the real ones
and write a report whose numbers follow from fold, seed, shots and the model's switches, so these
tests see what the sweep runs, skips, names as failed and computes.
"""

import csv
import json
import os
import re
import sys
import time
from pathlib import Path

import pytest

from mgcl.config import ConfigError
from mgcl.sweep import command, running
from mgcl.sweep.jobs import ABLATIONS, plan
from mgcl.sweep.tables import HSNET

TRAIN = """
import os, sys
from mgcl.config import load
config = load(sys.argv[1:])
with open(config.run_dir / "calls", "a") as file:
    file.write("train " + os.environ.get("CUDA_VISIBLE_DEVICES", "") + "\\n")
if config.data.fold == int(os.environ.get("FAIL_FOLD", -1)):
    print("no room on the disk")
    sys.exit(3)
"""
TEST = """
import os, sys
from typing import NamedTuple
from mgcl.config import load
from mgcl.report.records import ARGMAX, CALIBRATED, Condition, Method, Report, Row, Setting
from mgcl.report.write import write_report
class Scores(NamedTuple):
    miou: float
    fb_iou: float
    class_iou: dict
config = load(sys.argv[1:])
with open(config.run_dir / "calls", "a") as file:
    file.write("test\\n")
parts = config.model.mgfe + config.model.background + config.model.decoder_masks
rows = []
merged = config.data.fold in map(int, os.environ.get("MERGED_FOLDS", "").split())
for shots in config.test.shots:
    miou = 10 * config.data.fold + config.train.seed + 4 * parts + shots
    rows.append(Row(Condition(Method("cosine prototypes"), shots), Scores(7.0, 8.0, {})))
    names = [("best", "last")] if merged else [("best",), ("last",)]
    for place, checkpoints in enumerate(names):
        method = Method("MGCL", checkpoints, epoch=miou - place, under_way=40 * place, trained=True)
        for kind, more in (ARGMAX, 0), (CALIBRATED, 2):
            condition = Condition(method, shots, "vote", kind, 0.5 if not more else miou / 100)
            scores = Scores(float(miou + more - place), 50.0 + config.train.seed, {})
            rows.append(Row(condition, scores))
setting = Setting("isaid", config.data.fold, "resnet50", "data")
write_report(config.run_dir, Report("a stand-in", setting, {}, rows))
"""


@pytest.fixture
def scripts(tmp_path: Path, isaid_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / running.TRAIN).write_text(TRAIN)
    (tmp_path / running.TEST).write_text(TEST)
    config = f'[data]\nbenchmark = "isaid"\nroot = "{isaid_root}"\nimage_size = 32\n'
    config += '[masks]\ngenerator = "none"\n[run]\nroot = "runs"\ndevice = "cpu"\n'
    (tmp_path / "tiny.toml").write_text(config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(running.SCRIPTS))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def run(scripts: Path, words: str) -> int:
    return command.main(["tiny.toml", *words.split()], scripts=scripts)


def calls(name: str) -> list[str]:
    return [line.split()[0] for line in Path("runs", name, "calls").read_text().splitlines()]


def table(name: str = "sweep") -> list[dict[str, str]]:
    text = Path(f"runs/tiny_{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def test_folds_and_seeds_become_the_fields_table_with_the_papers_numbers_beside_it(scripts, capsys):
    assert run(scripts, "--folds 0 1 2 --seeds 0 2 --shots 1") == 0
    prototypes, ours, calibrated, last, _, paper = table()
    # fold means over seeds 0 and 2: 14, 24, 34 (12 + 1 + 10 * fold + mean seed), deviation sqrt(2)
    assert [ours[f"fold {fold}"] for fold in range(3)] == [
        "14.00 ± 1.41",
        "24.00 ± 1.41",
        "34.00 ± 1.41",
    ]
    assert (ours["mean"], ours["paper"], ours["over paper"]) == ("24.00 ± 1.41", "39.92", "-15.92")
    assert (calibrated["threshold"], calibrated["mean"]) == ("calibrated", "26.00 ± 1.41")
    assert (paper["method"], paper["fold 1"], paper["mean"]) == (
        "MGCL, the paper",
        "30.59",
        "39.92",
    )
    assert (ours["FB-IoU"], last["mean"]) == ("51.00 ± 1.41", "23.00 ± 1.41")
    assert (ours["method"], last["method"]) == ("MGCL, best", "MGCL, last")
    assert (prototypes["mean"], prototypes["paper"]) == ("7.00 ± 0.00", "–")
    printed = capsys.readouterr().out
    assert "24.00 ± 1.41" in printed and max(map(len, printed.splitlines())) <= 120


def test_the_table_is_written_as_markdown_csv_and_latex_with_every_run(scripts):
    run(scripts, "--folds 0 --seeds 0 --shots 1 5")
    marked = re.sub(" +", " ", Path("runs/tiny_sweep.md").read_text())
    assert "| MGCL, best | 5 | 0.5 | 17.00 | 17.00 |" in marked
    latex = re.sub(" +", " ", Path("runs/tiny_sweep.tex").read_text())
    assert r"MGCL, best & 5 & 0.5 & 17.00 & 17.00 & 49.14 & -32.14 & 50.00 \\" in latex
    runs = [row for row in table("sweep_runs") if row["shots"] == "1"]
    assert [row["miou"] for row in runs] == ["7.00", "13.00", "15.00", "12.00", "14.00"]
    facts = ["method", "checkpoint", "epoch", "under_way", "rule", "threshold_kind", "threshold"]
    found = ["MGCL", "last", "12", "40", "vote", "calibrated", "0.13"]
    assert [runs[4][key] for key in facts] == found


def test_a_complete_run_is_not_run_again_and_a_missing_shot_is(scripts):
    run(scripts, "--folds 0 --seeds 0 --shots 1")
    run(scripts, "--folds 0 --seeds 0 --shots 1")
    assert calls("tiny_fold0_seed0") == ["train", "test"]
    run(scripts, "--folds 0 --seeds 0 --shots 1 5")
    assert calls("tiny_fold0_seed0") == ["train", "test"] * 2


def test_another_constant_makes_a_run_incomplete_and_a_free_one_does_not(scripts):
    run(scripts, "--folds 0 --seeds 0 --shots 1")
    run(scripts, "--folds 0 --seeds 0 --shots 1 -- --data.workers 0 --test.batch_size 2")
    assert calls("tiny_fold0_seed0") == ["train", "test"]
    run(scripts, "--folds 0 --seeds 0 --shots 1 -- --test.supports published")
    run(scripts, "--folds 0 --seeds 0 --shots 1 -- --train.lr 0.5 --test.supports published")
    assert calls("tiny_fold0_seed0") == ["train", "test"] * 3


def test_a_failure_is_named_and_the_other_runs_go_on(scripts, monkeypatch, capsys):
    monkeypatch.setenv("FAIL_FOLD", "0")
    assert run(scripts, "--folds 0 1 --seeds 0 --shots 1") == 1
    output = capsys.readouterr()
    assert "FAILED tiny_fold0_seed0: main_1_mgcl_train.py ended with status 3" in output.err
    assert "no room on the disk" in output.err
    assert calls("tiny_fold0_seed0") == ["train"]
    assert calls("tiny_fold1_seed0") == ["train", "test"]
    assert "Missing: tiny_fold0_seed0." in Path("runs/tiny_sweep.md").read_text()


def test_a_test_that_leaves_no_report_is_a_failure(scripts, capsys):
    (scripts / running.TEST).write_text("")
    assert run(scripts, "--folds 0 --seeds 0 --shots 1") == 1
    assert "left no report.json" in capsys.readouterr().err


def test_ablations_are_tables_of_what_is_on_and_all_off_is_hsnets_idea(scripts):
    words = "--folds 0 --seeds 0 --shots 1 --ablations hsnet_idea mgfe+fbc mgfe+fbc+decoder"
    assert run(scripts, words) == 0
    rows = [row for row in table("sweep_ablations") if row["threshold"] == "0.5"]
    assert {row["method"] for row in rows[:2]} == {f"{HSNET}, best", f"{HSNET}, last"}
    rows = [row for row in rows if row["method"].endswith("best")]
    assert [row["method"] for row in rows] == [f"{HSNET}, best", *["MGCL, best"] * 2]
    ticks = [[row[name] for name in ("MGFE", "FBC", "decoder masks")] for row in rows]
    assert ticks == [["", "", ""], ["✓", "✓", ""], ["✓", "✓", "✓"]]
    assert [row["mean"] for row in rows] == ["1.00", "9.00", "13.00"]
    assert all(row["mean"] != "9.00" for row in table()), "the field's table is the whole model"


def test_the_eight_ablations_set_the_models_switches(scripts):
    jobs = plan(Path("tiny.toml"), folds=[1], seeds=[3], ablations=[*ABLATIONS])
    models = [job.config.model for job in jobs]
    assert len({(m.mgfe, m.background, m.decoder_masks) for m in models}) == 8
    assert jobs[0].name == "tiny_fold1_seed3"
    assert jobs[-1].name == "tiny_hsnet_idea_fold1_seed3"
    assert not (models[-1].mgfe or models[-1].background or models[-1].decoder_masks)
    assert {(job.config.data.fold, job.config.train.seed) for job in jobs} == {(1, 3)}


@pytest.mark.parametrize("word", ["--data.fold", "--test.shots=[1]", "--run.name"])
def test_a_constant_that_the_sweep_sets_is_refused_as_an_override(scripts, word):
    with pytest.raises(ConfigError, match="set by the sweep"):
        plan(Path("tiny.toml"), folds=[0], seeds=[0], overrides=[word, "1"])


def test_a_wrong_constant_ends_the_sweep_before_any_run(scripts, capsys):
    assert run(scripts, "--folds 0 1 -- --train.lr fast") == 2
    assert "train.lr" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_best_epoch_that_is_the_last_counts_as_both_and_is_one_row_where_all_are(
    scripts, monkeypatch
):
    monkeypatch.setenv("MERGED_FOLDS", "1")
    run(scripts, "--folds 0 1 --seeds 0 --shots 1")
    rows = [row for row in table() if row["threshold"] == "0.5"]
    # fold 0 has an epoch of its own for either, fold 1 the same for both
    found = {row["method"]: (row["fold 0"], row["fold 1"]) for row in rows}
    assert found["MGCL, best"] == ("13.00", "23.00") and found["MGCL, last"] == ("12.00", "23.00")
    monkeypatch.setenv("MERGED_FOLDS", "0 1")
    run(scripts, "--folds 0 1 --seeds 0 --shots 1 5")
    names = [row["method"] for row in table() if row["threshold"] == "0.5" and row["shots"] == "1"]
    assert names == ["MGCL, best = last", "MGCL, the paper"]


def test_without_data_nothing_is_started_and_it_is_said_once(scripts, capsys):
    words = "--folds 0 1 2 --seeds 0..2 -- --data.root nowhere"
    assert run(scripts, words) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "nowhere: data/README.md" in said
    assert not Path("runs").exists()
    assert run(scripts, "--folds 0 1 2 --seeds 0..2 -- --masks.generator superpixels") == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "main_0_extract_masks.py" in said


def test_a_failure_of_all_runs_is_said_once_and_no_table_is_written(scripts, capsys):
    (scripts / running.TRAIN).write_text("print('no room'); raise SystemExit(3)")
    assert run(scripts, "--folds 0 1 --seeds 0 1 --shots 1") == 1
    said = capsys.readouterr().err
    assert said.count("no room") == 1 and "tiny_fold1_seed1: main_1" in said
    assert not Path("runs/tiny_sweep.md").exists()


def test_a_report_of_an_earlier_version_is_tested_again_and_one_of_older_data_is_named(
    scripts, capsys
):
    words = "--folds 0 --seeds 0 --shots 1"
    run(scripts, words)
    path = Path("runs/tiny_fold0_seed0/report.json")
    path.write_text(
        '{"rows": [{"method": "MGCL, best (epoch 3)", "shots": 1, "threshold": "0.5"}]}'
    )
    capsys.readouterr()
    run(scripts, words)
    assert "tiny_fold0_seed0: its report is of an earlier version" in capsys.readouterr().out
    assert calls("tiny_fold0_seed0") == ["train", "test"] * 2
    os.utime(path, (0, 0))
    assert run(scripts, words) == 0
    assert "newer than its report" in capsys.readouterr().err
    assert calls("tiny_fold0_seed0") == ["train", "test"] * 2


def test_seeds_may_be_a_range(scripts):
    assert command._flat([[4], command._numbers("0..2"), command._numbers("2")]) == [4, 0, 1, 2]


def test_jobs_are_spread_over_the_gpus_one_process_each(scripts):
    jobs = plan(Path("tiny.toml"), folds=[0, 1], seeds=[0], shots=[1])
    assert command.run_all(jobs, scripts, ["3", "5"]) == {}
    seen = {Path("runs", job.name, "calls").read_text().split()[1] for job in jobs}
    assert seen == {"3", "5"}
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    report = json.loads(Path("runs", jobs[0].name, "report.json").read_text())
    assert report["rows"][0]["method"] == "cosine prototypes"


def test_runs_are_jobs_of_a_cluster_and_a_second_call_writes_the_table(scripts, capsys):
    words = "--folds 0 1 --seeds 0 --shots 1 --on local"
    assert run(scripts, words) == 75
    assert "2 jobs: the same command writes the table" in capsys.readouterr().out
    marks = [Path("runs", f"tiny_fold{fold}_seed0", "sweep.job") for fold in (0, 1)]
    assert run(scripts, words) == 75  # nothing is queued twice
    until = time.monotonic() + 240
    while any(mark.exists() for mark in marks) and time.monotonic() < until:
        time.sleep(0.1)
    assert run(scripts, words) == 0
    assert table()[1]["fold 1"] == "23.00"
    assert [calls(f"tiny_fold{fold}_seed0") for fold in (0, 1)] == [["train", "test"]] * 2
    marks[0].write_text("local 999999999")  # killed: it is queued again
    Path("runs/tiny_fold0_seed0/report.json").unlink()
    assert run(scripts, words) == 75
    while marks[0].exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert run(scripts, words) == 0


SLURM = {
    "srun": "exit 1",
    "sbatch": "echo x >> jobs; n=$(wc -l < jobs); echo $n >> queue; echo Submitted batch job $n",
    "squeue": "test -e down && { echo no controller >&2; exit 1; }; cat queue 2>/dev/null; exit 0",
}


def test_jobs_that_slurm_does_not_know_any_more_are_queued_again(
    scripts, capsys, monkeypatch, tmp_path
):
    programs = tmp_path / "slurm"
    programs.mkdir()
    for name, text in SLURM.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    words = "--folds 0 1 --seeds 0 --shots 1 --on slurm --slurm time=10"
    assert run(scripts, words) == 75
    assert "tiny_fold0_seed0: job 1" in (said := capsys.readouterr().out)
    assert "tiny_fold1_seed0: job 2" in said
    assert run(scripts, words) == 75
    assert "tiny_fold1_seed0: queued or running as job 2" in capsys.readouterr().out
    Path("queue").write_text("1\n")  # the second was killed
    assert run(scripts, words) == 75
    assert "tiny_fold0_seed0: queued or running as job 1" in (said := capsys.readouterr().out)
    assert "tiny_fold1_seed0: job 3" in said
    Path("down").touch()
    assert run(scripts, words) == 2
    assert "no controller" in capsys.readouterr().err
    assert Path("jobs").read_text().count("x") == 3


def test_a_cluster_s_package_that_is_missing_and_its_wrong_options_are_named(
    scripts, capsys, monkeypatch
):
    assert run(scripts, "--on local --slurm colour=red --folds 0") == 2
    assert "colour" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(scripts, "--on local --slurm red")
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert run(scripts, "--on slurm --folds 0") == 2
    assert "pip install submitit" in capsys.readouterr().err


def test_a_machine_without_slurm_says_where_the_sweep_belongs(scripts, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert run(scripts, "--folds 0 --seeds 0 --shots 1 --on slurm") == 2
    assert "without --on slurm" in capsys.readouterr().err
