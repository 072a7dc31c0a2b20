"""Which constants change the numbers: those of a resumed run, and of the runs of a sweep."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mgcl.config.sections import Config, Mark
from mgcl.old_names import in_constants

LEARNING = {Mark.KEPT, Mark.COMPARED}  # what training learns by
TESTED = {*LEARNING, Mark.CHOOSING, Mark.TESTING}  # what the scores of a test depend on


def marks() -> dict[str, Mark]:
    """The mark of each constant, by "section.key"."""
    return {
        f"{section}.{key}": next(m for m in constant.metadata if isinstance(m, Mark))
        for section, field in Config.model_fields.items()
        for key, constant in field.annotation.model_fields.items()  # type: ignore[union-attr]
    }


def compared_constants(config: Config) -> dict[str, bool | float | str]:
    """The constants by which the runs of a sweep compare, by "section.key"."""
    values = _flat(config.model_dump(mode="json"))
    return {name: values[name] for name, mark in marks().items() if mark is Mark.COMPARED}


def read_saved(constants: Mapping[str, Any]) -> dict[str, Any]:
    """All constants as an earlier run, of this version or another, wrote them.

    Those that it did not know have their defaults; `unknown_constants` names those that are
    unknown here.

    Raises:
        ValueError: no constants at all.
    """
    if not isinstance(constants, Mapping):
        raise ValueError(f"constants are a {type(constants).__name__}")
    said = _flat(in_constants(constants))
    return {
        section: {key: said.get(f"{section}.{key}", value) for key, value in keys.items()}
        for section, keys in Config().model_dump(mode="json").items()
    }


def unknown_constants(
    saved: Mapping[str, Any], *, harmless: Collection[str]
) -> tuple[list[str], list[str]]:
    """Constants that an earlier run wrote and this program does not know: "train.warmup 5".

    Args:
        saved: section -> key -> value.
        harmless: sections on which nothing depends in what the caller is about to do.

    Returns:
        those of the harmless sections, and all others.
    """
    known, found = marks(), _flat(in_constants(saved))
    unknown = [f"{name} {value}" for name, value in found.items() if name not in known]
    free = [text for text in unknown if text.partition(".")[0] in harmless]
    return free, [text for text in unknown if text not in free]


def different_constants(
    saved: Mapping[str, Any], config: Config, *, counting: Collection[Mark] = LEARNING
) -> list[str]:
    """Constants that change numbers and differ: "train.lr 0.01 -> 0.02".

    Args:
        saved: section -> key -> value, as an earlier run wrote it.
        config: the constants now.
        counting: marks of the constants that count.
    """
    before = _flat(read_saved(saved))
    now = _flat(config.model_dump(mode="json"))
    return [
        f"{name} {before[name]} -> {now[name]}"
        for name, mark in marks().items()
        if mark in counting and before[name] != now[name]
    ]


def _flat(sections: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_pairs(sections))


def _pairs(sections: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section, constants in sections.items():
        if not isinstance(constants, Mapping):
            yield section, constants
            continue
        for key, value in constants.items():
            yield f"{section}.{key}", value
