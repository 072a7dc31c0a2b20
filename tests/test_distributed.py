"""Several processes: the same training, exactly the same scores, and no hang where one fails."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import torch

import main_1_mgcl_train as main_1
import main_2_mgcl_test as main_2
import mgcl.engine.training
from mgcl import checkpoint, distributed
from mgcl.datasets.episodes import Episode
from mgcl.engine.forward import Setup
from mgcl.engine.training import add_gradients
from mgcl.model.network import build_model
from tests.ranks import run_groups
from tests.small_run import REPOSITORY, records, words

# Eleven steps an epoch of which the last has one episode: less than there are processes.
JOB = {
    "masks_generator": "none",
    "data_ignore_label": 255,
    "train_batch_size": 3,
    "train_episodes_per_epoch": 31,
    "train_log_every": 1,
}


def train(root: str, runs: str | Path, **constants: Any) -> int:
    """The training on this process of a group; with two passes a step where there are several."""
    count = distributed.world_size()
    constants |= JOB | ({"train_accumulate": 2} if count > 1 else {})
    return main_1.main(words(Path(root), Path(root), Path(runs) / f"{count}", **constants))


def train_frozen(root: str, runs: str) -> int:
    """The same training from kept features."""
    frozen = {"train_freeze_backbone": "true", "train_epochs": 1}
    return train(root, Path(runs) / "frozen", **frozen)


def score(root: str, masks: str, folder: str) -> int:
    """The test on this process of a group."""
    return main_2.main(words(Path(root), Path(masks), Path(folder)))


def spoilt(root: str, folder: str) -> int:
    """The training; the second process has no number for its part of the third batch."""
    run, loss, steps = Path(folder) / "spoilt", mgcl.engine.training.segmentation_loss, []

    def spoil(*inputs: Any) -> torch.Tensor:
        steps.append(1)
        third = len(steps) == 3 and distributed.rank() == 1
        return loss(*inputs) * (math.nan if third else 1)

    mgcl.engine.training.segmentation_loss = spoil
    distributed.ECHO_SECONDS = 0
    told = Path(folder) / f"{distributed.rank()}.txt"
    with told.open("w") as file, redirect_stderr(file):
        often = {"train_log_every": 20, "train_save_every": 2}
        return main_1.main(words(Path(root), Path(root), run, **JOB | often)) - 1


def agree(folder: str) -> None:
    """What the small functions give on this process of a group."""
    cpu, me = torch.device("cpu"), distributed.rank()
    with distributed.session(cpu):
        said_yes = distributed.AnySaidYes()
        answers = []
        for step in range(5):  # the last process is told to stop at the third of five steps
            answers.append(said_yes(me == distributed.world_size() - 1 and step == 2))
            if answers[-1]:
                break
        gathered = sum(distributed.gather([10 * me + i for i in range(me)]), [])
        same = distributed.is_same(7, cpu), distributed.is_same(me, cpu)
    found = {"answers": answers, "gathered": gathered, "same": same}
    (Path(folder) / f"{distributed.world_size()}_{me}.json").write_text(json.dumps(found))


@pytest.fixture(scope="module")
def groups(pipeline, tmp_path_factory) -> Path:
    """Folder with what groups of processes left behind."""
    folder = tmp_path_factory.mktemp("groups")
    tested = folder / pipeline.folder.name
    tested.mkdir()
    for name in ("last.pt", "best.pt", "log.jsonl"):
        shutil.copy(pipeline.folder / name, tested)
    root = pipeline.root
    run_groups(
        "tests.test_distributed",
        ("train", [1, 2], (root, folder)),
        ("train_frozen", [1, 2], (root, folder)),
        ("score", [3], (root, pipeline.masks, tested)),
        ("spoilt", [2], (root, folder)),
        ("agree", [1, 3], (folder,)),
    )
    return folder


def test_two_processes_and_two_passes_a_step_train_as_one_process_in_one_pass(groups):
    alone, together = (records(groups / name, "step") for name in "12")
    assert len(alone) == len(together) == 22
    for one, two in zip(alone, together, strict=True):
        assert two["step"] == one["step"] and two["epoch"] == one["epoch"]
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    for one, two in zip(*(records(groups / name, "train") for name in "12"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert two["train_miou"] == pytest.approx(one["train_miou"], abs=0.05)
    one, two = (checkpoint.load(groups / name / "last.pt")["model"] for name in "12")
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-4), name


def test_two_processes_train_from_kept_features_as_one_does(groups):
    alone, together = (records(groups / "frozen" / name, "step") for name in "12")
    assert len(alone) == len(together) == 11
    for one, two in zip(alone, together, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    one, two = (checkpoint.load(groups / "frozen" / name / "last.pt")["model"] for name in "12")
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-4), name


def test_only_the_first_process_writes(groups):
    one, two = ({p.name for p in (groups / name).iterdir()} for name in "12")
    assert one == two
    assert len(list((groups / "2/tensorboard").iterdir())) == 1
    kinds = [record["kind"] for record in records(groups / "2")]
    assert kinds == 2 * (11 * ["step"] + ["train", "validation"])


def test_a_test_on_three_processes_gives_exactly_the_report_of_one(pipeline, groups):
    folder = groups / pipeline.folder.name
    found, expected = (report(f) for f in (folder, pipeline.folder))
    assert len(found["rows"]) == len(expected["rows"]) > 6
    assert found == expected
    assert {p.name for p in folder.iterdir()} == {p.name for p in pipeline.folder.iterdir()} - {
        *("config.toml", "tensorboard", "last.previous.pt", ".lock")
    }


def report(folder: Path) -> dict[str, Any]:
    """All of a report but its speed and its place."""
    text = (folder / "report.json").read_text().replace(str(folder), "RUN")
    return json.loads(re.sub(r", [\d.]+ a second", "", text))


@pytest.mark.parametrize(
    "backbone, switches",
    [
        ("vgg16", {}),
        ("resnet50", {}),
        ("efficientnet_lite0", {}),
        ("efficientnet_lite0", {"mgfe": False}),
        ("efficientnet_lite0", {"background": False}),
        ("efficientnet_lite0", {"decoder_masks": False}),
    ],
)
def test_every_parameter_has_part_in_the_loss_so_that_all_gradients_are_exchanged(
    backbone, switches
):
    model = build_model(backbone, "none", **switches)
    add_gradients(model, episodes(1), setup=Setup(torch.device("cpu")), loss="ce", passes=1)
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def episodes(count: int, side: int = 64) -> Episode:
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 2, 3, side, side), generator=g, dtype=torch.uint8)
    labels = torch.randint(0, 2, (count, 2, side, side), generator=g, dtype=torch.uint8)
    labels[0, 0, :9] = 255
    ids = torch.arange(count)
    return Episode(
        images[:, 0], labels[:, 0], labels[:, 0], images[:, 1:], labels[:, 1:], labels[:, 1:],
        ids, ids,
    )  # fmt: skip


def test_passes_of_uneven_size_give_the_gradient_of_the_whole_batch():
    setup = Setup(torch.device("cpu"), ignore_background=False)
    torch.manual_seed(0)
    model = build_model("efficientnet_lite0", "none").double()
    batch = episodes(3)._replace(
        query_image=torch.randn(3, 3, 64, 64, dtype=torch.float64),
        support_images=torch.randn(3, 1, 3, 64, 64, dtype=torch.float64),
    )
    found = []
    for passes in (1, 2, 7):
        model.zero_grad()
        value, margin = add_gradients(model, batch, setup=setup, loss="ce+dice", passes=passes)
        found.append((value.item(), margin, [p.grad.clone() for p in model.parameters()]))
    for value, margin, gradients in found[1:]:
        assert value == pytest.approx(found[0][0], rel=1e-6)
        assert margin.shape == (3, 64, 64) and torch.allclose(margin, found[0][1], atol=1e-5)
        for one, other in zip(gradients, found[0][2], strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-9 + 1e-5 * other.abs().max())


def test_processes_agree_on_the_step_at_which_they_stop(groups):
    found = {path.stem: json.loads(path.read_text()) for path in groups.glob("*.json")}
    assert found.pop("1_0") == {
        "answers": [False, False, True], "gathered": [], "same": [True, True],
    }  # fmt: skip
    assert len(found) == 3
    for values in found.values():  # of several, a step later
        assert values["answers"] == [False, False, False, True]
        assert values["gathered"] == [10, 20, 21]
        assert values["same"] == [True, False]


def test_a_nan_on_one_process_stops_all_naming_the_whole_batch(groups):
    for rank in range(2):
        said = (groups / f"{rank}.txt").read_text()
        assert f"error on process {rank}: the loss is nan on the training episodes" in said
        assert "[6, 7, 8]" in said
    last = checkpoint.load(groups / "spoilt/last.pt")
    assert last["step"] == 2 and all(v.isfinite().all() for v in last["model"].values())


BROKEN = """
import os, sys
import main_1_mgcl_train as main_1
import mgcl.engine.training
loss, steps = mgcl.engine.training.segmentation_loss, []
def broken(*inputs):
    steps.append(1)
    if os.environ["RANK"] == "1" and len(steps) == 3:
        raise ValueError("the third batch is broken")
    return loss(*inputs)
mgcl.engine.training.segmentation_loss = broken
sys.exit(main_1.main(sys.argv[1:]))
"""


def test_an_error_of_one_process_ends_all_with_its_message(isaid_root, tmp_path):
    script = tmp_path / "broken.py"
    script.write_text(BROKEN)
    line = words(isaid_root, isaid_root, tmp_path / "run", **JOB)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", script, *line],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 1
    assert "error on process 1: the third batch is broken" in done.stderr
    assert time.monotonic() - began < 200
    assert not (tmp_path / "run/last.pt").exists()
