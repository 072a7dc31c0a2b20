"""Several processes under torchrun; on a single process every function is a no-op."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor


T = TypeVar("T")

# A process that waits longer than this for another ends with an error. The first one's work alone
# (a checkpoint, a few pictures) takes seconds.
TIMEOUT = timedelta(minutes=10)
ECHO_SECONDS = 3.0


@contextmanager
def session(device: "torch.device") -> Iterator[None]:
    """Join the process group that torchrun describes, if any, and leave it at the end.

    Raises:
        ConnectionError: another process is gone, or let this one wait for longer than `TIMEOUT`.
    """
    if world_size() == 1:
        yield
        return
    import torch.distributed as dist

    on_cuda = device.type == "cuda"
    dist.init_process_group(
        "nccl" if on_cuda else "gloo", timeout=TIMEOUT, device_id=device if on_cuda else None
    )
    try:
        yield
    except RuntimeError as error:
        text = str(error).partition("\n")[0]
        of_gloo = "by peer" in text or "Timed out" in text
        if not of_gloo and not isinstance(error, dist.DistBackendError):
            raise
        raise ConnectionError(
            f"another process is gone, its own message says why, or stuck ({text})"
        ) from None
    # Not after an error: leaving waits for processes that may never come. torchrun ends them.
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
    """The values of all processes, by rank.

    Outside of a `session` (main_0 needs none) the processes may be far apart in time: the first
    waits for the last.
    """
    if world_size() == 1:
        return [value]
    import torch.distributed as dist

    met = dist.is_initialized()
    if not met:
        dist.init_process_group("gloo", timeout=timedelta(days=7))
    try:
        values: list[Any] = [None] * world_size()
        dist.all_gather_object(values, value)
        return values
    finally:
        if not met:
            dist.destroy_process_group()


def all_reduce(tensor: "Tensor") -> None:
    """Sum `tensor` over all processes, in place."""
    if world_size() > 1:
        import torch.distributed as dist

        dist.all_reduce(tensor)


def barrier() -> None:
    """Wait until all processes are here."""
    if world_size() > 1:
        import torch.distributed as dist

        dist.barrier()


def is_same(number: int, device: "torch.device") -> bool:
    """Whether all processes call this with the same number."""
    if world_size() == 1:
        return True
    import torch
    import torch.distributed as dist

    extremes = torch.tensor([number, -number], device=device)
    dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
    highest, lowest = extremes.tolist()
    return highest == -lowest


class AnySaidYes:
    """Lets processes agree on a yes or no without waiting for each other or for a device.

    The votes travel between the hosts while the next step runs, so the answer is that to the call
    before; a single process is answered at once.
    """

    def __init__(self) -> None:
        """All processes make theirs at the same place of the program."""
        self._group: Any = None
        self._votes: Any = None
        if world_size() > 1:
            import torch.distributed as dist

            self._group = dist.new_group(backend="gloo", timeout=TIMEOUT)

    def __call__(self, mine: bool) -> bool:
        """Vote; True as soon as some process is known to have said yes. All call it as often."""
        if self._group is None:
            return mine
        import torch
        import torch.distributed as dist

        if self.close():
            return True
        votes = torch.tensor(int(mine))
        self._votes = votes, dist.all_reduce(votes, group=self._group, async_op=True)
        return False

    def close(self) -> bool:
        """Wait for the vote that is under way, if any, and give its answer."""
        if self._votes is None:
            return False
        votes, work = self._votes
        self._votes = None
        work.wait()
        return bool(votes)


def in_words(error: object) -> str:
    """An error as one line for a user: that of a file says which, by its whole path."""
    if type(error) in (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError):
        assert isinstance(error, OSError)
        if error.filename is not None:
            return f"{Path(os.fsdecode(error.filename)).absolute()}: {error.strerror}"
    return str(error)


def complain(error: BaseException) -> None:
    """Print an error that ends the program, of which all processes may have made the same."""
    if world_size() == 1:
        print(f"error: {in_words(error)}", file=sys.stderr)
        return
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    if not is_main():
        # By then torchrun has ended this process if the first made the same mistake and said so.
        time.sleep(ECHO_SECONDS)
    get_error_handler().record_exception(error)  # into torchrun's own table of failures
    print(f"error on process {rank()}: {in_words(error)}", file=sys.stderr, flush=True)


def block(items: Sequence[T]) -> Sequence[T]:
    """The items of this process: a stretch of them, none doubled, none left out."""
    first, last = (len(items) * (rank() + i) // world_size() for i in (0, 1))
    return items[first:last]


def share(items: Sequence[T]) -> Sequence[T]:
    """The items of this process: every world-size-th, none doubled, none left out."""
    return items[rank() :: world_size()]
