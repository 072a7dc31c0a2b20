"""All folds, several seeds and the ablations of an experiment, and the field's table of them.

    python -m mgcl.sweep configs/isaid_resnet50.toml --folds 0 1 2 --seeds 0..2 --shots 1 5
    python -m mgcl.sweep configs/isaid_resnet50.toml --ablations -- --train.epochs 20

Trains and tests what is missing: one process a GPU, or one at a time on the CPU. Started again, it
goes on where it was. What a run prints is in its folder, in sweep.log.
"""

import argparse
import itertools
import os
import queue
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from mgcl import console
from mgcl.config import ConfigError, to_toml
from mgcl.files import write_text
from mgcl.sweep.jobs import ABLATIONS, FULL, Job, older_than_data, plan, why_incomplete
from mgcl.sweep.tables import write_tables

SCRIPTS = Path(__file__).resolve().parents[2]
LOG = "sweep.log"  # what a run prints, in its folder
TRAIN, TEST = "main_1_mgcl_train.py", "main_2_mgcl_test.py"


def main(argv: Sequence[str] | None = None, *, scripts: Path = SCRIPTS) -> int:
    """Command line; status 0: all complete, 1: a run failed, 2: wrong words, 130: interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    end = argv.index("--") if "--" in argv else len(argv)
    options = _parser().parse_args(argv[:end])
    console.set_quiet(options.quiet)
    try:
        jobs = plan(
            options.config,
            folds=_flat(options.folds),
            seeds=_flat(options.seeds),
            shots=_flat(options.shots),
            ablations=[FULL] if options.ablations is None else options.ablations or [*ABLATIONS],
            overrides=argv[end + 1 :],
        )
    except ConfigError as error:
        console.fail(error)
        return console.USAGE
    missing = _to_run(jobs)
    if problems := find_problems(missing):
        for problem in problems:
            console.fail(problem)
        return console.WRONG
    try:
        failures = run_all(missing, scripts, find_devices(jobs[0].config.run.device))
    except KeyboardInterrupt:
        console.fail("interrupted: the same command goes on from here")
        return console.INTERRUPTED
    complete = [job for job in jobs if job.name not in failures]
    if complete:
        stem = jobs[0].config.run.root / f"{options.config.stem}_sweep"
        text, paths = write_tables(stem, complete, missing=[*failures])
        console.say("\n" + text + "".join(f"wrote {path}\n" for path in paths))
    for reason in dict.fromkeys(failures.values()):
        names = [name for name, other in failures.items() if other == reason]
        console.fail(f"FAILED {', '.join(names)}: {reason}")
    return console.WRONG if failures else console.DONE


def _to_run(jobs: Sequence[Job]) -> list[Job]:
    """The runs that are not complete; says which are made again, and which may be out of date."""
    reasons = {job.name: why_incomplete(job) for job in jobs}
    missing = [job for job in jobs if reasons[job.name]]
    console.say(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them complete")
    for job in jobs:
        if reasons[job.name] and (job.config.run_dir / "report.json").exists():
            console.say(f"{job.name}: {reasons[job.name]}")
        elif not reasons[job.name] and older_than_data(job):
            console.warn(
                f"{job.name}: the lists in {job.config.lists_dir} are newer than its report; "
                f"if the data changed, remove {job.config.run_dir} to train again"
            )
    return missing


def find_problems(jobs: Sequence[Job]) -> list[str]:
    """What the runs would stop at, each said once: missing data, lists or mask maps."""
    from mgcl.datasets.sets import Source, build_source

    problems: dict[str, None] = {}
    for config in {job.fold: job.config for job in jobs}.values():
        if not config.data.root.is_dir():
            root = Path(config.data.root).absolute()
            problems[f"no folder {root}: data/README.md says what belongs there"] = None
            continue
        try:
            listed = Source(config, None)
            trained, tested = listed.trained[0], listed.test
            source = build_source(config)
            for entry in (*trained[:1], *tested[:1]):
                source.load(entry)
        except (ValueError, OSError) as error:
            problems[str(error)] = None
    return list(problems)


def run_all(jobs: Sequence[Job], scripts: Path, devices: Sequence[str]) -> dict[str, str]:
    """Run every job, one at a time on each device; a failure does not stop the others.

    Returns:
        name of the run -> reason, for those that failed.
    """
    free: queue.Queue[str] = queue.Queue()
    for device in devices:
        free.put(device)
    failures = {}
    with ThreadPoolExecutor(len(devices)) as pool:
        futures = {pool.submit(_on_free_device, job, scripts, free): job for job in jobs}
        try:
            for number, future in enumerate(as_completed(futures), start=1):
                name, reason = futures[future].name, future.result()
                ended = f"failed, see {futures[future].config.run_dir / LOG}" if reason else "done"
                console.say(f"[{number}/{len(jobs)}] {name}: {ended}")
                if reason:
                    failures[name] = reason
        except KeyboardInterrupt:  # the terminal has interrupted the running processes as well
            pool.shutdown(cancel_futures=True)
            raise
    return failures


def find_devices(wanted: str) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each process that may run at once; "" leaves it as it is."""
    import torch

    count = 0 if wanted == "cpu" else torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(i) for i in range(count)]
    return names[:count] or [""]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=console.called("python -m mgcl.sweep"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Behind --, constants for every run: -- --train.lr 0.005 --run.root runs/lr",
    )

    def numbers(name: str, default: str | None, text: str) -> None:
        first = None if default is None else [_numbers(default)]
        parser.add_argument(name, nargs="+", type=_numbers, metavar="N", default=first, help=text)

    parser.add_argument("config", type=Path, help="TOML file of the experiment")
    console.add_quiet(parser)
    numbers("--folds", "0..2", "default: 0 1 2")
    numbers("--seeds", "0", "as 0 1 2 or 0..2; default: 0")
    numbers("--shots", None, "default: test.shots of the config")
    parser.add_argument(
        "--ablations",
        nargs="*",
        choices=ABLATIONS,
        metavar="NAME",
        help=f"what of the model is on; without a name all of {', '.join(ABLATIONS)}",
    )
    return parser


def _numbers(word: str) -> list[int]:
    """Turn "3" into [3] and "0..2" into [0, 1, 2]."""
    first, _, last = word.partition("..")
    numbers = list(range(int(first), int(last or first) + 1))
    if not numbers:
        raise argparse.ArgumentTypeError(f"{word} is empty: give the smaller number first")
    return numbers


def _flat(groups: Sequence[Sequence[int]] | None) -> list[int]:
    """Every number once, in the order given."""
    return list(dict.fromkeys(itertools.chain.from_iterable(groups or [])))


def _on_free_device(job: Job, scripts: Path, free: "queue.Queue[str]") -> str:
    device = free.get()
    try:
        return _train_and_test(job, scripts, device)
    finally:
        free.put(device)


def _train_and_test(job: Job, scripts: Path, device: str) -> str:
    """Run both scripts; "" or why the run failed."""
    log = job.config.run_dir / LOG
    done = job.config.run_dir / "sweep.toml"
    log.parent.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    console.say(f"{job.name}: running, see {log}")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": device} if device else None
    for script in (TRAIN, TEST):
        with log.open("ab") as output:
            status = subprocess.run(
                [sys.executable, str(scripts / script), *job.words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            ).returncode
        if status:
            return f"{script} ended with status {status}: {_last_line(log)}"
    write_text(done, to_toml(job.config))
    reason = why_incomplete(job)
    return f"{TEST} left no report.json that counts: {reason}" if reason else ""


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
