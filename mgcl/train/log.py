"""What a run tells: console, TensorBoard and `log.jsonl`. Silent on all ranks but the first."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mgcl import console, distributed
from mgcl.files import read_records, write_text, writing_in
from mgcl.train import tensorboard


class RunLog:
    """Writes `log.jsonl` (one JSON object a line) and `tensorboard/` in the run's folder."""

    def __init__(
        self,
        folder: Path,
        *,
        classes: Sequence[str] = (),
        resume_epoch: int = 0,
        step: int | None = None,
    ) -> None:
        """Start a log, or go on with one; later records are dropped.

        Args:
            folder: of the run.
            classes: names of the classes that are validated.
            resume_epoch: finished epochs.
            step: of an epoch under way, whose step `step` is not logged yet.
        """
        self.path = folder / "log.jsonl"
        self.active = distributed.is_main()
        self._writer: Any = None
        if not self.active:
            return
        from torch.utils.tensorboard import SummaryWriter

        kept = [
            record
            for record in read_records(self.path)
            if (record["epoch"] < resume_epoch if step is None else record["step"] < step)
        ]
        if step is None:
            step = 1 + max((record["step"] for record in kept), default=-1)
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))
        curves = folder / "tensorboard"
        while any(curves.glob(f"events.out.tfevents.{int(time.time())}.*")):
            time.sleep(0.05)  # TensorBoard reads files by name, which begins with the second
        with writing_in(folder):
            self._writer = SummaryWriter(str(curves), purge_step=step)
            tensorboard.add_layout(self._writer, classes)

    def say(self, text: str) -> None:
        """Print a line without disturbing a progress bar."""
        if self.active:
            console.say(text)

    def record(self, kind: str, *, epoch: int, step: int, **values: Any) -> None:
        """Append one object to `log.jsonl`."""
        if self.active:
            line = json.dumps({"kind": kind, "epoch": epoch, "step": step, **values})
            with writing_in(self.path.parent), self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def scalars(self, values: dict[str, float], step: int) -> None:
        """TensorBoard curves, by their tags ("train/loss")."""
        if self.active:
            with writing_in(self.path.parent):
                for tag, value in values.items():
                    self._writer.add_scalar(tag, value, step)

    def text(self, tag: str, text: str, step: int = 0) -> None:
        """TensorBoard text (Markdown)."""
        if self.active:
            with writing_in(self.path.parent):
                self._writer.add_text(tag, text, step)

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        """TensorBoard picture: (h, w, 3) uint8."""
        if self.active:
            with writing_in(self.path.parent):
                tensorboard.add_picture(self._writer, tag, image, step)

    def flush(self) -> None:
        """All that was logged is on disk afterwards: a checkpoint may count on it."""
        if self.active:
            with writing_in(self.path.parent):
                self._writer.flush()
                with self.path.open("a") as file:
                    os.fsync(file.fileno())

    def constants(self, values: Mapping[str, bool | float | str]) -> None:
        """Enter the run into TensorBoard's table of runs, by its constants."""
        if self.active:
            with writing_in(self.path.parent):
                tensorboard.add_constants(self._writer, values)

    def close(self) -> None:
        """Flush everything."""
        if self._writer is not None:
            with writing_in(self.path.parent):
                self._writer.close()
