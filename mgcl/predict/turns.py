"""Turns of threads that share a network and a generator of masks."""

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager


class Turns:
    """One at a time has the network, one the generator, until all are told to stop."""

    def __init__(self) -> None:
        """Nobody has anything."""
        self._network, self._masks = threading.Lock(), threading.Lock()
        self._stopped = threading.Event()

    def with_network(self) -> AbstractContextManager[None]:
        """Have the network.

        Raises:
            CancelledError: within `stopped`.
        """
        return self._turn(self._network)

    def with_masks(self) -> AbstractContextManager[None]:
        """Have the generator of masks; as `with_network`."""
        return self._turn(self._masks)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Whoever waits for a turn gives up."""
        self._stopped.set()
        yield
        self._stopped.clear()  # not after an exception, as a second Ctrl-C is

    @contextmanager
    def _turn(self, lock: threading.Lock) -> Iterator[None]:
        with lock:
            if self._stopped.is_set():
                raise CancelledError
            yield
