"""What programs say on a terminal and in a log: words, warnings, progress, exit statuses.

Words go to stdout, warnings and errors to stderr. Colours and progress bars appear on a terminal
only; a log gets a line of progress now and then. NO_COLOR (https://no-color.org) takes the colours
away, and `--quiet` the words and the progress.
"""

import argparse
import os
import pkgutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
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
_settings: dict[str, Any] = {"quiet": False, "called": ""}


def set_quiet(quiet: bool) -> None:
    """Whether this process keeps its words and bars to itself; warnings and errors stay."""
    _settings["quiet"] = quiet


def set_called(command: str) -> None:
    """How the running program was called, "mgcl train"; empty: as its file is."""
    _settings["called"] = command


def called(by_file: str) -> str:
    """What a usage line starts with: "mgcl train", or "python main_1_mgcl_train.py" as given."""
    return _settings["called"] or by_file


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Give a program the option --quiet."""
    text = "no words and no progress bar; warnings and errors stay"
    parser.add_argument("--quiet", action="store_true", help=text)


def run(main: Callable[[list[str]], int] | str) -> int:
    """Run a program on the command line's words; its exit status, whatever a user does to it.

    Ctrl-C and what the system refuses (a full disk, no permission) are a line each; a character
    that a terminal's encoding lacks is escaped.

    Args:
        main: the program, or the name of the module that has it as `main` (written in the code,
            never read): imported here, so that Ctrl-C during its imports is a line, too.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        program = pkgutil.resolve_name(f"{main}:main") if isinstance(main, str) else main
        return program(sys.argv[1:])
    except KeyboardInterrupt:
        fail("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # what reads the output (head, less) has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    except OSError as error:
        fail(error)
        return WRONG


def say(text: str) -> None:
    """Print to stdout at once, past a progress bar."""
    if not _settings["quiet"]:
        _print(text, sys.stdout)


def warn(text: object) -> None:
    """A warning: the program goes on."""
    _print(f"{_coloured('warning:', _YELLOW, sys.stderr)} {text}", sys.stderr)


def fail(error: object) -> None:
    """An error, for which the program ends with a status other than 0."""
    _print(f"{_coloured('error:', _RED, sys.stderr)} {distributed.in_words(error)}", sys.stderr)


def progress(iterable: Iterable[Any] | None = None, **words: Any) -> "tqdm[Any] | Lines":
    """Progress on stderr: a bar on a terminal, in a log a line every few minutes.

    Of torchrun's processes the first shows its own. The words are tqdm's: desc, total, initial,
    unit, and `disable` for none at all.
    """
    words["disable"] = words.get("disable") or _settings["quiet"] or not distributed.is_main()
    if not sys.stderr.isatty():
        return Lines(iterable, **words)
    from tqdm import tqdm

    return tqdm(iterable, mininterval=1, **words)


class Lines:
    """Progress in a log; what it offers of tqdm's is all that is used here."""

    SECONDS = 300.0  # between two lines

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        *,
        desc: str = "",
        total: int | None = None,
        initial: int = 0,
        unit: str = "it",
        disable: bool = False,
    ) -> None:
        """Say nothing yet."""
        self.total = len(iterable) if total is None and hasattr(iterable, "__len__") else total  # type: ignore[arg-type]
        self.n = self._initial = initial
        self._iterable, self._desc, self._unit, self._disable = iterable, desc, unit, disable
        self._postfix = ""
        self._began = time.monotonic()
        self._due = self._began + self.SECONDS

    def __iter__(self) -> Iterator[Any]:
        """The items; each counts once the next is asked for."""
        for item in self._iterable or ():
            yield item
            self.update()

    def __enter__(self) -> "Lines":
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to do."""

    def set_postfix(self, *, refresh: bool = True, **values: object) -> None:
        """Words for the end of the next line."""
        self._postfix = "".join(f", {key} {value}" for key, value in values.items())

    def update(self, count: int = 1) -> None:
        """`count` more are done."""
        self.n += count
        now = time.monotonic()
        if now < self._due or self._disable:
            return
        self._due = now + self.SECONDS
        speed = (self.n - self._initial) / max(now - self._began, 1e-9)
        of = "" if self.total is None else f" of {self.total}"
        head = f"{self._desc}: " if self._desc else ""
        line = f"{head}{self.n}{of}, {speed:.2f} {self._unit}/s{self._postfix}"
        print(line, file=sys.stderr, flush=True)


def _print(text: str, stream: TextIO) -> None:
    """Past the bars, if there may be any."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(text, file=stream)
    else:
        print(text, file=stream)
    stream.flush()


def _coloured(word: str, colour: str, stream: TextIO) -> str:
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return word
    return f"\033[{colour}m{word}\033[0m"
