"""Processes that share out work, and end in seconds with this one or when one of them is killed."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class WorkerKilled(OSError):
    """A process that this one started was killed."""


def in_processes(
    function: Callable[[T], R], items: Iterable[T], *, processes: int, at_once: int = 1
) -> Iterator[R]:
    """`map` in processes, in order; with one process in this one.

    Args:
        function: importable, as the processes may be started afresh (macOS, Windows).
        items: what it is called on.
        processes: number of them.
        at_once: items that a process is handed at a time.

    Raises:
        WorkerKilled: a process was killed; the message says what that means.
    """
    if processes == 1:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(processes, initializer=_start)
    todo = list(items)
    parts = [todo[first : first + at_once] for first in range(0, len(todo), at_once)]
    # not `pool.map`: it cancels what Ctrl-C leaves, of which the pool's thread then complains
    futures = deque(pool.submit(_map, function, part) for part in parts)
    children = multiprocessing.active_children()
    try:
        while futures:
            yield from futures.popleft().result()
    except BrokenProcessPool:
        for child in children:
            child.join(1)
        if any(child.exitcode == -signal.SIGINT for child in children):
            raise KeyboardInterrupt from None  # Ctrl-C, which has not reached this process yet
        raise WorkerKilled(
            f"one of {processes} processes was killed, as the system does when memory runs out: "
            "make room and run it again, it goes on from here"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _map(function: Callable[[T], R], part: Sequence[T]) -> list[R]:
    return [function(item) for item in part]


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    import cv2  # of this package's rooms only those that use it pay for it

    cv2.setNumThreads(0)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A killed process takes its workers along."""
    connection.wait([parent])
    os._exit(1)


def processes_for(items: int, bytes_each: int = 0) -> int:
    """How many processes there are cores, work and memory for; at least one.

    Args:
        items: the work, of which a process is worth starting for four.
        bytes_each: memory that a process takes.
    """
    free = free_memory()
    fitting = items if free is None or not bytes_each else free // bytes_each
    return max(1, min(os.cpu_count() or 1, items // 4 + 1, fitting))


def free_memory() -> int | None:
    """Bytes that the machine, or the container, still has; None where the system does not say."""
    found = []
    for name, fields in (
        ("/proc/meminfo", lambda text: 1024 * int(text.split("MemAvailable:")[1].split()[0])),
        ("/sys/fs/cgroup/memory.max", lambda text: int(text) - _used_by_container()),
    ):
        try:
            with open(name, encoding="ascii") as file:
                found.append(fields(file.read()))
        except (OSError, ValueError, IndexError):  # another system, or no limit ("max")
            continue
    return max(0, min(found)) if found else None


def _used_by_container() -> int:
    with open("/sys/fs/cgroup/memory.current", encoding="ascii") as file:
        return int(file.read())
