"""What programs say on a terminal and in a log: words, warnings, progress, exit statuses.

Words go to stdout, warnings and errors to stderr. Colours and progress bars appear on a terminal
only, so that a log holds lines alone; NO_COLOR (https://no-color.org) takes the colours away, and
`--quiet` the words and the bars.
"""

import argparse
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

from mgcl import distributed

if TYPE_CHECKING:
    from tqdm import tqdm


# Exit statuses of all programs here.
DONE = 0
WRONG = 1  # something is wrong with the data, or is missing, or a demanded margin is not reached
USAGE = 2  # a mistake on the command line or in a config file
STOPPED = 75  # by a signal, and saved: to be started again (EX_TEMPFAIL of sysexits.h)
INTERRUPTED = 130  # by Ctrl-C, as shells report it

_YELLOW, _RED = "33", "31"
_settings = {"quiet": False}


def set_quiet(quiet: bool) -> None:
    """Whether this process keeps its words and bars to itself; warnings and errors stay."""
    _settings["quiet"] = quiet


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Give a program the option --quiet."""
    text = "no words and no progress bar; warnings and errors stay"
    parser.add_argument("--quiet", action="store_true", help=text)


def say(text: str) -> None:
    """Print to stdout at once, past a progress bar."""
    if not _settings["quiet"]:
        from tqdm import tqdm

        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()


def warn(text: str) -> None:
    """A warning: the program goes on."""
    print(f"{_coloured('warning:', _YELLOW, sys.stderr)} {text}", file=sys.stderr)


def fail(error: object) -> None:
    """An error, for which the program ends with a status other than 0."""
    print(f"{_coloured('error:', _RED, sys.stderr)} {error}", file=sys.stderr)


def progress(iterable: Iterable[Any] | None = None, **words: Any) -> "tqdm[Any]":
    """A progress bar on stderr, if that is a terminal; of torchrun's processes only the first's."""
    from tqdm import tqdm

    silent = _settings["quiet"] or not distributed.is_main()
    off = True if silent else None  # None: off where stderr is no terminal
    return tqdm(iterable, mininterval=1, disable=off, **words)


def _coloured(word: str, colour: str, stream: TextIO) -> str:
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return word
    return f"\033[{colour}m{word}\033[0m"
