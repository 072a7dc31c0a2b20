"""Step 1: train MGCL on the base classes of a fold.

    python main_1_mgcl_train.py --config configs/isaid_resnet50.toml

    torchrun --nproc_per_node N main_1_mgcl_train.py ...    # the same training on N GPUs

Reads the mask maps of main_0, writes `runs/<name>/`: `last.pt` and `best.pt`, the resolved
`config.toml`, `log.jsonl`, and TensorBoard curves and panels. Exit status: 0 all epochs are done,
1 an error, 2 a mistake in the config, 75 stopped by a signal and saved (docs/runs.md).
"""

import sys

from mgcl import console

if __name__ == "__main__":  # before the imports that take a second
    sys.exit(console.run("main_1_mgcl_train"))

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mgcl import distributed
from mgcl.config import Config, load_runs_or_exit
from mgcl.device import choose_device
from mgcl.train import interrupt

if TYPE_CHECKING:
    import torch


def main(argv: Sequence[str]) -> int:
    """Train; the exit status is 0 when all epochs are done."""
    configs = load_runs_or_exit(argv, prog="python main_1_mgcl_train.py")
    if distributed.is_main():
        console.say("training " + ", ".join(str(config.run_dir) for config in configs))
    try:
        device = choose_device(configs[0].run.device)
        with distributed.session(device):
            for config in configs:
                train(config, device)
    except interrupt.Interrupted as stop:
        if distributed.is_main():
            console.say(str(stop))
        return interrupt.STATUS
    except (ValueError, OSError) as error:
        distributed.complain(error)
        return 1
    return 0


def train(config: Config, device: "torch.device") -> None:
    """All epochs: train, calibrate the decision threshold, validate, save."""
    from mgcl.datasets.sets import build_heldout, build_source, build_training, build_validation
    from mgcl.engine.optim import poly_lr, set_lr
    from mgcl.engine.training import train_one_epoch
    from mgcl.train.run import Run
    from mgcl.train.validation import prepare, validate

    source = build_source(config)
    training = build_training(config, source)
    heldout = build_heldout(config, source)
    validation = build_validation(config, source, heldout)
    recipe = config.train

    with Run(config, device, data=source.facts()) as run:
        prepare(run, heldout)
        for batches in run.epochs(training):
            rate = poly_lr(recipe.lr, run.state.epoch, recipe.epochs, recipe.poly_power)
            set_lr(run.optimizer, rate)
            result = train_one_epoch(
                run.forward,
                run.optimizer,
                batches,
                run.meter(training.class_ids),
                setup=run.setup,
                loss=recipe.loss,
                accumulate=recipe.accumulate,
                on_log=run.on_log,
                on_step=run.on_step,
            )
            run.log_training(result)
            if run.validates():
                validate(run, heldout, validation)
            run.save()
        run.log.say(
            f"done: best epoch {run.state.best_epoch + 1}, mIoU {run.state.best_miou:.2f} on "
            f"{validation.source}; next: main_2_mgcl_test.py with the same --config"
        )
