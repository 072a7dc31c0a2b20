"""Names that were changed: what is typed, called or stored under the old one is still understood.

Whoever types an old name is told the new one, once; in files it is translated silently.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from mgcl import console

CONSTANTS = {"test.cut": "test.threshold"}
OPTIONS = {"--cut": "--threshold"}  # of mgcl.predict
KEYWORDS = {"cut": "threshold"}  # of mgcl.predict's functions
CHECKPOINT = {"cut": "threshold"}  # what a checkpoint says of itself
MODULES = {
    "mgcl.masks.show": "mgcl.visualize.masks",
    "mgcl.config_reference": "mgcl.config",
}


def moved(module: str) -> int:
    """Say what a command is called now; its exit status."""
    console.fail(f"this command has moved: python -m {MODULES[module]}")
    return console.USAGE


_P = ParamSpec("_P")
_R = TypeVar("_R")


@functools.cache
def tell(old: str, new: str) -> None:
    """A warning that a name was changed; each is told once."""
    console.warn(f"{old} is called {new} now")


def in_words(argv: Sequence[str], table: Mapping[str, str]) -> list[str]:
    """Words of a command line with the new names of its options: --old VALUE or --old=VALUE."""
    found = []
    for word in argv:
        option, equals, value = word.partition("=")
        if option in table:
            tell(option, table[option])
            word = f"{table[option]}{equals}{value}"
        found.append(word)
    return found


def in_keys(values: Mapping[str, Any], table: Mapping[str, str]) -> dict[str, Any]:
    """A copy with the new keys; where both are there, the new one's value stays."""
    return {table.get(k, k): v for k, v in values.items() if table.get(k) not in values}


def in_constants(values: Mapping[str, Any], *, telling: bool = False) -> dict[str, Any]:
    """As `in_keys`, for nested constants: section -> key -> value.

    Args:
        values: as a TOML file or a checkpoint holds them.
        telling: warn of each that is found.
    """
    found = dict(values)
    for old, new in CONSTANTS.items():
        section, _, key = old.partition(".")
        if isinstance(values.get(section), Mapping) and key in values[section]:
            found[section] = in_keys(found[section], {key: new.partition(".")[2]})
            if telling:
                tell(old, new)
    return found


def in_call(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorate a function, or the constructor of a class, so that it takes `KEYWORDS` as well."""

    @functools.wraps(function)
    def called(*inputs: _P.args, **keywords: _P.kwargs) -> _R:
        for old in keywords.keys() & KEYWORDS.keys():
            tell(f"{old}=", f"{KEYWORDS[old]}=")
        return function(*inputs, **in_keys(keywords, KEYWORDS))

    return called
