"""Checkpoints: atomic saving, checked loading, and the authors' files in both directions.

    python -m mgcl.checkpoint export runs/NAME/best.pt --to authors.pt

writes the weights under the authors' names.
"""

import sys

from mgcl import console

if __name__ == "__main__":  # before the imports that take a second
    sys.exit(console.run("mgcl.checkpoint"))

import argparse
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mgcl.files import atomic_write, keep_as
from mgcl.old_names import CHECKPOINT, in_keys

# The authors' files hold the classifier that the network does not use; these are its shapes.
CLASSIFIERS = {
    "resnet50": {"fc.weight": (1000, 2048), "fc.bias": (1000,)},
    "resnet101": {"fc.weight": (1000, 2048), "fc.bias": (1000,)},
    "vgg16": {
        "classifier.0.weight": (4096, 25088),
        "classifier.0.bias": (4096,),
        "classifier.3.weight": (4096, 4096),
        "classifier.3.bias": (4096,),
        "classifier.6.weight": (1000, 4096),
        "classifier.6.bias": (1000,),
    },
}


class CheckpointError(ValueError):
    """A checkpoint that is missing, torn or of another network; the message says what to do."""


def save(path: Path, state: Mapping[str, Any], *, previous: Path | None = None) -> None:
    """Write a checkpoint atomically.

    Args:
        path: file to write.
        state: tensors and plain values.
        previous: where the file that is replaced goes; one of the two is whole at any moment.

    Raises:
        OSError: the disk is full; the old files are untouched.
    """
    with atomic_write(path) as temporary:
        _write(temporary, dict(state))
        if previous is not None and path.exists():
            keep_as(path, previous)


def _write(path: Path, state: dict[str, Any]) -> None:
    """torch.save, which hides the system's error of a full disk behind one of its own."""
    with path.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint, onto the CPU; only tensors and plain values are admitted, nothing is run.

    Raises:
        CheckpointError: no such file, torn, or with anything but tensors and plain values.
    """
    if path.is_dir():
        raise CheckpointError(f"{path.absolute()} is a folder: give a file, its best.pt for one")
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path.absolute()}: run main_1_mgcl_train.py first")
    try:
        if zipfile.is_zipfile(path):  # torch does not look at the checksums
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():
                    raise ValueError(f"wrong checksum of {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on garbage the unpickler raises anything, KeyError and all
        raise CheckpointError(f"{path} is {_other(path, error)}") from None
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not a checkpoint")
    return in_keys(state, CHECKPOINT)


def _other(path: Path, error: Exception) -> str:
    """What a file is that is no checkpoint, and what to do."""
    with path.open("rb") as file:
        head = file.read(64).lstrip().lower()
    if not head:
        return "empty: copy or download it again"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file: fetch it by `git lfs pull`"
    if head.startswith(b"<"):
        return "a web page, not a checkpoint: download the file itself"
    said = str(error)
    if found := re.search(r"GLOBAL ([\w.]+) was not", said):  # torch's words advise to run it
        return f"no checkpoint of tensors and plain values alone: it holds {found[1]}"
    return f"torn or no checkpoint of tensors: {said.splitlines()[0][:100]}"


def load_weights(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Load weights of this project or of the authors into `model`.

    Prefixes such as `module.`, the old name `hpn_learner` for `mgcd` and the unused classifier are
    taken care of.

    Returns:
        what the checkpoint says of itself (epoch, threshold, ...); empty for the authors' files.

    Raises:
        CheckpointError: unreadable, or of another network; the message lists what is missing and
            what is left over.
    """
    return take_weights(model, load(Path(path)), str(path))


def take_weights(model: nn.Module, state: Mapping[str, Any], source: str) -> dict[str, Any]:
    """As `load_weights`, of what was loaded from the file `source` already."""
    facts = {k: v for k, v in state.items() if k not in ("model", "optimizer", "progress")}
    weights = state.get("model")
    if weights is None:
        weights, facts = state, {}
    fill(model, weights, source)
    return facts


def our_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under this project's names, the classifier and what stands before all names left out.

    Where names differ in what stands before these parts, they are parts of a larger network.
    """
    parts = re.compile(r"(.*?)(?:backbone|segmentation_head)\.")
    found = [parts.match(str(name)) for name in weights]
    before = {match[1] for match in found if match}
    prefix = before.pop() if len(before) == 1 else ""
    named = {}
    for name, value in weights.items():
        name = str(name).removeprefix(prefix).replace(".hpn_learner.", ".mgcd.")
        if not name.startswith(("backbone.fc.", "backbone.classifier.")):
            named[name] = value
    return named


def authors_names(weights: Mapping[str, Tensor], backbone: str) -> dict[str, Tensor]:
    """Weights under the authors' names, with zeros for the classifier that nobody uses.

    Raises:
        CheckpointError: the authors' program has no such backbone.
    """
    if backbone not in CLASSIFIERS:
        raise CheckpointError(
            f"the authors' program has no {backbone}; it has {', '.join(CLASSIFIERS)}"
        )
    zeros = {
        f"backbone.{name}": torch.zeros(1).expand(shape)
        for name, shape in CLASSIFIERS[backbone].items()
    }
    return {**{name: value.contiguous() for name, value in weights.items()}, **zeros}


def fill(model: nn.Module, weights: Any, source: str) -> None:
    """Load weights, of whatever naming, that came from the file `source`.

    Raises:
        CheckpointError: of another network; the message lists what is missing and left over.
    """
    if not isinstance(weights, Mapping):
        raise CheckpointError(f"{source} holds no weights but a {type(weights).__name__}")
    weights = our_names(weights)
    expected = model.state_dict()
    missing = [name for name in expected if name not in weights]
    left_over = [name for name in weights if name not in expected]
    misfits = [
        f"{name} {_shape(weights[name])} instead of {_shape(value)}"
        for name, value in expected.items()
        if name in weights and _shape(weights[name]) != _shape(value)
    ]
    if missing or left_over or misfits:
        raise CheckpointError(
            f"{source} is of another network (set the [model] constants it was trained with):\n"
            f"  missing: {_listed(missing)}\n  left over: {_listed(left_over)}\n"
            f"  other shape: {_listed(misfits)}"
        )
    model.load_state_dict(weights)


def _shape(value: Any) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)}: " + ", ".join(names) if names else "none"


def main(argv: Sequence[str]) -> int:
    """Command line: export a checkpoint under the authors' names."""
    parser = argparse.ArgumentParser(
        prog=console.called("python -m mgcl.checkpoint"), description=__doc__
    )
    commands = parser.add_subparsers(required=True)
    export = commands.add_parser("export", help="write a checkpoint under the authors' names")
    export.add_argument("checkpoint", type=Path)
    export.add_argument("--to", type=Path, required=True, help="file to write")
    words = parser.parse_args(argv)
    try:
        state = load(words.checkpoint)
        if "model" not in state or "config" not in state:
            raise CheckpointError(f"{words.checkpoint} is no checkpoint of this project")
        backbone = state["config"]["model"]["backbone"]
        save(words.to, authors_names(our_names(state["model"]), backbone))
    except CheckpointError as error:
        console.fail(error)
        return 1
    print(f"wrote {words.to}")
    return 0
