"""One run of a sweep: training and test, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from mgcl import console
from mgcl.config import to_toml
from mgcl.files import write_text
from mgcl.sweep.jobs import Job, why_incomplete

SCRIPTS = Path(__file__).resolve().parents[2]
LOG = "sweep.log"  # what a run prints, in its folder
TRAIN, TEST = "main_1_mgcl_train.py", "main_2_mgcl_test.py"


def train_and_test(job: Job, scripts: Path, device: str = "") -> str:
    """Run both scripts; "" or why the run failed.

    Args:
        job: the run.
        scripts: folder of the two.
        device: CUDA_VISIBLE_DEVICES; "" leaves it as it is.
    """
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
