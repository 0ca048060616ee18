"""Files and folders that appear whole or not at all, and small JSON records."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fewshot.errors import DataError

_LOCK = ".lock"


@contextlib.contextmanager
def scratch_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`, on the same disk; gone afterwards, whatever happens.

    What a killed process left there is removed by the next one: a lock tells it from a folder that is still in use.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    for left in out.parent.glob(f".{out.name}.*.partial"):
        with contextlib.suppress(OSError), (left / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def replacing_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, put in the place of `out` when the block ends without an error.

    A folder that stood there before is replaced then, and kept when the block fails.
    """
    with scratch_folder(out) as scratch:
        folder = scratch / "new"
        folder.mkdir()
        yield folder
        old = scratch / "old"
        stood = out.exists()
        if stood:
            out.replace(old)
        try:
            folder.replace(out)
        except BaseException:
            if stood:
                old.replace(out)
            raise


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it takes the final name only when the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:  # the bytes are on the disk before the name is
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object, indented, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: the file is missing or is not a JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"{path}: missing; run the job that makes it") from None
    except (ValueError, UnicodeDecodeError):
        raise DataError(f"{path}: damaged (not JSON); delete it and run its job again") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: damaged (not a JSON object); delete it and run its job again")
    return value
