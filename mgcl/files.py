"""Atomic writes: a reader sees the whole old file or the whole new one, never a torn one."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

_SAMPLE = 4096  # bytes at a file's beginning, in its middle and at its end
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what the system says of a full disk


class DiskFullError(OSError):
    """The disk takes no more; the message says where and what to do."""

    def __str__(self) -> str:
        """What to do."""
        return (
            f"{self.filename} takes no more ({self.strerror}): make room there and start again; "
            "every file that was there is whole"
        )


@contextmanager
def writing_in(folder: Path) -> Iterator[None]:
    """Turn the system's errors of a full disk into ones that say where and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DiskFullError(error.errno, error.strerror, str(folder)) from None


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` when the block ends without error.

    The parent folder is made. The temporary name ends in `.tmp`; after a kill a leftover of that
    name is all that remains (see `remove_leftovers`), and `path` is as it was. What can be made
    anew need not be `durable`: a power failure soon after may tear it; the disk is not waited for.

    Raises:
        DiskFullError: the disk takes no more; nothing is left behind.
        OSError: the folder is not writable.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with writing_in(target.parent):
            yield temporary
            if durable:
                with open(temporary, "rb") as written:
                    os.fsync(written.fileno())
            os.replace(temporary, target)
    except OSError as error:
        if error.filename == str(temporary):  # of which nobody knows
            error.filename, error.filename2 = str(target), None
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a UTF-8 file, with or without a byte-order mark.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8.
    """
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start})"
        ) from None


def keep_as(path: Path, kept: Path) -> None:
    """Give the file `path` the second name `kept`, replacing what was called so."""
    link = kept.with_name(f".{kept.name}.{os.getpid()}.tmp")
    try:
        link.unlink(missing_ok=True)
        os.link(path, link)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        os.replace(path, kept)  # a file system without hard links
    else:
        os.replace(link, kept)
        link.unlink(missing_ok=True)  # a rename onto the same file leaves both names


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed processes left in `folder` itself."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file atomically; onto itself nothing happens."""
    if not (target.exists() and target.samefile(source)):
        with atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)


def lock(path: Path) -> BaseFileLock:
    """Keep other processes from what `path` stands for, until released or this process ends.

    Raises:
        ValueError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"{path.parent.absolute()} is in use by another process: end that first"
        ) from None
    except PermissionError:
        raise
    except (OSError, NotImplementedError):  # a file system without locks
        pass
    return held


def fingerprint(path: Path, *, whole: bool = False) -> str:
    """A digest of a file's size and bytes, or of samples of them: small files are read whole.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.blake2b(str(size).encode(), digest_size=16)
        if whole or size <= 3 * _SAMPLE:
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
        for start in (0, size // 2, size - _SAMPLE):
            file.seek(start)
            digest.update(file.read(_SAMPLE))
        return digest.hexdigest()


def write_bytes(path: str | os.PathLike[str], data: bytes, *, durable: bool = True) -> None:
    """Write `data` to `path` atomically."""
    with atomic_write(path, durable=durable) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` to `path` atomically, as indented JSON."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_records(path: Path) -> list[dict[str, Any]]:
    """Records of a `log.jsonl`; a line that a kill left torn is dropped."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records
