"""Several processes of a group, as torchrun starts them, at the price of one start of Python.

python -m tests.ranks tests.test_distributed:train 2 FOLDER
"""

import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.small_run import REPOSITORY


def run_ranks(function: str, counts: list[int], *arguments: Any) -> None:
    """Call `module:function(*arguments)` on groups of so many processes, one after the other."""
    numbers = ",".join(map(str, counts))
    done = subprocess.run(
        [sys.executable, "-m", "tests.ranks", function, numbers, *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
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
    module, name = words[0].split(":")
    function = getattr(importlib.import_module(module), name)
    statuses = [run_group(int(n), lambda: function(*words[2:])) for n in words[1].split(",")]
    print(statuses, file=sys.stderr)
    return int(any(any(group) for group in statuses))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
