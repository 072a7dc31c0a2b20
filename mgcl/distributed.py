"""Several processes under torchrun; on a single process every function is a no-op."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # imported where it is used: the scripts' --help does without
    import torch
    from torch import Tensor

T = TypeVar("T")


@contextmanager
def session(device: "torch.device") -> Iterator[None]:
    """Join the process group that torchrun describes, if any, and leave it at the end."""
    if world_size() == 1:
        yield
        return
    import torch.distributed as dist

    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(minutes=30))
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


def gather(value: T) -> list[T]:
    """The values of all processes, which may be far apart in time: the first waits for the last."""
    if world_size() == 1:
        return [value]
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=timedelta(days=7))
    try:
        values: list[Any] = [None] * world_size()
        dist.all_gather_object(values, value)
        return values
    finally:
        dist.destroy_process_group()


def refuse_several(program: str) -> None:
    """For a program that works on one process only.

    Raises:
        ValueError: torchrun started several.
    """
    if world_size() > 1:
        raise ValueError(
            f"{program} runs on one process, torchrun started {world_size()}: use python; "
            "mgcl.sweep runs several folds and seeds side by side, one a GPU"
        )


def all_reduce(tensor: "Tensor") -> None:
    """Sum `tensor` over all processes, in place."""
    if world_size() > 1:
        import torch.distributed as dist

        dist.all_reduce(tensor)


def share(items: Sequence[T]) -> Sequence[T]:
    """The items of this process: every world-size-th, none doubled, none left out."""
    return items[rank() :: world_size()]


def choose_device(name: str) -> "torch.device":
    """Turn "auto", "cuda" or "cpu" into this process's device.

    Raises:
        ValueError: cuda is asked for and there is none.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            'run.device = "cuda", but PyTorch finds no CUDA device; use "auto" or "cpu"'
        )
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    return device
