"""Turns of threads that share a network and a generator of masks."""

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager


class Turns:
    """One at a time has the network, one the generator, until all are told to stop."""

    def __init__(self) -> None:
        """Nobody has anything."""
        self._network, self._masks = threading.Lock(), threading.Lock()
        self._stopped = threading.Event()

    @contextmanager
    def with_network(self) -> Iterator[None]:
        """Have the network.

        Raises:
            CancelledError: within `stopped`.
        """
        with self._network:
            self._check()
            yield

    @contextmanager
    def with_masks(self) -> Iterator[None]:
        """Have the generator of masks; as `with_network`."""
        with self._masks:
            self._check()
            yield

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Whoever waits for a turn gives up."""
        self._stopped.set()
        yield
        self._stopped.clear()  # not after an exception, as a second Ctrl-C is

    def _check(self) -> None:
        if self._stopped.is_set():
            raise CancelledError
