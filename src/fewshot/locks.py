"""One process at a time on an output, folders to fill beside it, and the removal of what killed processes left.

What holds a file here is a lock of the kernel's, which goes with its process and that one's workers, however they end. When a
job may write is decided here, not what it writes: nothing here counts as code that made a result (`fewshot.provenance`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fewshot.errors import DataError

logger = logging.getLogger(__name__)

_LOCK = ".lock"
LINGER = 5.0
"""Seconds that the processes of a killed job are given to go, before its output counts as being worked on."""


def _locked(file: IO[str], how: int) -> bool | None:
    """Lock a file that is open for reading and writing; False: another process has it. None: on a file system without locks,
    where nothing is known.

    On NFS a shared lock wants a file that can be read, an exclusive one a file that can be written.
    """
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            return None
        raise
    return True


@contextlib.contextmanager
def _parents(out: Path) -> Iterator[None]:
    """The folders above `out`, made where they are missing; those made here go again where nothing came into them."""
    made = [folder for folder in out.parents if not folder.exists()]
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the first that is not empty ends it
            for folder in made:
                folder.rmdir()


@contextlib.contextmanager
def scratch_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`, on the same disk; gone afterwards, whatever happens.

    What a killed process left there is removed by the next one: a lock tells it from a folder that is still in use.
    """
    with _parents(out), contextlib.ExitStack() as held:
        _clear_scratch(out)
        while True:
            try:
                folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
            except FileNotFoundError:  # made by another process, which has just found nothing to put there: see `_parents`
                out.parent.mkdir(parents=True, exist_ok=True)
                continue
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            lock = held.enter_context((folder / _LOCK).open("w+"))  # both ways: see `_locked`
            _locked(lock, fcntl.LOCK_SH)
            if (folder / _LOCK).exists():  # else taken for a left one, before the lock was on it
                break
        yield folder


def _clear_scratch(out: Path) -> None:
    for left in out.parent.glob(f".{glob.escape(out.name)}.*.partial"):
        with contextlib.suppress(OSError), (left / _LOCK).open("r+") as lock:
            if _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
                _remove(left)


def _remove(left: Path) -> None:
    """Take away what a job that was killed has left, and say so."""
    if left.is_dir():
        shutil.rmtree(left)
    else:
        left.unlink(missing_ok=True)
    logger.info("removed %s, left by a job that was killed", left)


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


@contextlib.contextmanager
def only_one(out: Path) -> Iterator[float | None]:
    """Refuse to work on `out` while another process does: two pipelines in one folder, or one that outlived its pipeline.

    A worker ends a moment after the job that was killed, and still holds the lock until then: hence the wait.

    Yields:
        Since when another process was waited for (seconds since the epoch), which may have made `out`; None: for none.

    Raises:
        DataError: another process is working on it, for longer than `LINGER`.
    """
    with _parents(out), _held(out) as waited:
        yield waited


@contextlib.contextmanager
def _held(out: Path) -> Iterator[float | None]:
    path = _lock_path(out)
    start, waited = time.time(), None
    while True:
        with _opened(path) as lock:
            if _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB) is False:
                if time.time() > start + LINGER:
                    raise DataError(
                        f"{out}: another process is working on it; wait until that has ended, or end it, and run again"
                    )
                waited = start
                time.sleep(0.02)
                continue
            try:
                same = os.path.samestat(path.stat(), os.fstat(lock.fileno()))
            except FileNotFoundError:
                same = False
            if not same:
                waited = start
                continue  # the one before has just taken its file away
            try:
                yield waited
            finally:
                path.unlink(missing_ok=True)
            return


def _opened(path: Path) -> IO[str]:
    while True:
        try:
            return path.open("a+")
        except FileNotFoundError:  # another process, that had made the folder, has just taken it away
            path.parent.mkdir(parents=True, exist_ok=True)


def _lock_path(out: Path) -> Path:
    return out.with_name(f".{out.name}{_LOCK}")


def state_path(out: Path) -> Path:
    """Where a job that makes the folder `out` keeps what it needs to go on: beside it, for outputs are wiped before a retry."""
    return out.with_name(f"{out.name}.state")


def tidy(last: Path) -> None:
    """Remove what a job that was killed after its last output, `last`, left beside that folder: its state, lock and scratch.

    A newer state is of a job that makes the output again, and is kept.

    Raises:
        DataError: another process is working on it.
    """
    out = last.parent
    state = state_path(out)
    if state.exists() or _lock_path(out).exists():
        with only_one(out):  # which takes the lock's file away itself
            times = [path.stat().st_mtime_ns for path in (state, *state.glob("*")) if path.exists()]
            if times and max(times) <= last.stat().st_mtime_ns:
                _remove(state)
    _clear_scratch(out)
