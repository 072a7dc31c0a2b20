"""The constants of an experiment: one TOML file, each constant overridable on the command line."""

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
