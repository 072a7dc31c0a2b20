"""The constants from a TOML file and the command line.

A file in `configs/` fills the typed sections; `--section.key value` overrides one constant. An
unknown key, a wrong type or an impossible value is refused with the key, the value and what is
allowed.
"""

import argparse
import difflib
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError, create_model
from pydantic_settings import CliSettingsSource, SettingsError

from mgcl import console, old_names
from mgcl.config.compare import marks
from mgcl.config.sections import Config, Section

DEFAULT_CONFIG = "isaid_resnet50"
# Where the presets are: here, in the installed package, in a checkout.
PRESETS = (
    Path("configs"),
    Path(__file__).resolve().parents[1] / "presets",
    Path(__file__).resolve().parents[2] / "configs",
)


class ConfigError(ValueError):
    """A constant that cannot be used; the message names the key, the value and what is allowed."""


def load(argv: Sequence[str], *, prog: str | None = None, name_run: bool = True) -> Config:
    """Read the file after `--config` and the overrides in `argv`.

    Args:
        argv: command-line words, without the program's name.
        prog: the program in `--help`, as it is called by its file.
        name_run: give a run without a name that of its file, fold and seed.

    Raises:
        ConfigError: unknown key, wrong type, impossible value, missing or broken file.
        SystemExit: after `--help`.
    """
    usage = "%(prog)s [--config FILE] [--quiet] [--section.key VALUE ...]"
    prog = console.called(prog or Path(sys.argv[0]).name)
    parser = argparse.ArgumentParser(prog=prog, usage=usage, allow_abbrev=False)
    text = f"TOML file, or the name of a preset (default: {DEFAULT_CONFIG})"
    parser.add_argument("--config", metavar="FILE", default=DEFAULT_CONFIG, help=text)
    command_line: CliSettingsSource[Any] = CliSettingsSource(Config, root_parser=parser)
    parser.add_argument("--quiet", action="store_true", help="short for --run.quiet true")
    short = {"--quiet": ["--run.quiet", "true"]}
    argv = old_names.in_words(argv, {f"--{k}": f"--{v}" for k, v in old_names.CONSTANTS.items()})
    words, unknown = parser.parse_known_args([w for word in argv for w in short.get(word, [word])])
    if unknown:
        raise ConfigError(_unknown_word(unknown[0]))
    path = find_config(words.config)
    constants = _checked(path)
    try:
        config = Config(_cli_settings_source=command_line(parsed_args=words), **constants)  # type: ignore[call-arg]
    except ValidationError as error:
        raise ConfigError(f"command line:\n{explain(error)}") from None
    except SettingsError as error:  # a value that is begun as JSON and is none
        text = f"command line: {error} ({error.__cause__}): write a list of numbers as 1,5"
        raise ConfigError(text) from None
    if config.run.name or not name_run:
        return config
    name = f"{path.stem}_fold{config.data.fold}_seed{config.train.seed}"
    return with_values(config, run={"name": name})


def load_or_exit(argv: Sequence[str], *, prog: str | None = None) -> Config:
    """As `load`, for a script: a mistake is printed and ends the program with status 2."""
    try:
        config = load(argv, prog=prog)
    except ConfigError as error:
        console.fail(error)
        raise SystemExit(console.USAGE) from None
    console.set_quiet(config.run.quiet)
    return config


def load_runs_or_exit(argv: Sequence[str], *, prog: str | None = None) -> list[Config]:
    """As `load_or_exit`, a config for each seed: `--train.seed 0..4` stands for five runs."""
    configs = [load_or_exit(words, prog=prog) for words in _each_seed(argv)]
    if len({config.run.name for config in configs}) == len(configs):
        return configs
    return [
        with_values(config, run={"name": f"{config.run.name}_seed{config.train.seed}"})
        for config in configs
    ]


def with_values(config: Config, **sections: dict[str, Any]) -> Config:
    """A copy of `config` with some constants replaced: `with_values(c, train={"seed": 1})`."""
    values = config.model_dump()
    for section, constants in sections.items():
        values[section] |= constants
    return Config(**values)


def find_config(name: str | Path) -> Path:
    """The file of an experiment: itself, or that of a preset's name.

    `isaid_resnet50` is configs/isaid_resnet50.toml here, else the one that came with the package.

    Raises:
        ConfigError: no such file; the message names the nearest preset.
    """
    path = Path(name)
    if path.is_file() or path.suffix or path.parent != Path("."):
        found = [path] if path.exists() else []
    else:
        found = [preset for folder in PRESETS if (preset := folder / f"{name}.toml").is_file()]
    if found:
        return found[0]
    presets = sorted({p.stem for folder in PRESETS for p in folder.glob("*.toml")})
    near = _or(difflib.get_close_matches(path.stem, presets, n=1))
    raise ConfigError(f"no config file {name}{near}; presets: {', '.join(presets)}")


def read_toml(path: Path) -> dict[str, Any]:
    """Constants of a TOML file as nested dicts.

    Raises:
        ConfigError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError, OSError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from None


def to_toml(config: Config) -> str:
    """The resolved constants as TOML, readable back by `load`."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def _checked(path: Path) -> dict[str, Any]:
    """The constants of a file, in which types are strict: 50 is a number and "50" is not."""
    constants = old_names.in_constants(read_toml(path), telling=True)
    sections: dict[str, Any] = {
        name: (field.annotation, field.default) for name, field in Config.model_fields.items()
    }
    try:
        text = json.dumps(constants, default=lambda date: {"date": str(date)})
        create_model("File", __base__=Section, **sections).model_validate_json(text, strict=True)
    except ValidationError as error:
        raise ConfigError(f"{path}:\n{explain(error)}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits
        raise ConfigError(f"config file {path} cannot be read: {error}") from None
    return constants


def _each_seed(argv: Sequence[str]) -> list[list[str]]:
    """The words once for each seed of a range "0..4" behind --train.seed."""
    words = [part for word in argv for part in re.split(r"(?<=^--train\.seed)=", word)]
    for i, word in enumerate(words[1:], start=1):
        seeds = re.fullmatch(r"(\d+)\.\.(\d+)", word)
        if words[i - 1] == "--train.seed" and seeds and int(seeds[1]) <= int(seeds[2]):
            first, last = map(int, seeds.groups())
            return [[*words[:i], str(seed), *words[i + 1 :]] for seed in range(first, last + 1)]
    return [words]


def _unknown_word(word: str) -> str:
    if not word.startswith("-"):
        return f"unexpected {word!r}: write --section.key VALUE, a list of numbers as 1,5"
    name = word.lstrip("-").partition("=")[0]
    section = name.partition(".")[0]
    field = Config.model_fields.get(section)
    known: Any = field.annotation if field else Config
    names = ", ".join(known.model_fields)
    near = _or(f"--{constant}" for constant in _near(name))
    return f"unknown option {word}{near}; {section if field else 'sections'}: {names}"


def _near(name: str) -> list[str]:
    """Constants that a mistyped "section.key", or a key alone, may mean."""
    known = list(marks())
    section, _, key = name.rpartition(".")
    same = [constant for constant in known if constant.endswith(f".{key}")]
    if not section and same:
        return same
    return difflib.get_close_matches(name, same or known, n=1)


def _or(names: Iterable[str]) -> str:
    """Names as a question; nothing if there are none."""
    text = " or ".join(names)
    return f" (do you mean {text}?)" if text else ""


def explain(error: ValidationError) -> str:
    """What is wrong with constants, a line each: key, value, what is allowed."""
    lines: dict[str, str] = {}
    for mistake in error.errors():
        *parents, key = [part for part in mistake["loc"] if isinstance(part, str)] or ["?"]
        section = Config.model_fields.get(parents[0]) if parents else None
        known: Any = section.annotation if section else Config
        if mistake["type"] == "extra_forbidden":
            near = [] if parents else difflib.get_close_matches(key, Config.model_fields, n=1)
            near = near or _near(".".join([*parents, key]))
            text = f"unknown key{_or(near)}; known: {', '.join(known.model_fields)}"
        elif mistake["type"] == "model_type":
            text = f"a section has keys: write {key}.KEY (given: {mistake['input']!r})"
        else:
            said = mistake["msg"]
            if mistake["type"] == "string_pattern_mismatch":  # which is for programs to read
                meaning = known.model_fields[mistake["loc"][1]].description
                said = " ".join(meaning.split()).removesuffix(".")
            text = f"{said} (given: {mistake['input']!r})"
        # the parts of a union each report: keep them in one line under the key
        name = ".".join(str(part) for part in mistake["loc"][: 2 if parents else 1])
        lines[name] = f"{lines[name]}; or {text}" if name in lines else text
    return "\n".join(f"  {name}: {text}" for name, text in lines.items())
