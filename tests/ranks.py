"""Several processes of a group, as torchrun starts them, at the price of one start of Python.

python -m tests.ranks tests.test_distributed train 1,2 DATA FOLDER -- agree 3 FOLDER
"""

import functools
import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.small_run import REPOSITORY


def run_groups(module: str, *jobs: tuple[str, list[int], tuple]) -> None:
    """Call functions of a test module on groups of processes, one group after the other.

    Args:
        module: its name.
        jobs: function, numbers of processes, arguments.
    """
    line: list[str] = []
    for function, counts, arguments in jobs:
        line += ["--", function, ",".join(map(str, counts)), *map(str, arguments)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.ranks", module, *line[1:]],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr


def run_group(count: int, program: Callable[[], Any]) -> list[int]:
    """Fork a group of processes; their exit statuses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    children = []
    for rank in range(count):
        if pid := os.fork():
            children.append(pid)
            continue
        status = 1
        try:
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
            os.environ.update(address | place)
            status = int(program() or 0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


def main(words: list[str]) -> int:
    """Status 0 if all processes of all groups ended with 0."""
    module, *rest = words
    functions, failed = importlib.import_module(module), False
    for job in " ".join(rest).split(" -- "):
        name, counts, *arguments = job.split(" ")
        program = functools.partial(getattr(functions, name), *arguments)
        for count in counts.split(","):
            statuses = run_group(int(count), program)
            print(name, count, statuses, file=sys.stderr)
            failed |= any(statuses)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
