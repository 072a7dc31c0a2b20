"""The constants of an experiment: one TOML file, each constant overridable on the command line.

The names are imported when they are asked for: a program starts before its constants are known.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgcl.config.reading import (
        DEFAULT_CONFIG,
        ConfigError,
        explain,
        load,
        load_or_exit,
        load_runs_or_exit,
        read_toml,
        to_toml,
        with_values,
    )
    from mgcl.config.sections import Config, MasksSection

__all__ = [
    "DEFAULT_CONFIG",
    "Config",
    "ConfigError",
    "MasksSection",
    "explain",
    "load",
    "load_or_exit",
    "load_runs_or_exit",
    "read_toml",
    "to_toml",
    "with_values",
]


def __getattr__(name: str) -> Any:
    """Hand on what stands in the files of this folder."""
    if name in __all__:
        from mgcl.config import reading, sections

        return getattr(sections if hasattr(sections, name) else reading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
