"""All programs under one name: `mgcl COMMAND ...` once installed, or `python -m mgcl COMMAND ...`.

A command is imported when it is asked for, so that this list costs nothing.
"""

import difflib
import importlib
import sys
from collections.abc import Sequence

from mgcl import __version__, console

# Command -> its module, whose main(words) returns the exit status, and what it does.
COMMANDS = {
    "synthetic": ("mgcl.datasets.synthetic", "write the synthetic benchmark, nothing to download"),
    "prepare": ("mgcl.datasets.prepare", "make a benchmark from downloads or one's own images"),
    "check": ("mgcl.datasets.check", "name everything that is wrong with a data set"),
    "extract": ("main_0_extract_masks", "step 0: images -> mask maps"),
    "train": ("main_1_mgcl_train", "step 1: episodes -> checkpoints"),
    "test": ("main_2_mgcl_test", "step 2: checkpoints -> scores, report, panels"),
    "predict": ("mgcl.predict", "segment images by example"),
    "visualize": ("mgcl.visualize", "draw an episode before and after mask guidance"),
    "sweep": ("mgcl.sweep", "all folds, seeds and ablations, with the field's table"),
    "masks show": ("mgcl.masks.show", "overlays and a summary of mask maps"),
    "masks convert": ("mgcl.masks.convert", "the authors' mask caches -> mask maps"),
    "checkpoint": ("mgcl.checkpoint", "write a checkpoint under the authors' names"),
    "config": ("mgcl.config_reference", "all constants, with type, default and meaning"),
}

STATUSES = {
    console.DONE: "done",
    console.WRONG: "data are wrong or missing, or a demanded margin is not reached",
    console.USAGE: "a mistake on the command line or in a config file",
    console.STOPPED: "stopped and saved: the same command goes on",
    console.INTERRUPTED: "interrupted",
}


def main(argv: Sequence[str]) -> int:
    """Run the command that the first words name, and return its exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        print(overview())
        return console.DONE
    if argv[0] == "--version":
        print(f"mgcl {__version__}")
        return console.DONE
    for length in (2, 1):
        name = " ".join(argv[:length])
        if name in COMMANDS:
            module = importlib.import_module(COMMANDS[name][0])
            return module.main(list(argv[length:]))
    console.fail(f"no command {argv[0]!r}: {_nearest(argv)}")
    return console.USAGE


def overview() -> str:
    """The commands with a line each, and the exit statuses."""
    lines = ["usage: mgcl COMMAND ... (mgcl COMMAND --help says more)", "", "commands:"]
    lines += [f"  {name:14} {text}" for name, (_, text) in COMMANDS.items()]
    lines += ["", "exit status:"] + [f"  {number:<4} {text}" for number, text in STATUSES.items()]
    return "\n".join(lines)


def _nearest(argv: Sequence[str]) -> str:
    found = difflib.get_close_matches(" ".join(argv[:2]), COMMANDS, n=1)
    found = found or difflib.get_close_matches(argv[0], COMMANDS, n=1)
    return f"do you mean {found[0]!r}?" if found else "mgcl --help lists them"


def run() -> int:
    """What the installed `mgcl` starts."""
    try:
        return main(sys.argv[1:])
    except KeyboardInterrupt:
        console.fail("interrupted")
        return console.INTERRUPTED


if __name__ == "__main__":
    sys.exit(run())
