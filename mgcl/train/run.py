"""A training run on disk: its network and optimiser, its log, its checkpoints, where it stands."""

from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from mgcl import console, distributed
from mgcl.build import (
    build_network,
    build_setup,
    evaluation_loader,
    fit_thresholds,
    resolve_threshold,
    thresholds_to_try,
)
from mgcl.config import Config, to_toml
from mgcl.config.compare import compared_constants
from mgcl.datasets.episodes import Episode
from mgcl.datasets.fingerprint import NO_FACTS, Facts
from mgcl.datasets.loader import epoch_batches, load_parts
from mgcl.datasets.origin import describe, read_origin
from mgcl.datasets.sets import EpisodeSet, benchmark, spread, validation_class_ids
from mgcl.engine.evaluation import Evaluation, evaluate
from mgcl.engine.meter import LossNotFiniteError, Progress, TrainingResult
from mgcl.engine.optim import build_optimizer
from mgcl.files import copy_file, lock, remove_leftovers, write_text
from mgcl.metrics import Scores
from mgcl.model.matcher import Matcher
from mgcl.train import board, resume
from mgcl.train.interrupt import Interrupted, Signals
from mgcl.train.log import RunLog
from mgcl.train.parallel import in_parallel
from mgcl.train.resume import State, changed_constants
from mgcl.visualize.episodes import draw_panels

PANEL_EPISODES = 4
PANEL_TIMES = 10  # that all are shown, at other times one: each takes a tenth of a megabyte


class Run:
    """A run's folder with all that is open in it; use it as a context manager."""

    def __init__(self, config: Config, device: torch.device, data: Facts = NO_FACTS) -> None:
        """Build network and optimiser, and go on from a checkpoint made of the same `data`.

        Raises:
            ValueError: the run exists and train.resume is empty, or it was made with other
                constants or data; nothing is overwritten.
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
        self.signals = Signals()
        self.somebody_stops = distributed.AnySaidYes()
        self._begun: dict[str, Any] | None = None
        self._start(resume.find(self.folder, config.train.resume, device), data)
        # torch.compile leaves the module as it is: the wrapper shares its parameters.
        forward: Any = torch.compile(self.model) if config.train.compile else self.model
        self.forward = in_parallel(forward, device)

    def _start(self, found: tuple[Path, dict[str, Any]] | None, facts: Facts) -> None:
        """Take the state from a checkpoint, if any, and open the log."""
        self.state, changed, best = State(), [], None
        if found:
            path, saved = found
            changed = changed_constants(path, saved, self.config, facts)
            self.state = resume.restore(path, saved, changed, self.model, self.optimizer)
            self._begun = saved.get("progress")
            best = resume.find_best(path, self.state)
        self.state.data = dict(facts)
        if not distributed.is_same(self.state.step, self.setup.device):
            raise ValueError(
                "the processes found different checkpoints: run.root must lie on storage that all "
                "machines share"
            )
        if distributed.is_main():
            self._lock = lock(self.folder / ".lock")  # torchrun's processes may outlive torchrun
        step = self.state.step if self._begun else None
        bench = benchmark(self.config)
        classes = [bench.class_names[class_id] for class_id in validation_class_ids(self.config)]
        self.log = RunLog(self.folder, classes=classes, resume_epoch=self.state.epoch, step=step)
        if distributed.is_main():
            remove_leftovers(self.folder)
            if best:
                copy_file(best, self.folder / resume.BEST)
            write_text(self.folder / "config.toml", to_toml(self.config))
        if found is None:
            self.log.text("config", f"```toml\n{to_toml(self.config)}```")
            data = self.config.data
            pictures = describe(data.benchmark, data.root, read_origin(data.root))
            self.log.constants({board.DATA: pictures, **compared_constants(self.config)})
        if changed:
            text = f"resumed from {path} with other constants: {'; '.join(changed)}"
            if distributed.is_main():
                console.warn(text)
            self.log.text("config/forced", text, self.state.step)
            self._record("forced", resumed_from=str(path), constants=changed)

    def __enter__(self) -> "Run":
        """Say what is about to run."""
        self.signals.__enter__()
        parameters = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        self.log.say(f"run {self.folder} on {self.setup.device}, {parameters:,} parameters train")
        if self.state.step:
            self.log.say(f"going on after {self._place()}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the log."""
        self.signals.__exit__(kind, error, trace)
        with suppress(OSError) if error else nullcontext():  # the error says more
            self.log.close()
        if error is None:
            self.somebody_stops.close()
        if distributed.is_main():
            self._lock.release()

    def epochs(self, training: EpisodeSet) -> Iterator[Iterator[Episode]]:
        """The batches of each epoch that is left, on a progress bar; loaders work ahead."""
        train = self.config.train
        self._size = len(training.ids) // train.epochs
        epochs = epoch_batches(
            training.ids,
            train.epochs,
            train.batch_size,
            begun=(self.state.epoch, self.state.seen),
        )
        if not epochs:
            return
        loader = load_parts(
            training.dataset,
            [batch for batches in epochs for batch in batches],
            workers=self.config.data.workers,
        )
        steps = -(-self._size // train.batch_size)
        for batches in epochs:
            self.bar = console.progress(
                self._counted(batches, loader),
                desc=f"epoch {self.state.epoch + 1}/{train.epochs}",
                total=steps,
                initial=steps - len(batches),
                unit="step",
            )
            yield iter(self.bar)

    def _counted(self, batches: list[list[int]], loader: Iterator[Episode]) -> Iterator[Episode]:
        for self._batch, episode in zip(batches, loader, strict=False):
            self.state.seen += len(self._batch)
            yield episode

    def pop_begun(self) -> dict[str, Any] | None:
        """What the epoch that was interrupted had summed up; None for the epochs after it."""
        begun, self._begun = self._begun, None
        return begun

    def on_step(self, progress: Progress) -> None:
        """Save what is due after a step.

        Raises:
            Interrupted: told to stop; all processes stop at the same step.
        """
        self.state.step += 1
        stop = self.somebody_stops(self.signals.received is not None)
        every = self.config.train.save_every
        trained = self.state.seen == self._size and self.validates()  # a long validation follows
        if stop or trained or (every and progress.step % every == 0):
            self._save(progress.state_dict())
        if stop:
            distributed.barrier()  # torchrun ends all processes with the first
            raise Interrupted(
                f"stopped by {self.signals.received or 'another process'} after {self._place()}, "
                f"all is saved: the same command with --train.resume auto goes on"
            )

    def evaluate(self, part: EpisodeSet) -> Evaluation:
        """Score a set of 1-shot episodes at every threshold.

        Raises:
            Interrupted: told to stop; the checkpoint is that of before the validation.
        """
        return evaluate(
            self.model,
            self.signals.checked(evaluation_loader(self.model, part, self.config, self.setup)),
            part.ids,
            part.class_ids,
            setup=self.setup,
            thresholds=thresholds_to_try(self.config.test.threshold),
        )

    def on_log(self, step: int, loss: float, images_per_second: float) -> None:
        """A look at the loss within an epoch."""
        self.bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        curves = {"train/loss": loss, "speed/images_per_second": images_per_second}
        self.log.scalars(curves, self.state.step)
        self._record("step", loss=loss)

    def log_training(self, result: TrainingResult) -> None:
        """The end of an epoch of training."""
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
        if isinstance(self.model, Matcher):  # whose maps changed in training
            fit_thresholds(self.model, heldout, self.config, self.setup)
        calibration = self.evaluate(heldout)
        score = calibration if validation is heldout else self.evaluate(validation)
        if not self.config.train.freeze_backbone:
            self.setup.features.clear()  # of weights that will not come again
        self.log_validation(calibration, score)
        self.log_panels(validation)

    def log_validation(self, calibration: Evaluation, validation: Evaluation) -> None:
        """Score the epoch at 0.5 and at the calibrated threshold, note whether it is the best."""
        self.state.threshold = threshold = calibration.best_threshold()
        half, tuned = validation.scores(0.5), validation.scores(threshold)
        held_half, held_tuned = calibration.scores(0.5), calibration.scores(threshold)
        values: dict[str, Any] = {
            "miou": half.miou,
            "fb_iou": half.fb_iou,
            "miou_calibrated": tuned.miou,
            "fb_iou_calibrated": tuned.fb_iou,
            "threshold": threshold,
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
            f"{tuned.miou:.2f} at the calibrated threshold {threshold:.2f}"
        )
        chosen = validation.scores(self.threshold).miou
        if chosen > self.state.best_miou:
            self.state.best_miou, self.state.best_epoch = chosen, self.state.epoch

    def log_panels(self, validation: EpisodeSet) -> None:
        """Pictures of fixed validation episodes: of one each time, of some ten times in the run."""
        if not distributed.is_main():
            return
        finished, epochs = self.state.epoch + 1, self.config.train.epochs
        due = finished % max(1, epochs // PANEL_TIMES) == 0 or finished == epochs
        ids = [validation.ids[i] for i in spread(len(validation.ids), PANEL_EPISODES)]
        ids = ids if due else ids[:1]
        panels = draw_panels(
            self.model, validation.dataset, ids, setup=self.setup, threshold=self.threshold
        )
        for name, panel in panels:
            self.log.image(f"episodes/{name}", panel, self.state.step)

    @property
    def threshold(self) -> float:
        """Where this run decides: at the paper's 0.5, the calibrated threshold, or another."""
        return resolve_threshold(self.config.test.threshold, self.state.threshold)

    def validates(self) -> bool:
        """Whether this epoch is validated: every n-th, and the last."""
        finished = self.state.epoch + 1
        train = self.config.train
        return finished % train.validate_every == 0 or finished == train.epochs

    def save(self) -> None:
        """The epoch is done: write last.pt, and best.pt if it is the best."""
        best = self.state.best_epoch == self.state.epoch
        self.state.epoch += 1
        self.state.seen = 0
        self._save(best=best)

    def _save(self, progress: dict[str, Any] | None = None, *, best: bool = False) -> None:
        """The first process writes; weights that are no numbers are never written."""
        if not all(p.isfinite().all() for p in self.model.parameters()):
            raise LossNotFiniteError(
                f"a weight is NaN or infinite after step {self.state.step} on the training "
                f"episodes {self._batch}: lower train.lr; the last good checkpoint is kept"
            )
        if not distributed.is_main():
            return
        self.log.flush()
        resume.save(
            self.folder,
            self.state,
            model=self.model,
            optimizer=self.optimizer,
            constants=self.config.model_dump(mode="json", exclude_none=True),
            progress=progress,
            best=best,
        )

    def _place(self) -> str:
        if not self.state.seen:
            return f"epoch {self.state.epoch}"
        return f"step {self.state.step}, in epoch {self.state.epoch + 1}"

    def _record(self, kind: str, **values: Any) -> None:
        self.log.record(kind, epoch=self.state.epoch, step=self.state.step, **values)

    def _by_name(self, scores: Scores) -> dict[str, float]:
        names = benchmark(self.config).class_names
        return {names[class_id]: iou for class_id, iou in scores.class_iou.items()}
