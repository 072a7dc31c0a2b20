"""What every reader of pictures shares: its errors, the bytes of a file, what a file can hold."""

import os
import stat
from pathlib import Path

MAX_PIXELS = 1 << 29  # 23,170 x 23,170 in memory at once; above it a file is read by windows
_MAX_BYTES = 1 << 32  # of a file that is read as a whole
_SMALL, _PIXELS_A_BYTE = 1 << 24, 8256  # deflate packs at most 1032 bytes, of 8 pixels, into one

PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG_2000 = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
_ERDAS = b"EHFA_HEADER_TAG"


class UnreadableImage(ValueError):
    """An image file that cannot be read; the message names it and says why."""


class MissingImage(UnreadableImage, FileNotFoundError):
    """An image file that is not there."""


def file_length(path: str | os.PathLike[str], what: str = "image") -> int:
    """The length in bytes of a file that is there.

    Raises:
        MissingImage: there is no such file.
        UnreadableImage: it is no regular file, or its folder may not be looked into.
    """
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        raise _missing(path, what) from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise UnreadableImage(f"{what} {path} cannot be read: {error}") from None
    if not stat.S_ISREG(facts.st_mode):
        raise UnreadableImage(f"{what} {path} is no regular file")
    return facts.st_size


def read_bytes(path: str | os.PathLike[str], what: str) -> bytes:
    """Read the file of an image, or of what else `what` calls it.

    Raises:
        MissingImage: there is no such file.
        UnreadableImage: it is no regular file, over 4 GiB or not readable.
    """
    length = file_length(path, what)
    if length > _MAX_BYTES:
        raise UnreadableImage(f"{what} {path} has {length:,} bytes: cut it first")
    return _read(path, what, -1)


def read_head(path: str | os.PathLike[str], what: str = "image") -> bytes:
    """The first bytes of a file, from which its kind is seen.

    Raises:
        UnreadableImage: as `read_bytes`, of a file of any length.
    """
    file_length(path, what)
    return _read(path, what, 512)


def gdal_driver(head: bytes) -> str | None:
    """Which of GDAL's drivers reads a file with these first bytes; None: it is left to Pillow."""
    if head[:4] in _TIFF:
        return "GTiff"
    if head.startswith(_JPEG_2000):
        return "JP2OpenJPEG"
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<VRTDataset"):
        return "VRT"
    return "HFA" if head.startswith(_ERDAS) else None


def plausible(length: int, height: int, width: int) -> bool:
    """Whether a file of `length` bytes can hold that picture; decoders take memory for it first."""
    most = min(max(_SMALL, _PIXELS_A_BYTE * length), MAX_PIXELS)
    return 0 < height * width <= most


def check_size(path: str | os.PathLike[str], length: int, height: int, width: int) -> None:
    """Refuse a picture that is too large for the memory, or for its file.

    Raises:
        UnreadableImage: so it is.
    """
    if not plausible(length, height, width):
        raise UnreadableImage(
            f"{path} is {width} x {height} pixels by its header: there may be 1 to {MAX_PIXELS:,} "
            "in memory, and no more than its bytes can hold. Cut it, or fetch it again"
        )


def damaged(path: str | os.PathLike[str], why: object) -> UnreadableImage:
    """The error for a file that is torn or changed."""
    return UnreadableImage(f"{path} is damaged ({why}): fetch or write it again")


def _read(path: str | os.PathLike[str], what: str, count: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(count)
    except FileNotFoundError:
        raise _missing(path, what) from None
    except OSError as error:
        raise UnreadableImage(f"{what} {path} cannot be read: {error.strerror}") from None


def _missing(path: str | os.PathLike[str], what: str) -> MissingImage:
    return MissingImage(
        f"no {what} {Path(path).absolute()}: check the data root and the lists (data/README.md)"
    )
