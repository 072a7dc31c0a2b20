"""Episodes as JSON lines: written by a test, read back by another."""

import json
import os
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mgcl.datasets.benchmarks import Benchmark, check_name
from mgcl.datasets.episodes import EpisodeSpec
from mgcl.datasets.lists import Entry
from mgcl.files import read_text, write_text


class _Line(BaseModel):
    """One line of a manifest."""

    model_config = ConfigDict(strict=True, extra="forbid")
    episode: int
    split: Literal["train", "val"]
    label_id: int  # class id + 1, as in the lists
    query: str
    supports: list[str] = Field(min_length=1)


def write_manifest(path: str | os.PathLike[str], specs: Iterable[EpisodeSpec]) -> None:
    """Write episodes as JSON lines: episode, split, label_id (class id + 1), query, supports."""
    lines = []
    for number, (query, supports) in enumerate(specs):
        assert all(s.split == query.split and s.class_id == query.class_id for s in supports)
        record = {
            "episode": number,
            "split": query.split,
            "label_id": query.class_id + 1,
            "query": query.name,
            "supports": [support.name for support in supports],
        }
        lines.append(json.dumps(record) + "\n")
    write_text(path, "".join(lines))


def read_manifest(path: str | os.PathLike[str], benchmark: Benchmark) -> list[EpisodeSpec]:
    """Read the episodes of a manifest.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is broken; the message names the file and the line.
    """
    specs: list[EpisodeSpec] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            spec = _parse(line, benchmark)
            if specs and len(spec.supports) != len(specs[0].supports):
                raise ValueError(f"{len(spec.supports)} supports, the first has another number")
        except ValidationError as error:
            problems = (f"{'.'.join(map(str, e['loc']))} {e['msg']}" for e in error.errors())
            raise ValueError(
                f"{path}, line {number} is no episode: {'; '.join(problems).strip()}"
            ) from None
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is no episode: {error}") from None
        specs.append(spec)
    if not specs:
        raise ValueError(f"{path} holds no episode")
    return specs


def _parse(line: str, benchmark: Benchmark) -> EpisodeSpec:
    record = _Line.model_validate_json(line)
    class_id = record.label_id - 1
    if class_id not in range(len(benchmark.class_names)):
        raise ValueError(f"label_id {record.label_id} is no class of {benchmark.name}")
    if record.query in record.supports:
        raise ValueError(f"the query {record.query!r} is among its supports")
    for name in (record.query, *record.supports):
        check_name(name)
    query, *supports = (Entry(record.split, n, class_id) for n in (record.query, *record.supports))
    return EpisodeSpec(query, tuple(supports))
