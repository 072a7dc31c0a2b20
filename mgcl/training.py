"""A training run on disk: its network and optimiser, its log, its checkpoints, where it stands."""

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Any

import torch
from tqdm import tqdm

from mgcl import checkpoint, distributed
from mgcl.build import (
    CHOOSING,
    build_network,
    build_setup,
    cuts_to_try,
    different_constants,
    evaluation_loader,
    resolve_cut,
)
from mgcl.config import Config, to_toml
from mgcl.datasets.build import EpisodeSet, benchmark, spread
from mgcl.datasets.episodes import Episode
from mgcl.datasets.loader import load_batches
from mgcl.engine import Evaluation, TrainingResult, evaluate
from mgcl.files import write_text
from mgcl.metrics import Scores
from mgcl.optim import build_optimizer
from mgcl.pictures import draw_panels
from mgcl.runlog import RunLog

PANEL_EPISODES = 4


@dataclasses.dataclass
class State:
    """Where a run stands."""

    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Finished optimiser steps."""
    best_miou: float = -1.0
    best_epoch: int = -1
    """Epoch (from 0) whose weights best.pt holds."""
    cut: float | None = None
    """Calibrated threshold of the newest validated epoch."""
    chosen_on: str = ""
    """Episodes that chose the best epoch, in words."""
    calibrated_on: str = ""
    """Episodes that the threshold was found on, in words."""


class Run:
    """A run's folder with all that is open in it; use it as a context manager."""

    def __init__(self, config: Config, device: torch.device) -> None:
        """Build network and optimiser, and go on from last.pt where that is asked for.

        Raises:
            ValueError: the run exists and train.resume is not "auto", or it was made with other
                constants; nothing is overwritten.
        """
        self.config = config
        self.folder = config.run_dir
        self.setup = build_setup(config, device)
        self.model = build_network(config).to(device)
        self.optimizer = build_optimizer(
            config.train.optimizer,
            self.model,
            lr=config.train.lr,
            momentum=config.train.momentum,
            weight_decay=config.train.weight_decay,
        )
        self.state = self._resume() if (self.folder / "last.pt").exists() else State()
        self.log = RunLog(self.folder, resume_epoch=self.state.epoch)
        if distributed.is_main():
            write_text(self.folder / "config.toml", to_toml(config))
        self.log.text("config", f"```toml\n{to_toml(config)}```")
        # torch.compile leaves the module as it is: the wrapper shares its parameters.
        self.forward = torch.compile(self.model) if config.train.compile else self.model

    def __enter__(self) -> "Run":
        """Say what is about to run."""
        parameters = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        self.log.say(f"run {self.folder} on {self.setup.device}, {parameters:,} parameters train")
        if self.state.epoch:
            self.log.say(f"going on after epoch {self.state.epoch}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the log."""
        self.log.close()

    def epochs(self, training: EpisodeSet) -> Iterator[Iterator[Episode]]:
        """The batches of each epoch that is left, on a progress bar; loaders work ahead."""
        train = self.config.train
        epochs = epoch_batches(training.ids, train.epochs, train.batch_size)[self.state.epoch :]
        if not epochs:
            return
        loader = iter(
            load_batches(
                training.dataset,
                [batch for epoch in epochs for batch in epoch],
                workers=self.config.data.workers,
                pin_memory=True,
            )
        )
        for batches in epochs:
            self.bar = tqdm(
                islice(loader, len(batches)),
                desc=f"epoch {self.state.epoch + 1}/{train.epochs}",
                total=len(batches),
                unit="step",
                disable=None if distributed.is_main() else True,
                mininterval=1,
            )
            yield iter(self.bar)

    def evaluate(self, part: EpisodeSet) -> Evaluation:
        """Score a set of 1-shot episodes at every cut."""
        loader = evaluation_loader(part, self.config)
        return evaluate(
            self.model,
            loader,
            len(part.ids),
            part.class_ids,
            setup=self.setup,
            cuts=cuts_to_try(self.config.test.cut),
        )

    def on_log(self, step: int, loss: float, images_per_second: float) -> None:
        """A look at the loss within an epoch."""
        self.bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        total = self.state.step + step
        self.log.scalars({"train/loss": loss, "speed/images_per_second": images_per_second}, total)
        self.log.record("step", epoch=self.state.epoch, step=total, loss=loss)

    def log_training(self, result: TrainingResult) -> None:
        """The end of an epoch of training."""
        self.state.step += result.steps
        rates = {
            f"rate/{g['name'].replace(' ', '_')}": g["lr"] for g in self.optimizer.param_groups
        }
        scores = {"train_miou": result.scores.miou, "train_fb_iou": result.scores.fb_iou}
        if result.scores_calibrated is not None:
            scores["train_miou_calibrated"] = result.scores_calibrated.miou
            scores["train_fb_iou_calibrated"] = result.scores_calibrated.fb_iou
        curves = {name.replace("train_", "train/", 1): value for name, value in scores.items()}
        self.log.scalars(rates | curves, self.state.step)
        speed = result.images_per_second
        self._record("train", loss=result.loss, **scores, **rates, images_per_second=speed)

    def validate(self, heldout: EpisodeSet, validation: EpisodeSet) -> None:
        """Calibrate the threshold on `heldout`, then score the epoch on `validation`."""
        self.state.calibrated_on, self.state.chosen_on = heldout.source, validation.source
        calibration = self.evaluate(heldout)
        score = calibration if validation is heldout else self.evaluate(validation)
        self.log_validation(calibration, score)
        self.log_panels(validation)

    def log_validation(self, calibration: Evaluation, validation: Evaluation) -> None:
        """Score the epoch at 0.5 and at the calibrated cut, note whether it is the best."""
        self.state.cut = cut = calibration.best_cut()
        half, tuned = validation.scores(0.5), validation.scores(cut)
        held_half, held_tuned = calibration.scores(0.5), calibration.scores(cut)
        values: dict[str, Any] = {
            "miou": half.miou,
            "fb_iou": half.fb_iou,
            "miou_calibrated": tuned.miou,
            "fb_iou_calibrated": tuned.fb_iou,
            "cut": cut,
            "heldout_miou": held_half.miou,
            "heldout_fb_iou": held_half.fb_iou,
            "heldout_miou_calibrated": held_tuned.miou,
            "heldout_fb_iou_calibrated": held_tuned.fb_iou,
        }
        curves = {f"validation/{name}": value for name, value in values.items()}
        for part, scores in ("class_iou", half), ("class_iou_calibrated", tuned):
            named = self._by_name(scores)
            values[part] = named
            curves |= {f"{part}/{name}": iou for name, iou in named.items()}
        curves["speed/validation_episodes_per_second"] = validation.episodes_per_second
        self.log.scalars(curves, self.state.step)
        self._record("validation", **values)
        self.log.say(
            f"epoch {self.state.epoch + 1}: validation mIoU {half.miou:.2f} at 0.5, "
            f"{tuned.miou:.2f} at the calibrated cut {cut:.2f}"
        )
        chosen = validation.scores(self.cut).miou
        if chosen > self.state.best_miou:
            self.state.best_miou, self.state.best_epoch = chosen, self.state.epoch

    def log_panels(self, validation: EpisodeSet) -> None:
        """Pictures of a few fixed validation episodes."""
        if not distributed.is_main():
            return
        ids = [validation.ids[i] for i in spread(len(validation.ids), PANEL_EPISODES)]
        panels = draw_panels(self.model, validation.dataset, ids, setup=self.setup, cut=self.cut)
        for name, panel in panels:
            self.log.image(f"episodes/{name}", panel, self.state.step)

    @property
    def cut(self) -> float:
        """The cut at which this run decides: the paper's 0.5, the calibrated one, or another."""
        return resolve_cut(self.config.test.cut, self.state.cut)

    def validates(self) -> bool:
        """Whether this epoch is validated: every n-th, and the last."""
        finished = self.state.epoch + 1
        train = self.config.train
        return finished % train.validate_every == 0 or finished == train.epochs

    def save(self) -> None:
        """The epoch is done: write last.pt, and best.pt if it is the best."""
        best = self.state.best_epoch == self.state.epoch
        self.state.epoch += 1
        if not distributed.is_main():
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "config": self.config.model_dump(mode="json", exclude_none=True),
            **dataclasses.asdict(self.state),
        }
        # best.pt first: a kill between the two repeats the epoch, and with it the same best.pt.
        if best:
            weights_only = {key: value for key, value in state.items() if key != "optimizer"}
            checkpoint.save(self.folder / "best.pt", weights_only)
        checkpoint.save(self.folder / "last.pt", state)

    def _resume(self) -> State:
        path = self.folder / "last.pt"
        if self.config.train.resume != "auto":
            raise ValueError(
                f"{path} is there already: --train.resume auto goes on with it, another run.name "
                "starts afresh"
            )
        saved = checkpoint.load(path, self.setup.device)
        under_way = saved["epoch"] < self.config.train.epochs
        differing = different_constants(
            saved["config"], self.config, choosing=CHOOSING if under_way else ()
        )
        if differing:
            raise ValueError(
                f"{path} was made with other constants: {'; '.join(differing)}. Take those, or "
                "another run.name"
            )
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        return State(**{f.name: saved[f.name] for f in dataclasses.fields(State)})

    def _record(self, kind: str, **values: Any) -> None:
        self.log.record(kind, epoch=self.state.epoch, step=self.state.step, **values)

    def _by_name(self, scores: Scores) -> dict[str, float]:
        names = benchmark(self.config).class_names
        return {names[class_id]: iou for class_id, iou in scores.class_iou.items()}


def epoch_batches(ids: Sequence[int], epochs: int, batch_size: int) -> list[list[list[int]]]:
    """Episode ids by epoch and batch; the last batch of an epoch may be smaller."""
    size = len(ids) // epochs
    return [
        [list(ids[i : min(i + batch_size, end)]) for i in range(end - size, end, batch_size)]
        for end in range(size, len(ids) + 1, size)
    ]
