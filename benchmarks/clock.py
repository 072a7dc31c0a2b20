"""Timing in alternation: every candidate once a round, so that a slow minute hits them all."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Timing(NamedTuple):
    """Seconds a call, over all rounds."""

    median: float
    low: float
    high: float
    cpu: float  # median CPU seconds of this process, all threads


def alternate(
    candidates: Mapping[str, Callable[[], object]], rounds: int, seconds: float = 1.0
) -> dict[str, Timing]:
    """Time every candidate in turn, `rounds` times, after one call that is not counted.

    A candidate that takes less than `seconds` is called several times a round (at most 10), each
    call timed by itself.
    """
    warm = {name: timed(run)[0] for name, run in candidates.items()}
    calls = {name: max(1, min(10, int(seconds / warm[name]))) for name in candidates}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            found[name] += [timed(run) for _ in range(calls[name])]
    return {name: _summary(times) for name, times in found.items()}


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall clock and of CPU (this process, all threads) that one call takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def _summary(times: list[tuple[float, float]]) -> Timing:
    wall = [t[0] for t in times]
    return Timing(
        statistics.median(wall), min(wall), max(wall), statistics.median(t[1] for t in times)
    )
