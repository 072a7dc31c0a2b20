"""What the pictures in a data root are, if the program that wrote them says so."""

import json
import os
from pathlib import Path
from typing import Any

from mgcl.files import write_json

FILE = "origin.json"


def write_origin(root: str | os.PathLike[str], kind: str, **facts: Any) -> None:
    """Say it: `kind` in the words of a report ("synthetic scenes"), and what made them."""
    write_json(Path(root) / FILE, {"kind": kind, **facts})


def describe(benchmark: str, root: str | os.PathLike[str], origin: str) -> str:
    """For print: "synthetic scenes in the tree of isaid (data/demo)", "isaid (data/isaid)"."""
    return f"{origin} in the tree of {benchmark} ({root})" if origin else f"{benchmark} ({root})"


def read_origin(root: str | os.PathLike[str]) -> str:
    """The kind of the pictures below `root`; empty where nothing is said."""
    try:
        said = json.loads((Path(root) / FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return ""
    kind = said.get("kind") if isinstance(said, dict) else None
    return kind if isinstance(kind, str) else ""
