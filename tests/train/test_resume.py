"""Interrupted, killed, torn, forced: a run goes on as if nothing had been, or says why not."""

import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import main_1_mgcl_train as main_1
import main_2_mgcl_test as main_2
from mgcl import checkpoint
from mgcl.config import Config, with_values
from mgcl.engine import evaluation, training
from mgcl.files import keep_as
from mgcl.model.network import MGCL, build_model
from mgcl.train import interrupt, resume
from mgcl.train.interrupt import Signals
from tests.kill_loop import differences, left_behind
from tests.small_run import REPOSITORY, Pipeline, records, words


def in_process(pipeline: Pipeline, folder: Path, **constants: Any) -> int:
    constants = {"train_resume": "auto"} | constants
    return main_1.main(words(pipeline.root, pipeline.masks, folder, **constants))


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.glob("*.pt")}


class Telling:
    """A function that tells this process to stop in its n-th call."""

    def __init__(self, function: Callable, call: int, number: signal.Signals) -> None:
        self.function, self.call, self.number, self.calls = function, call, number, 0

    def __call__(self, *inputs: Any) -> Any:
        self.calls += 1
        if self.calls == self.call:
            os.kill(os.getpid(), self.number)
        return self.function(*inputs)


def stopped(
    pipeline: Pipeline,
    folder: Path,
    where: str,
    call: int,
    number: signal.Signals,
    **constants: Any,
) -> dict[str, Any]:
    """Train until told to stop in a call of a function of the engine; what last.pt says then."""
    module = next(m for m in (training, evaluation) if hasattr(m, where))
    with pytest.MonkeyPatch.context() as patch:
        told = Telling(getattr(module, where), call, number)
        patch.setattr(module, where, told)
        assert in_process(pipeline, folder, **constants) == interrupt.STATUS == 75
    return checkpoint.load(folder / "last.pt")


@pytest.fixture(scope="module")
def torn_apart(pipeline, tmp_path_factory) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """A run of six steps, stopped four times; its folder and its checkpoints at the stops."""
    folder = tmp_path_factory.mktemp("resume") / "small"
    before = [signal.getsignal(number) for number in interrupt.SIGNALS]
    stops = [
        stopped(pipeline, folder, "segmentation_loss", 2, signal.SIGTERM),
        stopped(pipeline, folder, "segmentation_loss", 1, signal.SIGUSR1),
        stopped(pipeline, folder, "count_pixels", 3, signal.SIGTERM),
        stopped(pipeline, folder, "segmentation_loss", 1, signal.SIGINT),
    ]
    assert [signal.getsignal(number) for number in interrupt.SIGNALS] == before
    assert in_process(pipeline, folder) == 0
    yield folder, stops


def test_a_signal_stops_after_the_step_and_saves(torn_apart):
    _, stops = torn_apart
    # SIGTERM in step 2, SIGUSR1 in step 3, in the validation after it, SIGINT in step 4
    assert [(s["epoch"], s["step"], s["seen"]) for s in stops] == [
        (0, 2, 4),
        (0, 3, 5),
        (0, 3, 5),
        (1, 4, 2),
    ]
    assert [s["progress"]["step"] for s in stops] == [2, 3, 3, 1]


def test_a_run_stopped_four_times_ends_as_an_undisturbed_one_to_the_bit(pipeline, torn_apart):
    folder, _ = torn_apart
    assert differences(left_behind(folder), left_behind(pipeline.folder)) == []
    assert not list(folder.rglob("*.tmp"))


def test_a_frozen_run_reads_features_and_ends_the_same_to_the_bit_kept_or_not_stopped_or_not(
    pipeline, tmp_path, monkeypatch
):
    frozen = {"train_freeze_backbone": "true", "train_epochs": 3}
    encoded = []
    encode = MGCL.encode
    monkeypatch.setattr(
        MGCL, "encode", lambda self, *given: encoded.append(len(given[0])) or encode(self, *given)
    )
    assert in_process(pipeline, tmp_path / "kept", **frozen) == 0
    kept = sum(encoded)
    encoded.clear()
    assert in_process(pipeline, tmp_path / "anew", run_features_gib=0, **frozen) == 0
    assert sum(encoded) > kept
    stopped(pipeline, tmp_path / "stopped", "segmentation_loss", 5, signal.SIGTERM, **frozen)
    assert in_process(pipeline, tmp_path / "stopped", data_workers=2, **frozen) == 0
    found, *others = (left_behind(tmp_path / name) for name in ("kept", "anew", "stopped"))
    assert [differences(found, other) for other in others] == [[], []]
    learned, start = found["last"]["model"], build_model("efficientnet_lite0").state_dict()
    same = {name.split(".")[0]: torch.equal(learned[name], start[name]) for name in learned}
    assert same == {"backbone": True, "segmentation_head": False}


def test_a_second_interrupt_ends_at_once(capfd):
    before = signal.getsignal(signal.SIGINT)
    with Signals() as signals:
        assert signals.received is None
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == "SIGINT"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        with pytest.raises(interrupt.Interrupted, match="SIGINT"):
            list(signals.checked([1]))
    assert signal.getsignal(signal.SIGINT) is before
    assert "Ctrl-C again" in capfd.readouterr().err


def test_a_job_killed_at_random_moments_ends_as_an_undisturbed_one(isaid_root):
    done = subprocess.run(
        [sys.executable, "-m", "tests.kill_loop", "--kills", "3", "--data", isaid_root],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "each ended as the undisturbed one, to the bit" in done.stdout


def copy(pipeline: Pipeline, folder: Path) -> Path:
    """The finished run, to be damaged."""
    shutil.copytree(pipeline.folder, folder)
    return folder


HOLDING = """
import pathlib, sys
from mgcl.files import lock
held = lock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
input()
"""


def test_two_trainings_in_one_folder_are_refused(pipeline, tmp_path, capsys):
    folder = copy(pipeline, tmp_path / "small")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, folder / ".lock"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        assert in_process(pipeline, folder) == 1
        assert f"{folder} is in use by another process" in capsys.readouterr().err
        other.kill()
    assert in_process(pipeline, folder) == 0


def test_the_last_two_checkpoints_are_kept(pipeline):
    last, previous = (
        checkpoint.load(pipeline.folder / f"{name}.pt") for name in ("last", "last.previous")
    )
    # the one before is that of the same step, before its validation
    assert (last["epoch"], last["step"], last["progress"]) == (2, 6, None)
    assert (previous["epoch"], previous["step"], previous["seen"]) == (1, 6, 5)


def test_from_a_torn_checkpoint_the_one_before_goes_on_with_a_warning(pipeline, tmp_path, capsys):
    folder = copy(pipeline, tmp_path / "small")
    (folder / "last.pt").write_bytes((folder / "last.pt").read_bytes()[:-9])
    (folder / ".last.pt.123.tmp").write_bytes(b"left behind")
    assert in_process(pipeline, folder) == 0
    said = capsys.readouterr().err
    assert f"warning: {folder / 'last.pt'} is torn" in said and "last.previous.pt" in said
    assert differences(left_behind(folder), left_behind(pipeline.folder)) == []
    assert not list(folder.rglob("*.tmp"))


def test_a_kill_between_the_two_names_of_a_checkpoint_leaves_nothing_behind(tmp_path):
    last, previous = tmp_path / "last.pt", tmp_path / "last.previous.pt"
    checkpoint.save(last, {"epoch": 1})
    keep_as(last, previous)  # as far as a killed process came: both names are one file
    checkpoint.save(last, {"epoch": 2}, previous=previous)
    assert [checkpoint.load(path)["epoch"] for path in (last, previous)] == [2, 1]
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "last.previous.pt"}


@pytest.mark.parametrize("damage", ["a flipped bit", "hostile", "missing"])
def test_the_newest_whole_checkpoint_is_found(damage, pipeline, tmp_path, capsys):
    data = bytearray((pipeline.folder / "last.pt").read_bytes())
    data[len(data) // 2] ^= 1
    if damage != "missing":
        (tmp_path / "last.pt").write_bytes(data if damage != "hostile" else hostile(tmp_path))
    shutil.copy(pipeline.folder / "last.previous.pt", tmp_path)
    path, saved = resume.find(tmp_path, "auto")
    assert path.name == "last.previous.pt" and saved["seen"] == 5
    warned = "last.pt is " in capsys.readouterr().err
    assert warned == (damage != "missing") and not (tmp_path / "mark").exists()


def hostile(folder: Path) -> bytes:
    """A pickle that makes a file `mark` when it is read by a careless reader."""

    class Mark:
        def __reduce__(self):
            return Path.touch, (folder / "mark",)

    return pickle.dumps({"model": Mark()}, protocol=2)


def test_two_torn_checkpoints_are_refused_and_left_alone(pipeline, tmp_path, capsys):
    folder = copy(pipeline, tmp_path / "small")
    for name in ("last.pt", "last.previous.pt"):
        (folder / name).write_bytes(b"PK\x03\x04 torn")
    before = files(folder)
    assert in_process(pipeline, folder) == 1
    said = capsys.readouterr()
    assert "last.previous.pt is torn" in said.err and "last.pt is torn" in said.err
    assert files(folder) == before


def test_a_hostile_pickle_is_no_checkpoint_to_test_either(pipeline, tmp_path, capsys):
    path = tmp_path / "hostile.pt"
    path.write_bytes(hostile(tmp_path))
    line = words(pipeline.root, pipeline.masks, tmp_path / "run", test_checkpoint=path)
    assert main_2.main(line) == 1
    assert "hostile.pt is no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "mark").exists() and not (tmp_path / "run").exists()


def test_a_run_may_go_on_from_a_checkpoint_elsewhere(pipeline, tmp_path, capsys):
    elsewhere = pipeline.folder / "last.previous.pt"
    assert in_process(pipeline, tmp_path / "new", train_resume=elsewhere) == 0
    found, expected = left_behind(tmp_path / "new"), left_behind(pipeline.folder)
    for part in ("last", "best"):
        assert differences(found[part], expected[part]) == []
    assert found["log"] == [r for r in expected["log"] if r["step"] == 6]
    # a folder with a run of its own is not overwritten
    before = files(tmp_path / "new")
    assert in_process(pipeline, tmp_path / "new", train_resume=elsewhere) == 1
    assert "another run.name" in capsys.readouterr().err
    assert files(tmp_path / "new") == before


@pytest.mark.parametrize(
    "name, said",
    [
        ("best.pt", "best.pt is no checkpoint to go on from"),
        ("nothing.pt", f"no checkpoint {Path('nothing.pt').absolute()}"),
    ],
)
def test_what_cannot_be_gone_on_from_is_said(name, said, pipeline, tmp_path, capsys):
    path = pipeline.folder / name if name == "best.pt" else name
    assert in_process(pipeline, tmp_path / "new", train_resume=path) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_other_constants_are_refused_or_forced_and_then_recorded(pipeline, tmp_path, capsys):
    start = {"train_resume": pipeline.folder / "last.previous.pt"}
    changed = {"train_weight_decay": 0.25, "train_epochs": 3}
    folder = tmp_path / "forced"
    assert in_process(pipeline, folder, **start, **changed) == 1
    said = capsys.readouterr().err
    assert "train.weight_decay 0.0005 -> 0.25" in said and "--train.force true" in said
    assert in_process(pipeline, folder, **start, **changed, train_force="true") == 0
    assert "warning: resumed from" in capsys.readouterr().err
    expected = ["train.epochs 2 -> 3", "train.weight_decay 0.0005 -> 0.25"]
    (forced,) = records(folder, "forced")
    assert forced["constants"] == expected and forced["resumed_from"].endswith("previous.pt")
    last = checkpoint.load(folder / "last.pt")
    assert last["forced"] == expected and last["epoch"] == 3
    assert {group["weight_decay"] for group in last["optimizer"]["param_groups"]} == {0.25}
    assert "weight_decay = 0.25" in (folder / "config.toml").read_text()
    # The run has these constants now: they need no force.
    assert in_process(pipeline, folder, **changed) == 0


def test_constants_that_one_of_two_versions_does_not_know(capsys):
    def changed(force: bool = False) -> list[str]:
        return resume.changed_constants(
            Path("last.pt"), saved, with_values(Config(), train={"force": force})
        )

    saved = {"optimizer": {}, "epoch": 1, "config": {"train": {"lr": 0.01}}}
    assert changed() == []  # what the checkpoint does not know counts as its default
    saved["config"]["run"] = {"colour": "red"}
    assert changed() == []
    assert "last.pt has run.colour red, unknown here: no training" in capsys.readouterr().err
    saved["config"]["train"]["warmup"] = 5
    with pytest.raises(ValueError, match="train.warmup 5 -> unknown here.*version.*train.force"):
        changed()
    assert changed(force=True) == ["train.warmup 5 -> unknown here"]


def test_another_optimiser_starts_with_moments_of_its_own_if_forced(pipeline, tmp_path):
    start = {"train_resume": pipeline.folder / "last.previous.pt", "train_force": "true"}
    changed = {"train_optimizer": "sgd", "train_epochs": 3, "train_batch_size": 3}
    assert in_process(pipeline, tmp_path / "sgd", **start, **changed) == 0
    moments = checkpoint.load(tmp_path / "sgd/last.pt")["optimizer"]["state"]
    assert moments and all(set(m) == {"momentum_buffer"} for m in moments.values())


def test_another_network_is_refused_even_if_forced(pipeline, tmp_path, capsys):
    start = {"train_resume": pipeline.folder / "last.previous.pt"}
    other = {"model_decoder_masks": "false"}
    assert in_process(pipeline, tmp_path / "other", **start, **other) == 1
    assert "model.decoder_masks True -> False" in capsys.readouterr().err
    assert in_process(pipeline, tmp_path / "other", **start, **other, train_force="true") == 1
    assert "decoder1.0.weight" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_full_disk_ends_with_what_to_do_and_whole_files_from_which_the_run_goes_on(
    pipeline, tmp_path, capsys
):
    folder = tmp_path / "small"
    stopped(pipeline, folder, "segmentation_loss", 4, signal.SIGTERM)
    said = capsys.readouterr().out
    assert "stopped by SIGTERM after step 4, in epoch 2" in said
    assert "--train.resume auto" in said
    before, limits = files(folder), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20, limits[1]))  # a checkpoint is 44 MB
    try:
        assert in_process(pipeline, folder) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().err
    assert f"{folder} takes no more (File too large): make room there" in said
    assert "Traceback" not in said
    assert files(folder) == before and not list(folder.rglob("*.tmp"))
    assert in_process(pipeline, folder) == 0
    assert differences(left_behind(folder), left_behind(pipeline.folder)) == []


def test_without_the_best_epoch_s_file_the_best_is_sought_anew(pipeline, tmp_path):
    path = tmp_path / "last.pt"
    path.touch()
    state = resume.State(best_miou=5.0, best_epoch=0)
    assert resume.find_best(path, state) is None and state.best_epoch == -1
    shutil.copy(pipeline.folder / "best.pt", tmp_path)
    held = checkpoint.load(tmp_path / "best.pt")["epoch"] - 1
    assert resume.find_best(path, resume.State(best_epoch=held)) == tmp_path / "best.pt"
    other = resume.State(best_miou=5.0, best_epoch=held + 1)
    assert resume.find_best(path, other) is None
    assert (other.best_miou, other.best_epoch) == (-1.0, -1)


def test_weights_that_are_no_numbers_are_not_saved(pipeline, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "small"
    step, steps = torch.optim.Adam.step, []

    def spoiling(optimizer: torch.optim.Adam) -> None:
        step(optimizer)
        steps.append(1)
        if len(steps) == 2:
            optimizer.param_groups[0]["params"][0].data[0] = float("nan")

    monkeypatch.setattr(torch.optim.Adam, "step", spoiling)
    assert in_process(pipeline, folder, train_save_every=1) == 1
    said = capsys.readouterr().err
    assert "NaN or infinite after step 2 on the training episodes [2, 3]" in said
    assert checkpoint.load(folder / "last.pt")["step"] == 1
    assert records(folder, "step") == []
