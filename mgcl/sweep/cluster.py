"""The runs of a sweep as jobs of a cluster, one each, through the package submitit."""

import getpass
import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgcl import console
from mgcl.files import write_text
from mgcl.sweep.jobs import Job
from mgcl.sweep.running import train_and_test


@dataclass(frozen=True)
class Work:
    """What a job of the cluster does: a run goes on where it was."""

    job: Job
    scripts: Path

    def __call__(self) -> str:
        """Train and test; "" or why it failed."""
        reason = train_and_test(self.job, self.scripts)
        _mark(self.job).unlink(missing_ok=True)
        return reason

    def checkpoint(self) -> Any:
        """What submitit queues again when the job's time is over."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(jobs: Sequence[Job], scripts: Path, where: str, options: Mapping[str, Any]) -> None:
    """Queue every run that is not queued or running already.

    Args:
        jobs: the runs.
        scripts: folder of the two scripts.
        where: "slurm", or "local": all at once on this machine.
        options: of sbatch, "partition", "time" in minutes and so on.

    Raises:
        ValueError: submitit is not installed, or it refuses an option.
    """
    try:
        import submitit
    except ImportError:
        raise ValueError(f"--on {where} needs the package submitit: pip install submitit") from None
    queued = _queued() if where == "slurm" else ()
    for job in jobs:
        if number := _under_way(job, queued):
            console.say(f"{job.name}: queued or running as job {number}")
            continue
        job.config.run_dir.mkdir(parents=True, exist_ok=True)
        try:
            executor = submitit.AutoExecutor(job.config.run_dir / "submitit", cluster=where)
            executor.update_parameters(
                name=job.name,
                gpus_per_node=int(where == "slurm" and job.config.run.device != "cpu"),
                **{f"{where}_{key}": value for key, value in options.items()},
            )
        except (NameError, RuntimeError) as error:  # what submitit raises
            raise ValueError(f"{where}: {error}") from None
        number = executor.submit(Work(job, scripts)).job_id
        write_text(_mark(job), f"{where} {number}")
        console.say(f"{job.name}: job {number}")


def _mark(job: Job) -> Path:
    """The file that names the job of a run while it is queued or running."""
    return job.config.run_dir / "sweep.job"


def _under_way(job: Job, queued: Collection[str]) -> str:
    """The number of the job that makes this run; empty if there is none, or if it was killed."""
    if not _mark(job).exists():
        return ""
    where, number = _mark(job).read_text(encoding="utf-8").split()
    if where == "slurm":
        return number if number in queued else ""
    try:
        os.kill(int(number), 0)  # submitit's local jobs are numbered by their processes
    except ProcessLookupError:
        return ""
    return number


def _queued() -> set[str]:
    """The numbers of this user's jobs that Slurm has queued or running.

    submitit would ask `sacct`, which knows nothing where a cluster keeps no accounts.
    """
    command = ["squeue", "--noheader", "--format", "%A", "--user", getpass.getuser()]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise ValueError(
            "there is no Slurm on this machine (squeue is not found): start the sweep where jobs "
            "are submitted, or without --on slurm"
        ) from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"Slurm does not say which jobs run: {error.stderr.strip()}") from None
    return set(found.stdout.split())
