"""Files and folders that appear whole or not at all, and records that vouch for themselves and for the files beside them."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot.errors import DataError, of_the_machine

if TYPE_CHECKING:
    import numpy.typing as npt

_SEAL = "seal"
_LEFT_BY_DESKTOPS = {"thumbs.db", "desktop.ini"}


def ignored(name: Path) -> bool:
    """Whether a file, named from its folder of images on, is hidden, in a hidden folder, or one that desktops leave."""
    return any(part.startswith(".") for part in name.parts) or name.name.lower() in _LEFT_BY_DESKTOPS


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it takes the final name only when the block ends without error.

    What a killed process left there is removed by the next one on the same machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    own = f".{path.name}.{re.sub('[^0-9A-Za-z-]', '-', platform.node())}"
    temporary = path.with_name(f"{own}.{os.getpid()}.tmp")
    for left in path.parent.glob(f"{glob.escape(own)}.*.tmp"):  # by a process that was killed; of other nodes nothing is known
        if not _alive(left.name.split(".")[-2]):
            left.unlink(missing_ok=True)
    try:
        yield temporary
        with temporary.open("rb") as file:  # the bytes are on the disk before the name is
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object, indented, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path, cure: str = "delete it and run its job again") -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: the file is missing or is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: missing; {cure}") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: damaged (not JSON); {cure}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: damaged (not a JSON object); {cure}")
    return value


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array of any shape as a .npy file, atomically. `numpy.save` would not say why when the disk is full."""
    import numpy as np

    values = np.ascontiguousarray(array).reshape(array.shape)
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(values))
        file.write(values.reshape(-1).view(np.uint8).data)


def load_array(path: Path, *, mapped: bool = False) -> npt.NDArray[Any]:
    """Read an array of any shape from a .npy file, without pickles; `mapped`: read-only, from the disk as it is needed.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no such file. Its head goes through Python's own parser, which can raise nearly anything.
    """
    import numpy as np

    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:
        if of_the_machine(error):
            raise
        raise ValueError(f"not an array ({type(error).__name__})") from None
    return array


# --- records ----------------------------------------------------------------------------------------------------------


def write_record(path: Path, value: Mapping[str, Any], files: Sequence[str] = ()) -> None:
    """Write a JSON object with the hashes of `files` (names in its folder) and a hash of itself, atomically.

    The object gets two more keys: `files` (name -> SHA-256) and `seal` (SHA-256 of all the rest). Written last, it tells a
    complete folder.
    """
    record = {**value, "files": {name: file_hash(path.parent / name) for name in files}}
    write_json(path, {**record, _SEAL: _sealed(record)})


def read_record(path: Path, files: Sequence[str] = (), cure: str = "delete it and run its job again") -> dict[str, Any]:
    """Read what `write_record` wrote, and check it and those `files` beside it that are going to be read.

    A file that has not changed is hashed once in a process.

    Args:
        path: of the record.
        files: names in its folder.
        cure: what to do about damage, in words.

    Raises:
        DataError: the record or one of the files is missing, or is not what was written.
    """
    record = read_json(path, cure)
    seal = record.pop(_SEAL, None)
    if seal is None:
        raise DataError(f"{path}: has no seal, so it is damaged or of an earlier version; {cure}")
    if seal != _sealed(record) or not isinstance(record.get("files"), dict):
        raise DataError(f"{path}: damaged or edited (its seal does not fit); {cure}")
    for name in files:
        file = path.parent / name
        try:
            status = file.stat()
        except FileNotFoundError:
            raise DataError(f"{file}: missing beside its {path.name}; {cure}") from None
        found = _known_hash(file.absolute(), status.st_ino, status.st_size, status.st_mtime_ns)
        if found != record["files"].get(name):
            raise DataError(f"{file}: damaged (its hash is not the one in {path.name}); {cure}")
    return record


def _sealed(record: Mapping[str, Any]) -> str:
    """Hash of a JSON object as it reads after it was written: keys as text, tuples as lists."""
    return hashlib.sha256(json.dumps(json.loads(json.dumps(record)), sort_keys=True).encode()).hexdigest()


@cache
def _known_hash(path: Path, inode: int, size: int, changed: int) -> str:
    return file_hash(path)


def write_sealed(path: Path, data: bytes) -> None:
    """Write bytes behind their SHA-256, atomically: for files that no record stands beside."""
    with atomic(path) as temporary:
        temporary.write_bytes(hashlib.sha256(data).digest() + data)


def read_sealed(path: Path) -> bytes:
    """The bytes of `write_sealed`.

    Raises:
        ValueError: they are not those that were written.
    """
    content = path.read_bytes()
    digest, data = content[:32], content[32:]
    if hashlib.sha256(data).digest() != digest:
        raise ValueError("its hash does not fit")
    return data
