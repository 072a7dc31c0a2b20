"""The package's programs by one name: `mgcl COMMAND ...` once installed, or `python -m mgcl ...`.

A command is imported when it is asked for, so that this list costs nothing.
"""

import difflib
import sys
from collections.abc import Callable, Sequence

from mgcl import __version__, console

COMMANDS = {
    "extract": "main_0_extract_masks.py: images -> mask maps",
    "train": "main_1_mgcl_train.py: episodes -> checkpoints",
    "test": "main_2_mgcl_test.py: checkpoints -> scores, report",
    "synthetic": "write the synthetic benchmark, nothing to download",
    "prepare": "make a benchmark from downloads or one's own images",
    "check": "name everything that is wrong with a data set",
    "predict": "segment images by example",
    "page": "mark, find and correct in the browser",
    "visualize": "draw an episode before and after mask guidance",
    "sweep": "all folds, seeds and ablations, with the field's table",
    "masks show": "overlays and a summary of mask maps",
    "masks convert": "the authors' mask caches -> mask maps",
    "checkpoint": "write a checkpoint under the authors' names",
    "config": "all constants, with type, default and meaning",
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
            return _start(name, list(argv[length:]))
    console.fail(f"no command {argv[0]!r}: {_nearest(argv)}")
    return console.USAGE


def _start(name: str, words: list[str]) -> int:
    """Run a command, whose usage lines say how it was called."""
    by = "python -m mgcl" if sys.argv[0].endswith("__main__.py") else "mgcl"
    console.set_called(f"{by} {name}")
    try:
        return find(name)(words)
    finally:
        console.set_called("")


def find(name: str) -> Callable[[list[str]], int]:
    """The main function of a command, imported now."""
    match name:
        case "extract":
            from main_0_extract_masks import main as extract

            return extract
        case "train":
            from main_1_mgcl_train import main as train

            return train
        case "test":
            from main_2_mgcl_test import main as test

            return test
        case "synthetic":
            from mgcl.datasets.synthetic.command import main as synthetic

            return synthetic
        case "prepare":
            from mgcl.datasets.prepare.command import main as prepare

            return prepare
        case "check":
            from mgcl.datasets.check import main as check

            return check
        case "predict":
            from mgcl.predict.command import main as predict

            return predict
        case "page":
            from mgcl.page.command import main as page

            return page
        case "visualize":
            from mgcl.visualize.command import main as visualize

            return visualize
        case "sweep":
            from mgcl.sweep.command import main as sweep

            return sweep
        case "masks show":
            from mgcl.visualize.masks import main as masks_show

            return masks_show
        case "masks convert":
            from mgcl.masks.convert import main as masks_convert

            return masks_convert
        case "checkpoint":
            from mgcl.checkpoint import main as checkpoint

            return checkpoint
        case "config":
            from mgcl.config.reference import main as config

            return config
    raise ValueError(f"no command {name!r}")


def overview() -> str:
    """The commands with a line each, and the exit statuses."""
    lines = ["usage: mgcl COMMAND ... (mgcl COMMAND --help says more)"]
    lines += ["", "commands:"]
    lines += [f"  {name:14} {text}" for name, text in COMMANDS.items()]
    lines += ["", "exit status:"] + [f"  {number:<4} {text}" for number, text in STATUSES.items()]
    return "\n".join(lines)


def _nearest(argv: Sequence[str]) -> str:
    found = difflib.get_close_matches(" ".join(argv[:2]), COMMANDS, n=1)
    found = found or difflib.get_close_matches(argv[0], COMMANDS, n=1)
    return f"do you mean {found[0]!r}?" if found else "mgcl --help lists them"


def run() -> int:
    """What the installed `mgcl` starts."""
    return console.run(main)


if __name__ == "__main__":
    sys.exit(run())
