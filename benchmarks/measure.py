"""Timing, the machine in words, and the rows of the report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from fewshot import provenance
from fewshot.files import atomic

CALLS = {"cpu": 1, "cuda": 10}
"""Of what is timed, between two looks at the clock."""


@dataclass(frozen=True)
class Options:
    """What all parts share.

    Attributes:
        device: where to compute.
        seconds: to spend on each measurement, about.
        tasks: evaluated in one call.
        images: of the test classes.
        out: folder of the report.
    """

    device: torch.device
    seconds: float
    tasks: int
    images: int
    out: Path


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        part: of the benchmark.
        setting: what was measured.
        rate: in units of `unit`; none: this was left out.
        unit: of the rate.
        plain: rate of the plain form in the same run; none: there is none, or it is this row.
        note: what else is to be said.
        processor_ratio: processor time of the plain form over that of this, for as much; on a CPU, where a machine that others
            use at the same time distorts it less than the ratio of the rates.
    """

    part: str
    setting: str
    rate: float | None
    unit: str
    plain: float | None = None
    note: str = ""
    processor_ratio: float | None = None

    @property
    def ratio(self) -> float | None:
        """Rate over that of the plain form."""
        return self.rate / self.plain if self.plain and self.rate else None


@dataclass(frozen=True)
class Growth:
    """A point of a curve: seconds that `what` takes when `factor` has a value and all others their usual ones."""

    part: str
    what: str
    factor: str
    value: int
    seconds: float


@dataclass(frozen=True)
class Taken:
    """Seconds of a call: on the clock, and of all its threads together (none on CUDA)."""

    clock: float
    processor: float | None

    def ratio(self, units: float, slow: Taken, slow_units: float) -> float | None:
        """Processor time of `slow` over this, each for one of its units."""
        if self.processor is None or slow.processor is None:
            return None
        return (slow.processor / slow_units) / (self.processor / units)


def seconds(function: Callable[[], object], options: Options) -> float:
    """Seconds of a call on the clock: the best of as many as fit the time, after one to warm up."""
    return together([function], options)[0].clock


def together(functions: Sequence[Callable[[], object]], options: Options) -> list[Taken]:
    """Best times of several functions taken in turn, so that what else the machine does meets them alike."""
    times: list[list[tuple[float, float]]] = [[] for _ in functions]
    for function in functions:
        _timed(function, options.device)
    started = time.perf_counter()
    while len(times[0]) < 2 or time.perf_counter() - started < options.seconds * len(functions):
        for function, taken in zip(functions, times, strict=True):
            taken.append(_timed(function, options.device))
    on_cpu = options.device.type == "cpu"
    return [Taken(min(c for c, _ in taken), min(p for _, p in taken) if on_cpu else None) for taken in times]


def _timed(function: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Of one call; on CUDA the mean of a few, for which the device is waited once, as a training does not wait at all."""
    calls = CALLS[device.type]
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(calls):
        function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - clock) / calls, (time.process_time() - processor) / calls


def matmul_rate(options: Options, dtype: torch.dtype = torch.float32) -> float:
    """Floating-point operations a second of a large matrix product, by the library that torch multiplies with."""
    size = 8192 if options.device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=options.device).to(dtype) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, options)


def machine(device: torch.device) -> dict[str, Any]:
    """Hardware, versions, threads, load, date, revision."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": provenance.device_words(device),
        "cores of this process": len(allowed),
        "threads": torch.get_num_threads(),
        "load average": _load(),
        "revision": provenance.git_revision(),
        **provenance.versions(),
    }


def _load() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


def save(out: Path, part: str, rows: list[Row], growth: list[Growth], about: dict[str, Any]) -> None:
    """Write a part's rows, curves and machine as csv, each atomically."""
    tables = {
        "rows": pd.DataFrame(
            [{**asdict(row), "ratio": row.ratio} for row in rows], columns=[*(field.name for field in fields(Row)), "ratio"]
        ),
        "growth": pd.DataFrame([asdict(point) for point in growth], columns=[field.name for field in fields(Growth)]),
        "machine": pd.DataFrame([{"part": part, **about, "load average at the end": _load()}]),
    }
    for name, table in tables.items():
        with atomic(out / f"{part}.{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
