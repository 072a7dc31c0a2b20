"""The device of this process, its seeds and its memory."""

import ctypes
import os
import random
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where it is used: the scripts' --help does without
    import torch


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory(up_to: int = _LARGEST) -> bool:
    """Tell glibc's allocator to reuse freed blocks of that many bytes; False without glibc.

    Larger ones go back to the system: kept, the arrays of a large scene leave holes between them.
    """
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return False
    kept = [libc.mallopt(option, up_to) for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]
    return all(kept)


def make_reproducible(seed: int, *, threads: int = 0, deterministic: bool = False) -> None:
    """Seed every generator.

    Args:
        seed: of all of them.
        threads: of the CPU; 0 leaves PyTorch's choice.
        deterministic: leave only deterministic algorithms.
    """
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if threads:
        torch.set_num_threads(threads)
    if deterministic:  # cuBLAS has to know before its first product
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if deterministic != torch.are_deterministic_algorithms_enabled():  # it imports the compiler
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


def choose_device(name: str) -> "torch.device":
    """Turn "auto", "cuda" or "cpu" into this process's device.

    Raises:
        ValueError: cuda is asked for and there is none, or fewer than processes.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            'run.device = "cuda", but PyTorch finds no CUDA device; use "auto" or "cpu"'
        )
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    if device.index >= torch.cuda.device_count():
        raise ValueError(
            f"torchrun started more processes on this machine than its {torch.cuda.device_count()} "
            "CUDA devices: lower --nproc_per_node"
        )
    torch.cuda.set_device(device)
    return device
