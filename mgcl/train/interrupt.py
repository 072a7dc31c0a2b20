"""Being told to stop: SIGTERM, SIGINT and SIGUSR1 end a training after its step, saved."""

import os
import signal
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

from mgcl import console, distributed

STATUS = console.STOPPED
NAMES = ("SIGTERM", "SIGINT", "SIGUSR1")  # Windows lacks the last
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]

T = TypeVar("T")


class Interrupted(Exception):
    """The run was told to stop and has saved all it knows."""


class Signals:
    """While it is entered, a signal is noted instead of ending the program."""

    def __init__(self) -> None:
        """Nothing is caught before `__enter__`."""
        self.received: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        """Catch the signals."""
        self._before = {name: signal.signal(name, self._note) for name in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the signals as they were."""
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def checked(self, items: Iterable[T]) -> Iterator[T]:
        """The items, of work that is done again when the run goes on.

        Raises:
            Interrupted: a signal came.
        """
        for item in items:
            if self.received:
                raise Interrupted(
                    f"stopped by {self.received} in a validation, which will be done again: the "
                    "same command with --train.resume auto goes on"
                )
            yield item

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        # torchrun sends a terminal's Ctrl-C once more, and ends what has not ended in time.
        if number == signal.SIGINT and distributed.world_size() == 1:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            # not print: a signal may come in the middle of one
            os.write(2, b"\nstopping after this step; Ctrl-C again ends at once\n")
