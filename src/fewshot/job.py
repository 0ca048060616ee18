"""The frame around every job: checked settings, a log, one line for what a user can mend."""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import Any, TextIO

from fewshot.config import parse
from fewshot.errors import SURROUNDINGS, ConfigError, FewshotError, out_of_memory
from fewshot.plan import Plan
from fewshot.provenance import PACKAGE, ROOT

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


_MEMORY = "run fewer jobs at a time, give this one more memory (mem_mb in profiles/), or lower the batch size"


class _Tee:
    """Writes to two streams; progress bars reach the log file and the terminal alike.

    A stream that cannot be written to, as when the disk is full, loses its words; the job goes on.
    """

    def __init__(self, *streams: TextIO) -> None:
        self.streams = streams

    def write(self, text: str) -> int:
        for stream in self.streams:
            with suppress(OSError):
                stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self.streams:
            with suppress(OSError):
                stream.flush()

    def isatty(self) -> bool:
        return all(stream.isatty() for stream in self.streams)


@contextmanager
def user_errors() -> Iterator[None]:
    """What a user can mend ends the process with status 1 and one line; anything else keeps its traceback."""
    try:
        yield
    except FewshotError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
    except OSError as error:
        if error.errno not in SURROUNDINGS:
            raise
        where = error.filename or f"a file under {Path.cwd()}"
        print(f"error: {where}: {error.strerror}; {SURROUNDINGS[error.errno]}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        what = " ".join(str(error).split()) or "an allocation failed"
        print(f"error: out of memory ({what[:200]}); {_MEMORY}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None


@contextmanager
def until_terminated() -> Iterator[Callable[[], bool]]:
    """A question for a long loop: was this process asked to end (SIGTERM: a queue's time limit, `timeout`, a cancelled job)?

    The loop then saves what it has and returns, and the process ends with the status of a terminated one, 143.
    """
    asked: list[int] = []
    told: list[int] = []

    def question() -> bool:
        told.extend(asked)
        return bool(told)

    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        yield question
    finally:
        signal.signal(signal.SIGTERM, before)
    if told:
        logging.getLogger(__name__).info("asked to end: the state is saved, the same command goes on from there")
        raise SystemExit(128 + signal.SIGTERM)
    _LATE.extend(asked)


_LATE: list[int] = []
"""Requests to end that came after a loop's last question, while its outputs were written: these are whole, and count."""


def end_if_asked() -> None:
    """Between two jobs of one process: end as a terminated one where the first was asked to end and was through already.

    Raises:
        SystemExit: it was.
    """
    if _LATE:
        logging.getLogger(__name__).info("asked to end: the same command goes on from here")
        raise SystemExit(128 + signal.SIGTERM)


@contextmanager
def job(config: Mapping[str, Any], log: str | None = None) -> Iterator[Plan]:
    """Run a job of a Snakemake rule: everything it says goes to the log file and to stderr.

    Args:
        config: the run's settings, as Snakemake holds them.
        log: path of the log file; its folder is made.

    Raises:
        SystemExit: after one line, for what a user can mend, such as a ConfigError of the settings, or of an environment that
            has the package of another checkout.
    """
    if log is None:
        logging.basicConfig(level=logging.INFO, format=_FORMAT, force=True)
        with user_errors():
            yield _plan(config)
        return
    with user_errors():
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        file = Path(log).open("w", encoding="utf-8")  # noqa: SIM115 - closed below, where a full disk must not count
    with _closing(file), redirect_stderr(_Tee(file, sys.stderr)):
        logging.basicConfig(level=logging.INFO, format=_FORMAT, stream=sys.stderr, force=True)
        try:
            with user_errors():
                yield _plan(config)
        except Exception:
            with suppress(OSError):  # Python itself tells it to the terminal alone, after the log is closed
                file.write(traceback.format_exc())
            raise


def _plan(config: Mapping[str, Any]) -> Plan:
    """The run's plan, by the package of the project that the job is of: an environment may hold that of another checkout.

    Raises:
        ConfigError: it does.
    """
    own = Path("src") / PACKAGE
    if own.is_dir() and not own.samefile(ROOT):
        raise ConfigError(
            f"this job's Python has the package of another checkout, {ROOT}; install this one (pip install --editable .), "
            "or give each checkout its own environments (--conda-prefix)"
        )
    return Plan(parse(config))


@contextmanager
def _closing(file: TextIO) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(OSError):
            file.close()
