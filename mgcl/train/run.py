"""A training run on disk: its network and optimiser, its log, its checkpoints, where it stands."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Any, TypeVar

import torch

from mgcl import console, distributed
from mgcl.build import build_network, build_setup, resolve_threshold
from mgcl.config import Config, to_toml
from mgcl.config.compare import compared_constants
from mgcl.datasets.episodes import Episode, EpisodeDataset
from mgcl.datasets.fingerprint import NO_FACTS, Facts
from mgcl.datasets.loader import epoch_batches, load_parts
from mgcl.datasets.origin import describe, read_origin
from mgcl.datasets.sets import EpisodeSet, benchmark, validation_class_ids
from mgcl.engine.encoding import encode_parts
from mgcl.engine.forward import EncodedEpisodes
from mgcl.engine.meter import EpochMeter, LossNotFiniteError, TrainingResult
from mgcl.engine.optim import build_optimizer
from mgcl.files import copy_file, lock, remove_leftovers, write_text
from mgcl.train import resume, tensorboard
from mgcl.train.interrupt import Interrupted, Signals
from mgcl.train.log import RunLog
from mgcl.train.parallel import Comparing, in_parallel

T = TypeVar("T")


class Run:
    """A run's folder with all that is open in it; use it as a context manager."""

    def __init__(self, config: Config, device: torch.device, data: Facts = NO_FACTS) -> None:
        """Build network and optimiser, and go on from a checkpoint made of the same `data`.

        Raises:
            ValueError: the run exists and train.resume is empty, or it was made with other
                constants or data; nothing is overwritten.
        """
        recipe = config.train
        self.config = config
        self.folder = config.run_dir
        self.setup = build_setup(config, device)
        self.model = build_network(config).to(device)
        self.optimizer = build_optimizer(
            recipe.optimizer,
            self.model,
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        self.signals = Signals()
        self._somebody_stops = distributed.AnySaidYes()
        start = resume.take_up(self.folder, config, self.model, self.optimizer, data)
        self.state = start.state
        self._begun = start.progress  # of the epoch that was interrupted
        self._size = 0  # episodes of an epoch
        self._batch: list[int] = []  # the newest
        # torchrun's processes may outlive torchrun
        self._lock = lock(self.folder / ".lock") if distributed.is_main() else None
        self.log = self._open_log(start)
        self.bar = console.progress((), disable=True)  # of the epoch
        self._encodes_once = not self.model.learns_to_encode()
        trained: Any = Comparing(self.model) if self._encodes_once else self.model
        # torch.compile leaves the module as it is: the wrapper shares its parameters.
        trained = torch.compile(trained, dynamic=False) if recipe.compile else trained
        self.forward = in_parallel(trained, device)

    def _open_log(self, start: resume.Start) -> RunLog:
        """The log as of the start, which tells the constants and what has changed of them."""
        bench = benchmark(self.config)
        classes = [bench.class_names[class_id] for class_id in validation_class_ids(self.config)]
        log = RunLog(self.folder, classes=classes, resume_epoch=self.state.epoch, step=start.logged)
        if distributed.is_main():
            remove_leftovers(self.folder)
            if start.best:
                copy_file(start.best, self.folder / resume.BEST)
            write_text(self.folder / "config.toml", to_toml(self.config))
        if start.path is None:
            log.text("config", f"```toml\n{to_toml(self.config)}```")
            data = self.config.data
            pictures = describe(data.benchmark, data.root, read_origin(data.root))
            log.constants({tensorboard.DATA: pictures, **compared_constants(self.config)})
        if start.changed:
            words = "; ".join(start.changed)
            text = f"resumed from {start.path} with other constants: {words}"
            if distributed.is_main():
                console.warn(text)
            epoch, step = self.state.epoch, self.state.step
            log.text("config/forced", text, step)
            told = {"resumed_from": str(start.path), "constants": list(start.changed)}
            log.record("forced", epoch=epoch, step=step, **told)
        return log

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
            self._somebody_stops.close()
        if self._lock:
            self._lock.release()

    def epochs(self, training: EpisodeSet) -> Iterator[Iterator[Episode | EncodedEpisodes]]:
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
        steps = -(-self._size // train.batch_size)
        loaded = self._loaded(training.dataset, epochs)
        for batches, loader in zip(epochs, loaded, strict=True):
            self.bar = console.progress(
                self._counted(batches, loader),
                desc=f"epoch {self.state.epoch + 1}/{train.epochs}",
                total=steps,
                initial=steps - len(batches),
                unit="step",
            )
            yield iter(self.bar)

    def _loaded(
        self, dataset: EpisodeDataset, epochs: list[list[list[int]]]
    ) -> Iterator[Iterator[Episode] | Iterator[EncodedEpisodes]]:
        """What loads the batches of each epoch."""
        workers = self.config.data.workers
        if not self._encodes_once:
            batches = [batch for batches in epochs for batch in batches]
            yield from itertools.repeat(load_parts(dataset, batches, workers=workers), len(epochs))
            return
        for batches in epochs:  # a validation between them changes what is kept
            yield encode_parts(self.model, dataset, batches, setup=self.setup, workers=workers)

    def _counted(self, batches: list[list[int]], loader: Iterator[T]) -> Iterator[T]:
        for self._batch, episodes in zip(batches, loader, strict=False):
            self.state.seen += len(self._batch)
            yield episodes

    def meter(self, class_ids: Sequence[int]) -> EpochMeter:
        """The meter of the epoch that begins, or that goes on where it was interrupted."""
        meter = EpochMeter(
            class_ids,
            self.setup.device,
            threshold=self.state.threshold,
            log_every=self.config.train.log_every,
        )
        if self._begun is not None:
            meter.load_state_dict(self._begun)
            self._begun = None
        return meter

    def on_step(self, meter: EpochMeter) -> None:
        """Save what is due after a step.

        Raises:
            Interrupted: told to stop; all processes stop at the same step.
        """
        self.state.step += 1
        stop = self._somebody_stops(self.signals.received is not None)
        every = self.config.train.save_every
        trained = self.state.seen == self._size and self.validates()  # a long validation follows
        if stop or trained or (every and meter.step % every == 0):
            self._save(meter.state_dict())
        if stop:
            distributed.barrier()  # torchrun ends all processes with the first
            raise Interrupted(
                f"stopped by {self.signals.received or 'another process'} after {self._place()}, "
                f"all is saved: the same command with --train.resume auto goes on"
            )

    def on_log(self, step: int, loss: float, images_per_second: float) -> None:
        """A look at the loss within an epoch."""
        self.bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        curves = {"train/loss": loss, "speed/images_per_second": images_per_second}
        self.log.scalars(curves, self.state.step)
        self.record("step", loss=loss)

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
        self.record("train", loss=result.loss, **scores, **rates, images_per_second=speed)

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
        if not torch.stack([p.isfinite().all() for p in self.model.parameters()]).all():
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

    def record(self, kind: str, **values: Any) -> None:
        """Append to `log.jsonl`, with epoch and step."""
        self.log.record(kind, epoch=self.state.epoch, step=self.state.step, **values)
