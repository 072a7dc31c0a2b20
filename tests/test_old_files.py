"""What an older program left is gone on with, tested, used and read (tests/fixtures)."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import torch

import main_1_mgcl_train as main_1
import main_2_mgcl_test as main_2
from mgcl import checkpoint, config, old_names
from mgcl.datasets.benchmarks import BENCHMARKS
from mgcl.datasets.manifest import read_manifest
from mgcl.engine.forward import Setup
from mgcl.masks.store import MaskStore
from mgcl.predict import load_predictor
from mgcl.predict.predictor import Predictor
from mgcl.sweep import jobs
from tests.small_run import REPOSITORY, Pipeline, records


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    for path in sorted((REPOSITORY / "tests/fixtures").glob("*.tar.xz")):
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
    return folder


def words(old: Path, name: str, pipeline: Pipeline, *more: str) -> list[str]:
    """Command line of an old run by its own config.toml, the data being elsewhere now."""
    places = ["--data.root", str(pipeline.root), "--masks.root", str(pipeline.masks)]
    return ["--config", str(old / name / "config.toml"), "--run.root", str(old), *places, *more]


def test_a_stopped_run_goes_on_without_force_and_says_the_new_word_once(
    unpacked, pipeline, tmp_path, capsys
):
    old_names.tell.cache_clear()
    shutil.copytree(unpacked / "stopped", tmp_path / "stopped")
    assert checkpoint.load(tmp_path / "stopped/last.pt")["progress"]["step"] == 1
    line = words(tmp_path, "stopped", pipeline, "--train.resume", "auto")
    assert main_1.main(line) == main_1.main(line) == 0
    said = capsys.readouterr()
    assert "going on after step 4, in epoch 2" in said.out
    assert said.err.count("warning: test.cut is called test.threshold now\n") == 1
    last = checkpoint.load(tmp_path / "stopped/last.pt")
    assert (last["epoch"], last["step"], last["forced"]) == (2, 6, [])
    assert [r["epoch"] for r in records(tmp_path / "stopped", "validation")] == [0, 1]
    assert records(tmp_path / "stopped", "forced") == []


def test_a_finished_run_is_tested_again_to_the_same_scores(unpacked, pipeline, tmp_path):
    shutil.copytree(unpacked / "finished", tmp_path / "finished")
    before = json.loads((tmp_path / "finished/report.json").read_text())["rows"]
    line = words(tmp_path, "finished", pipeline)
    assert main_1.main([*line, "--train.resume", "auto"]) == 0
    assert main_2.main(line) == 0
    after = json.loads((tmp_path / "finished/report.json").read_text())["rows"]
    # The network's two rows; a class without an episode, which counted as 0 then, has no IoU now.
    for new, old in zip(after[:2], before[:2], strict=True):
        assert new["class_iou"].keys() == old["class_iou"].keys()
        asked = {name: iou for name, iou in new["class_iou"].items() if iou is not None}
        assert asked and asked.items() <= old["class_iou"].items()


def test_a_checkpoint_segments_by_its_own_constants_and_calibrated_threshold(unpacked, capsys):
    old_names.tell.cache_clear()
    path = unpacked / "finished/best.pt"
    assert checkpoint.load(path)["threshold"] == 0.45
    predictor = load_predictor(path, device="cpu")
    assert predictor.threshold == 0.45
    assert capsys.readouterr().err == ""
    for _ in range(2):
        assert load_predictor(path, device="cpu", cut=0.25).threshold == 0.25  # type: ignore
    assert capsys.readouterr().err == "warning: cut= is called threshold= now\n"
    setup = Setup(torch.device("cpu"), "float32", True)
    again = Predictor(torch.nn.Identity(), None, image_size=64, setup=setup, cut=0.75)
    assert again.threshold == 0.75


def test_the_maps_of_a_mask_store_are_read(unpacked):
    store = MaskStore(unpacked / "masks")
    keys = store.keys()
    assert store.spec["name"] == "superpixels" and len(keys) == 3
    assert {store.problem(key, (64, 64)) for key in keys} == {None}


def test_the_episodes_of_a_test_are_read(unpacked):
    path = unpacked / "finished/episodes_1shot.jsonl"
    specs = read_manifest(path, BENCHMARKS["isaid"])
    assert len(specs) == 7 and {len(spec.supports) for spec in specs} == {1}


def test_a_report_whose_facts_are_words_is_not_counted_by_a_sweep(unpacked):
    line = ["--config", str(unpacked / "finished/config.toml"), "--run.root", str(unpacked)]
    job = jobs.Job(jobs.FULL, 0, 0, line, config.load(line))
    (unpacked / "finished/sweep.toml").touch()
    assert "earlier version" in jobs.why_incomplete(job)


def test_a_network_that_an_old_checkpoint_does_not_name_is_the_default_one(unpacked, tmp_path):
    state = checkpoint.load(unpacked / "finished/best.pt")
    del state["config"]["model"]["mgfe"], state["config"]["train"], state["config"]["masks"]
    state["config"]["masks"] = {"generator": "none"}
    torch.save(state, tmp_path / "older.pt")
    assert load_predictor(tmp_path / "older.pt", device="cpu").threshold == 0.45


@pytest.mark.parametrize(
    "section, refused",
    [("run", False), ("train", False), ("model", True), ("data", True), ("another", True)],
)
def test_a_constant_from_the_future_is_refused_where_a_result_may_depend_on_it(
    section, refused, unpacked, tmp_path, capsys
):
    state = checkpoint.load(unpacked / "finished/best.pt")
    state["config"]["masks"] = {"generator": "none"}
    state["config"].setdefault(section, {})["warp"] = 7
    torch.save(state, tmp_path / "newer.pt")
    if refused:
        with pytest.raises(checkpoint.CheckpointError, match=f"{section}.warp 7.*--config"):
            load_predictor(tmp_path / "newer.pt", device="cpu")
    else:
        load_predictor(tmp_path / "newer.pt", device="cpu")
        assert f"newer.pt has {section}.warp 7, unknown here" in capsys.readouterr().err
