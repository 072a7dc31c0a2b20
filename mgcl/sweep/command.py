"""All folds, several seeds and the ablations of an experiment, and the field's table of them.

    python -m mgcl.sweep configs/isaid_resnet50.toml --folds 0 1 2 --seeds 0..2 --shots 1 5
    python -m mgcl.sweep configs/isaid_resnet50.toml --ablations -- --train.epochs 20

    python -m mgcl.sweep configs/isaid_resnet50.toml --seeds 0..2 --on slurm --slurm time=600

Trains and tests what is missing: one process a GPU, or one at a time on the CPU. Started again, it
goes on where it was. What a run prints is in its folder, in sweep.log. With --on a job is queued
for each run instead; the same command, later, writes the table and queues what was killed.
"""

import argparse
import itertools
import os
import queue
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from mgcl import console
from mgcl.config import ConfigError
from mgcl.sweep.cluster import submit
from mgcl.sweep.jobs import ABLATIONS, FULL, Job, older_than_data, plan, why_incomplete
from mgcl.sweep.running import LOG, SCRIPTS, train_and_test
from mgcl.sweep.tables import write_tables


def main(argv: Sequence[str] | None = None, *, scripts: Path = SCRIPTS) -> int:
    """Command line; status 0: all complete, 1: a run failed, 2: wrong words, 130: interrupted.

    75: jobs of a cluster are queued or running.
    """
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
        if options.on:
            submit(missing, scripts, options.on, dict(options.slurm))
            failures = dict.fromkeys((job.name for job in missing), "")
        else:
            failures = run_all(missing, scripts, find_devices(jobs[0].config.run.device))
    except KeyboardInterrupt:
        console.fail("interrupted: the same command goes on from here")
        return console.INTERRUPTED
    except ValueError as error:
        console.fail(error)
        return console.USAGE
    complete = [job for job in jobs if job.name not in failures]
    if complete:
        stem = jobs[0].config.run.root / f"{options.config.stem}_sweep"
        text, paths = write_tables(stem, complete, missing=[*failures])
        console.say("\n" + text + "".join(f"wrote {path}\n" for path in paths))
    if options.on and missing:
        console.say(f"{len(missing)} jobs: the same command writes the table when they are done")
        return console.STOPPED
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
    text = "queue a job for each run (package submitit); local: all at once on this machine"
    parser.add_argument("--on", choices=("slurm", "local"), help=text)
    text = "options of sbatch: partition=gpu time=600 (minutes) cpus_per_task=8"
    parser.add_argument("--slurm", nargs="+", type=_option, default=[], metavar="K=V", help=text)
    parser.add_argument(
        "--ablations",
        nargs="*",
        choices=ABLATIONS,
        metavar="NAME",
        help=f"what of the model is on; without a name all of {', '.join(ABLATIONS)}",
    )
    return parser


def _option(word: str) -> tuple[str, str | int]:
    """Turn "time=600" into ("time", 600)."""
    key, equals, value = word.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"{word}: write KEY=VALUE")
    return key, int(value) if value.isdigit() else value


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
        return train_and_test(job, scripts, device)
    finally:
        free.put(device)
