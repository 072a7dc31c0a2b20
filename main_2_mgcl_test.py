"""Step 2: test a trained MGCL on the novel classes of its fold.

    python main_2_mgcl_test.py --config configs/isaid_resnet50.toml
    torchrun --nproc_per_node N main_2_mgcl_test.py ...    # exactly the same numbers, by N GPUs

Reads the checkpoints of main_1, writes `report.html` (also as `.md` and `.json`), `episodes.csv`,
plots, panels and the episodes' manifests into `runs/<name>/` and prints the table.
"""

import sys

from mgcl import console

if __name__ == "__main__":  # before the imports that take a second
    sys.exit(console.run("main_2_mgcl_test"))

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mgcl import distributed
from mgcl.config import Config, load_runs_or_exit
from mgcl.device import choose_device

if TYPE_CHECKING:
    import torch


def main(argv: Sequence[str]) -> int:
    """Test; the exit status is 1 if something is missing or a demanded margin is not reached."""
    configs = load_runs_or_exit(argv, prog="python main_2_mgcl_test.py")
    if distributed.is_main():
        console.say("testing " + ", ".join(str(config.run_dir) for config in configs))
    try:
        device = choose_device(configs[0].run.device)
        with distributed.session(device):
            return max(test(config, device) for config in configs)
    except (ValueError, OSError) as error:
        distributed.complain(error)
        return console.WRONG


def test(config: Config, device: "torch.device") -> int:
    """Score checkpoints and baselines on the same episodes, then report."""
    from mgcl.build import build_setup
    from mgcl.datasets.sets import build_absent, build_source, build_test
    from mgcl.report import score
    from mgcl.report.pictures import write_curves, write_panels
    from mgcl.report.results import build_report
    from mgcl.report.text import to_text
    from mgcl.report.verdict import not_beaten
    from mgcl.report.write import write_report

    config = score.with_tested_network(config)
    setup = build_setup(config, device)
    source = build_source(config)
    tests = {shots: build_test(config, source, shots) for shots in config.test.shots}
    absent = {K: build_absent(config, tests[K]) if config.test.absent else None for K in tests}
    candidates = score.load_candidates(config, device, source.facts_if_there())
    candidates += score.load_baselines(config, source, setup)

    scored = {
        shots: [
            found
            for one in candidates
            for found in score.score(config, source, one, episodes, shots, setup, absent[shots])
        ]
        for shots, episodes in tests.items()
    }
    if not distributed.is_main():
        return 0  # all know the scores, one tells them

    panels = []
    for shots, episodes in tests.items():
        score.write_episodes(config, episodes, shots)
        panels += write_panels(config, scored[shots][0], episodes, setup)
    results = [result for of_shots in scored.values() for result in of_shots]
    curves = write_curves(config, results)
    found = build_report(config, results, curves=curves, panels=panels)
    write_report(config.run_dir, found)
    console.say("\n" + to_text(found))
    console.say(
        f"report:      {config.run_dir / 'report.html'} (as text: {config.run_dir / 'report.md'})"
    )
    console.say(f"TensorBoard: tensorboard --logdir {config.run_dir / 'tensorboard'}")
    complaints = not_beaten(found.rows) if config.test.must_beat_baselines else []
    for complaint in complaints:
        print(f"FAILED: {complaint}", file=sys.stderr)
    return 1 if complaints else 0
