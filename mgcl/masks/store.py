"""Mask maps on disk: one PNG an image and a manifest of how they were made."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mgcl import files
from mgcl.images.files import plausible
from mgcl.images.write import write_png

MANIFEST = "manifest.json"
_FORMAT = 1
_MADE_BY = "mgcl-masks"  # PNG text chunk with the digest of the spec
_PICTURE = "mgcl-picture"  # PNG text chunk with the fingerprint of the image's file


class MaskStoreError(ValueError):
    """A folder of mask maps, or a map in it, that cannot be used; the message says the remedy."""


class MaskStore:
    """A folder of mask maps: `root/KEY.png` and `root/manifest.json`.

    A key may hold "/". Every file is written atomically and carries the digest of the spec that
    made it, so that a torn or foreign file is found.
    """

    def __init__(self, root: str | os.PathLike[str], spec: Mapping[str, Any] | None = None) -> None:
        """Open a folder, or start it.

        Args:
            root: the folder.
            spec: name and options of the generator, to write (or add to) a store; None to read.

        Raises:
            MaskStoreError: no store there (reading), or one made with other options (writing).
        """
        self.root = Path(root)
        found = self._read_manifest()
        if spec is None and found is None:
            raise MaskStoreError(
                f"no mask maps in {self.root.absolute()} (it has no {MANIFEST}): "
                "run main_0_extract_masks.py with the same config"
            )
        wanted = found if spec is None else json.loads(json.dumps(dict(spec)))
        assert wanted is not None
        if found is not None and wanted != found:
            raise MaskStoreError(_difference(self.root, found, wanted))
        self.spec: dict[str, Any] = wanted
        self.digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]
        if found is None:
            files.write_json(self.root / MANIFEST, {"format": _FORMAT, "generator": wanted})

    def path(self, key: str) -> Path:
        """File of a key's map, there or not."""
        return self.root / f"{key}.png"

    def __contains__(self, key: str) -> bool:
        """Whether a file is there; `problem` says whether it is any good."""
        return self.path(key).exists()

    def keys(self) -> list[str]:
        """Keys of all files there, sorted."""
        found = (path.relative_to(self.root) for path in self.root.rglob("*.png"))
        return sorted(path.with_suffix("").as_posix() for path in found)

    def save(self, key: str, mask_map: np.ndarray, picture: Path | None = None) -> None:
        """Write a map (H, W) uint8; the same map gives the same bytes.

        Args:
            key: of the image.
            mask_map: of the image.
            picture: the image's file, whose fingerprint is kept with the map.

        Raises:
            OSError: disk full or not writable; nothing torn is left.
        """
        if mask_map.dtype != np.uint8 or mask_map.ndim != 2:
            raise ValueError(
                f"mask map of {key}: {mask_map.dtype} {mask_map.shape}, need (H, W) uint8"
            )
        texts = {_MADE_BY: self.digest}
        if picture is not None:
            texts[_PICTURE] = files.fingerprint(picture, whole=True)
        write_png(self.path(key), mask_map, texts=texts)

    def load(self, key: str) -> np.ndarray:
        """The map of an image, (H, W) uint8: 0 = no mask, 1..M large to small.

        Raises:
            MaskStoreError: no such map, or its file is damaged.
        """
        try:
            mask_map, made_by = _decode(self.path(key))
        except FileNotFoundError:
            raise MaskStoreError(self._remedy(key, "no mask map")) from None
        except Exception as error:  # Pillow's parsers raise anything on damaged bytes
            raise MaskStoreError(self._remedy(key, f"damaged mask map ({error})")) from None
        if made_by != self.digest:
            raise MaskStoreError(self._remedy(key, "a mask map made with other options"))
        return mask_map

    def problem(self, key: str, size: tuple[int, int] | None = None) -> str | None:
        """What is wrong with the file of `key`, None if nothing.

        Args:
            key: an image's key; its file must be there.
            size: (H, W) of the image, checked if given.
        """
        try:
            mask_map = self.load(key)
        except MaskStoreError as error:
            return str(error)
        if size is not None and mask_map.shape != size:
            return f"mask map of {key} is {mask_map.shape}, its image {size} (height, width)"
        return None

    def is_stale(self, key: str, picture: Path) -> bool:
        """Whether a map was cut from another picture than the file holds now.

        Times tell at no cost that it was not; where they do not, the fingerprint does. A map
        without fingerprint (from elsewhere, or of an earlier version) is taken as it is.
        """
        try:
            now, made = picture.stat(), self.path(key).stat()
            if max(now.st_mtime_ns, now.st_ctime_ns) < max(made.st_mtime_ns, made.st_ctime_ns):
                return False
            with Image.open(self.path(key), formats=["PNG"]) as image:
                kept = image.info.get(_PICTURE)
            return kept is not None and kept != files.fingerprint(picture, whole=True)
        except Exception:  # a missing or damaged file: its reader says so
            return False

    def remove_leftovers(self, keys: set[str]) -> None:
        """Delete temporary files of these keys (or of MANIFEST) that a killed process left.

        Those of a process that runs on this machine are left alone.
        """
        for leftover in self.root.rglob(".*.tmp"):
            name, _, pid = leftover.name[1 : -len(".tmp")].rpartition(".")
            relative = (leftover.parent / name).relative_to(self.root).as_posix()
            ours = relative.removesuffix(".png") in keys
            if ours and not _runs(pid):
                leftover.unlink(missing_ok=True)

    def _remedy(self, key: str, problem: str) -> str:
        return (
            f"{problem} for {key} ({self.path(key)}): "
            "run main_0_extract_masks.py with the same config, it makes what is missing"
        )

    def _read_manifest(self) -> dict[str, Any] | None:
        path = self.root / MANIFEST
        try:
            return dict(json.loads(path.read_text(encoding="utf-8"))["generator"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise MaskStoreError(
                f"{path} is not a manifest of mask maps ({error}): restore or remove it"
            ) from None


def is_store(folder: Path) -> bool:
    """Whether a folder holds mask maps, by its manifest."""
    try:
        return "generator" in json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _decode(path: Path) -> tuple[np.ndarray, str | None]:
    """(H, W) uint8 map and the digest that its PNG carries."""
    with Image.open(path, formats=["PNG"]) as image:
        if not plausible(path.stat().st_size, image.height, image.width):
            raise ValueError(f"{image.width} x {image.height} pixels by its header")
        image.load()
        if image.mode != "L":
            raise ValueError(f"mode {image.mode}, not 8-bit grey")
        return np.array(image), image.info.get(_MADE_BY)


def _difference(root: Path, found: dict[str, Any], wanted: dict[str, Any]) -> str:
    lines = [
        f"  {key}: there {found.get(key, '-')!r}, wanted {wanted.get(key, '-')!r}"
        for key in sorted(found.keys() | wanted.keys())
        if found.get(key) != wanted.get(key)
    ]
    head = f"the mask maps in {root} were made with other options:"
    return "\n".join([head, *lines, "Set masks.root to another folder, or remove that one."])


def _runs(pid: str) -> bool:
    """Whether another process of this machine has that id."""
    if not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
