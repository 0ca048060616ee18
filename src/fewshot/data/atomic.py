"""Folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

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
