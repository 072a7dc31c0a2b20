"""What macOS and Windows lack; terminals, pipes and processes that fail a user."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from mgcl import console, workers
from mgcl.datasets import loader
from mgcl.workers import WorkerKilled, in_processes, processes_for
from tests.small_run import MASKS, REPOSITORY, TEST, TRAIN, words
from tests.test_architecture import FILES, module_name

# Modules and names of Unix or of Linux alone are gone for this package's code, and processes are
# started afresh, as on macOS and Windows.
ELSEWHERE = """
import asyncio  # Python's own takes what its system has
import builtins, multiprocessing, os, signal
for module, name in ((os, "sysconf"), (signal, "SIGUSR1"), (signal, "SIGALRM"), (signal, "alarm")):
    delattr(module, name)
usual = builtins.__import__
def without(name, globals=None, *rest, **more):
    importer = (globals or {}).get("__name__", "")
    if name in ("fcntl", "resource", "pwd", "termios") and importer.startswith(("mgcl", "main_")):
        raise ImportError(f"no {name} here")
    return usual(name, globals, *rest, **more)
builtins.__import__ = without
if multiprocessing.get_start_method(allow_none=True) is None:
    multiprocessing.set_start_method("spawn")
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The environment of a process on such a system."""
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(ELSEWHERE)
    path = os.pathsep.join([str(site), str(REPOSITORY)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def python(env, *line, **options):
    options = {"capture_output": True, "text": True, "timeout": 240, "cwd": REPOSITORY} | options
    return subprocess.run([sys.executable, *map(str, line)], env=env, **options)


def test_every_module_imports_without_what_unix_alone_has(elsewhere):
    names = [module_name(p) for p in FILES]
    code = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    done = python(elsewhere, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_three_scripts_run_where_processes_are_started_afresh(elsewhere, isaid_root, tmp_path):
    line = words(
        isaid_root, tmp_path / "masks", tmp_path / "run", data_workers=1, train_epochs=1,
        test_baselines="false",
    )  # fmt: skip
    for script in (MASKS, TRAIN, TEST):
        done = python(elsewhere, REPOSITORY / script, *line)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "report.json").exists()


def _double(number):
    return 2 * number


def _die_at_three(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_work_shared_out_comes_back_in_order():
    assert list(in_processes(_double, range(9), processes=2, at_once=2)) == [*range(0, 18, 2)]
    assert list(in_processes(_double, range(3), processes=1)) == [0, 2, 4]


def test_a_killed_process_ends_the_work_in_seconds_with_a_remedy():
    began = time.monotonic()
    with pytest.raises(WorkerKilled, match="one of 2 processes was killed.*memory.*run it again"):
        list(in_processes(_die_at_three, range(8), processes=2))
    assert time.monotonic() - began < 10


def test_ctrl_c_ends_the_work_without_a_traceback():
    code = (
        "import sys, time\n"
        "from mgcl import console, workers\n"
        "def main(words):\n"
        "    for _ in workers.in_processes(time.sleep, [0.01] * 9999, processes=2):\n"
        "        print(flush=True)\n"
        "sys.exit(console.run(main))"
    )
    for _ in range(3):  # what happens first differs from run to run
        words = [sys.executable, "-c", code]
        with subprocess.Popen(
            words, stdout=-1, stderr=-1, text=True, cwd=REPOSITORY, start_new_session=True
        ) as run:
            run.stdout.readline()
            os.killpg(run.pid, signal.SIGINT)
            assert run.communicate(timeout=60)[1] == "error: interrupted\n"
        assert run.returncode == console.INTERRUPTED


def test_there_are_as_many_processes_as_memory_allows_and_one_at_least(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(workers, "free_memory", lambda: 1000)
    assert processes_for(100, 400) == 2
    assert processes_for(100, 4000) == processes_for(0) == processes_for(3) == 1
    monkeypatch.setattr(workers, "free_memory", lambda: None)  # macOS, Windows
    assert processes_for(100, 4000) == 8


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed.", "memory runs out: lower data"),
        ("DataLoader worker (pid(s) 7) exited unexpectedly", "small: start.*--shm-size"),
        ("unable to write to file </torch_7_1>: No space left on device (28)", "--shm-size=2g"),
        ("Too many open files. Communication with the workers is no longer", "ulimit -n"),
        ("mat1 and mat2 shapes cannot be multiplied", ""),
    ],
)
def test_what_pytorch_says_of_its_workers_becomes_a_remedy(said, remedy):
    found = loader._of_workers(said)
    assert re.search(remedy, found) if remedy else found == ""


@pytest.mark.parametrize(
    ("stop", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "error: /x: Permission denied"),
    ],
)
def test_what_stops_a_program_is_one_line(capsys, stop, status, said):
    def main(argv):
        raise stop

    assert console.run(main) == status
    shown = capsys.readouterr().err
    assert shown.startswith(said) and shown.count("\n") == 1


def test_a_terminal_without_utf8_gets_every_word_and_a_closed_pipe_no_traceback(tmp_path):
    env = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    code = "from mgcl import console as c; c.run(lambda _: (c.say('K\\xf6ln'), c.warn('\\u2192')))"
    done = python(env, "-c", code)
    assert (done.stdout, done.stderr) == ("K\\xf6ln\n", "warning: \\u2192\n")
    line = f"{sys.executable} -m mgcl config --help | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode in (0, 1) and done.stderr == ""


def test_a_training_ends_in_seconds_when_a_loading_process_is_killed(isaid_root, tmp_path):
    line = words(
        isaid_root, tmp_path, tmp_path / "run", masks_generator="none", data_workers=2,
        train_episodes_per_epoch=4000,
    )  # fmt: skip
    with subprocess.Popen(
        [sys.executable, REPOSITORY / TRAIN, *line],
        cwd=REPOSITORY, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    ) as training:  # fmt: skip
        children = _children_at_work(training.pid, tmp_path / "run" / "log.jsonl")
        killed = time.monotonic()
        os.kill(children[-1], signal.SIGKILL)
        said = training.communicate(timeout=60)[1]
    assert time.monotonic() - killed < 20
    assert training.returncode == 1 and "Traceback" not in said
    assert "a process that loads episodes was killed" in said


def _children_at_work(pid, log):
    for _ in range(600):
        time.sleep(0.1)
        if log.exists() and log.stat().st_size:
            with open(f"/proc/{pid}/task/{pid}/children") as file:
                return [int(child) for child in file.read().split()]
    raise AssertionError("the training did not start")
