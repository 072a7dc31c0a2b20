"""Training runs: the same from a seed, resumed without a trace, and what they record."""

import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import main_1_mgcl_train as main_1
import mgcl.engine.training
from mgcl import checkpoint
from mgcl.build import resolve_threshold, thresholds_to_try
from mgcl.config import Config, load, with_values
from mgcl.config.compare import LEARNING, different_constants
from mgcl.config.sections import Mark
from mgcl.datasets.loader import epoch_batches
from mgcl.engine.evaluation import THRESHOLDS
from mgcl.model.network import build_model
from tests import oracle
from tests.small_run import REPOSITORY, Pipeline, records, words

SPEED = {"images_per_second"}


def trace(folder: Path) -> list[dict[str, Any]]:
    """All that a run recorded, but for its speed."""
    return [{k: v for k, v in r.items() if k not in SPEED} for r in records(folder)]


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in records(folder, "step")]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(path)["model"]


def same(first: Any, second: Any) -> bool:
    """Equal to the bit, however nested."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(v, second[k]) for k, v in first.items())
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def files(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def in_process(pipeline: Pipeline, folder: Path, **constants: Any) -> int:
    return main_1.main(words(pipeline.root, pipeline.masks, folder, **constants))


@pytest.fixture(scope="module")
def with_workers(pipeline, tmp_path_factory) -> Path:
    """The pipeline's training again, in this process and with two workers."""
    folder = tmp_path_factory.mktemp("training") / "small"
    assert in_process(pipeline, folder, data_workers=2) == 0
    return folder


def test_the_same_seed_gives_the_same_run_to_the_bit_with_any_number_of_workers(
    pipeline, with_workers
):
    assert len(losses(pipeline.folder)) == 4
    assert trace(with_workers) == trace(pipeline.folder)
    for name in ("last.pt", "best.pt"):
        assert same(weights(with_workers / name), weights(pipeline.folder / name))


def test_training_moves_the_head_and_the_backbone(pipeline):
    model = build_model("efficientnet_lite0", "imagenet")
    learned = weights(pipeline.folder / "last.pt")
    moved = {
        name.split(".")[0]: not torch.equal(p, learned[name])
        for name, p in model.named_parameters()
    }
    assert moved == {"backbone": True, "segmentation_head": True}
    statistics = [n for n, _ in model.named_buffers() if n.endswith("running_mean")]
    assert statistics
    assert all(torch.equal(model.state_dict()[n], learned[n]) for n in statistics)


@pytest.fixture
def deterministic_afterwards_off(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False


@pytest.mark.usefixtures("deterministic_afterwards_off")
def test_another_seed_gives_another_run_and_validation_may_skip_epochs(pipeline, tmp_path):
    folder = tmp_path / "other"
    constants = {"train_seed": 1, "train_validate_every": 2, "train_deterministic": "true"}
    assert in_process(pipeline, folder, **constants) == 0
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert losses(folder)[0] != losses(pipeline.folder)[0]
    assert [record["epoch"] for record in records(folder, "validation")] == [1]
    assert checkpoint.load(folder / "best.pt")["epoch"] == 2


class NanAt:
    """The loss, but not a number at one step."""

    def __init__(self, step: int) -> None:
        self.step, self.steps, self.loss = step, 0, mgcl.engine.training.segmentation_loss

    def __call__(self, *inputs: Any) -> torch.Tensor:
        self.steps += 1
        return self.loss(*inputs) * (math.nan if self.steps == self.step else 1)


def test_a_nan_stops_the_run_naming_its_episodes_and_leaves_the_last_good_checkpoint(
    pipeline, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "small"
    monkeypatch.setattr(mgcl.engine.training, "segmentation_loss", NanAt(step=4))
    assert in_process(pipeline, folder) == 1
    assert "nan on the training episodes [5, 6]" in capsys.readouterr().err
    saved = checkpoint.load(folder / "last.pt")
    assert saved["epoch"] == 1
    assert all(v.isfinite().all() for v in saved["model"].values())
    assert [r["epoch"] for r in records(folder, "train")] == [0]

    # What a run resumed from there ends with is what an undisturbed one ends with.
    monkeypatch.undo()
    assert in_process(pipeline, folder, train_resume="auto") == 0
    assert trace(folder) == trace(pipeline.folder)
    resumed, whole = (checkpoint.load(f / "last.pt") for f in (folder, pipeline.folder))
    for part in ("model", "optimizer", "epoch", "step", "best_miou", "best_epoch", "threshold"):
        assert same(resumed[part], whole[part]), part
    assert same(weights(folder / "best.pt"), weights(pipeline.folder / "best.pt"))


def test_a_run_that_is_there_is_not_overwritten(pipeline, with_workers, capsys):
    before = files(with_workers)
    assert in_process(pipeline, with_workers) == 1
    said = capsys.readouterr().err
    assert "last.pt is there already" in said and "--train.resume auto" in said
    assert files(with_workers) == before


def test_resuming_a_run_that_is_done_changes_no_checkpoint(pipeline, with_workers):
    kept = ("last.pt", "best.pt", "log.jsonl")
    before = [(with_workers / name).read_bytes() for name in kept]
    assert in_process(pipeline, with_workers, train_resume="auto", data_workers=2) == 0
    assert [(with_workers / name).read_bytes() for name in kept] == before


def test_resuming_with_other_constants_is_refused_naming_them(pipeline, with_workers, capsys):
    before = files(with_workers)
    changed = {"train_lr": 0.5, "model_mgfe": "false", "data_fold": 1}
    assert in_process(pipeline, with_workers, train_resume="auto", **changed) == 1
    said = capsys.readouterr().err
    for part in ("train.lr 0.001 -> 0.5", "model.mgfe True -> False", "data.fold 0 -> 1"):
        assert part in said
    assert "train.epochs" not in said
    assert files(with_workers) == before


def test_dlrsd_trains_by_class_without_masks_and_validates_on_the_fold_s_list(dlrsd_root, tmp_path):
    folder = tmp_path / "dlrsd"
    constants = {"data_benchmark": "dlrsd", "masks_generator": "none", "data_fold": 2}
    constants |= {"train_validation": "test_fold", "train_validation_episodes": 5}
    constants |= {
        "train_epochs": 1,
        "train_precision": "bf16",
        "test_threshold": 0.4,
        "train_loss": "ce",
    }
    assert main_1.main(words(dlrsd_root, tmp_path, folder, **constants)) == 0
    (record,) = records(folder, "validation")
    novel = ["pavement", "sand", "sea", "ship", "tanks"]
    asked = list(record["class_iou"])  # the classes of the five episodes
    assert asked and asked == [name for name in novel if name in asked]
    best = checkpoint.load(folder / "best.pt")
    assert best["chosen_on"] == "5 episodes of the test fold's list"
    assert "data.holdout is 0" in best["calibrated_on"]
    assert math.isfinite(records(folder, "train")[0]["loss"])


def configured(**sections: dict[str, Any]) -> Config:
    return with_values(load(["--config", str(REPOSITORY / "configs/demo.toml")]), **sections)


def test_where_data_lie_and_how_fast_they_come_may_change_on_resume():
    saved = configured().model_dump(mode="json", exclude_none=True)
    moved = configured(
        data={"root": Path("/elsewhere"), "workers": 7},
        train={"resume": "auto", "log_every": 3},
        masks={"root": Path("/masks")},
        run={"device": "cpu", "root": Path("/runs")},
        test={"panels": 9, "shots": [3]},
    )
    assert different_constants(saved, moved) == []
    learned_otherwise = configured(data={"ignore_label": 255}, test={"threshold": 0.5})
    assert different_constants(saved, learned_otherwise, counting={*LEARNING, Mark.CHOOSING}) == [
        "data.ignore_label background -> 255",
        "test.threshold calibrated -> 0.5",
    ]


def test_the_log_holds_losses_rates_scores_and_speed(pipeline):
    epochs = records(pipeline.folder, "train")
    assert [record["epoch"] for record in epochs] == [0, 1]
    assert [record["step"] for record in epochs] == [3, 6]
    for epoch, record in enumerate(epochs):
        base = oracle.poly_rate(1e-3, epoch, 2)
        rates = {k: v for k, v in record.items() if k.startswith("rate/")}
        assert rates == {
            "rate/head_weights": base,
            "rate/head_biases": 2 * base,
            "rate/backbone_weights": pytest.approx(base / 1000),
            "rate/backbone_biases": pytest.approx(base / 500),
        }
        assert record["images_per_second"] > 0 and math.isfinite(record["loss"])
        assert 0 <= record["train_miou"] <= 100 and 0 <= record["train_fb_iou"] <= 100
    # the threshold of the epoch before scores the training, too
    assert "train_miou_calibrated" not in epochs[0]
    assert 0 <= epochs[1]["train_miou_calibrated"] <= 100
    assert 0 <= epochs[1]["train_fb_iou_calibrated"] <= 100
    steps = records(pipeline.folder, "step")
    assert [record["step"] for record in steps] == [2, 3, 5, 6]
    # the steps' means, weighted by their number, are the epoch's
    assert epochs[0]["loss"] == pytest.approx((2 * steps[0]["loss"] + steps[1]["loss"]) / 3)


def test_the_log_holds_validation_scores_at_both_thresholds_and_by_class(pipeline):
    validations = records(pipeline.folder, "validation")
    assert len(validations) == 2
    for record in validations:
        assert record["threshold"] in THRESHOLDS
        for name in ("miou", "fb_iou"):
            for part in ("", "heldout_"):
                assert 0 <= record[f"{part}{name}"] <= 100
                assert 0 <= record[f"{part}{name}_calibrated"] <= 100
        # on these very episodes the threshold was found, so it is no worse than any
        assert record["heldout_miou_calibrated"] >= record["heldout_miou"]
        for part in ("class_iou", "class_iou_calibrated"):
            asked = record[part]  # the training classes that have an episode
            assert asked and not {"ship", "storage_tank", "tennis_court"} & set(asked)
        mean = sum(record["class_iou_calibrated"].values()) / len(asked)
        assert record["miou_calibrated"] == pytest.approx(mean)


def test_the_best_epoch_is_the_one_whose_score_at_the_wanted_threshold_is_highest(pipeline):
    scores = [record["miou_calibrated"] for record in records(pipeline.folder, "validation")]
    best, last = (checkpoint.load(pipeline.folder / f"{n}.pt") for n in ("best", "last"))
    assert last["epoch"] == 2 and best["epoch"] == 1 + scores.index(max(scores))
    assert best["best_miou"] == max(scores)
    assert (
        best["threshold"] == records(pipeline.folder, "validation")[best["epoch"] - 1]["threshold"]
    )
    assert "held-out images of the training classes" in best["chosen_on"]
    assert best["config"]["data"]["fold"] == 0


def test_tensorboard_holds_the_curves_the_panels_and_the_config(pipeline):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(pipeline.folder / "tensorboard"))
    board.Reload()
    tags = board.Tags()
    curves = {"train/loss", "train/miou", "train/fb_iou", "speed/images_per_second"}
    curves |= {"train/miou_calibrated", "train/fb_iou_calibrated"}
    curves |= {f"rate/{p}_{k}" for p in ("head", "backbone") for k in ("weights", "biases")}
    curves |= {f"validation/{n}" for n in ("miou", "fb_iou", "threshold", "heldout_miou")}
    curves |= {f"validation/{n}_calibrated" for n in ("miou", "fb_iou", "heldout_miou")}
    (asked, *_) = records(pipeline.folder, "validation")
    curves |= {f"class_iou_calibrated/{name}" for name in asked["class_iou"]}
    assert curves - set(tags["scalars"]) == set()
    logged = {r["step"]: r["loss"] for r in records(pipeline.folder, "step")}
    assert {e.step: e.value for e in board.Scalars("train/loss")} == pytest.approx(logged)
    panels = [tag for tag in tags["images"] if tag.startswith("episodes/")]
    assert len(panels) == 4  # the same few episodes after each epoch
    assert [event.step for event in board.Images(panels[0])] == [3, 6]
    assert any(tag.startswith("config") for tag in tags["tensors"])


def test_the_resolved_constants_lie_beside_the_checkpoints(pipeline):
    again = load(["--config", str(pipeline.folder / "config.toml")])
    assert again == load(words(pipeline.root, pipeline.masks, pipeline.folder))


def test_epochs_are_threshold_into_batches_of_which_the_last_may_be_smaller():
    assert epoch_batches(range(10), epochs=2, batch_size=3) == [
        [[0, 1, 2], [3, 4]],
        [[5, 6, 7], [8, 9]],
    ]


def test_the_threshold_is_the_papers_the_calibrated_or_ones_own():
    assert resolve_threshold(0.5, 0.2) == 0.5
    assert resolve_threshold("calibrated", 0.2) == 0.2
    assert resolve_threshold("calibrated", None) == 0.5
    assert thresholds_to_try("calibrated") == thresholds_to_try(0.5) == THRESHOLDS
    assert 0.33 in thresholds_to_try(0.33) and len(thresholds_to_try(0.33)) == 20
