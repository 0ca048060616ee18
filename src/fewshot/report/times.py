"""How long each job of a run took, and on what: from the records of the jobs, and from what Snakemake measured of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fewshot.errors import DataError
from fewshot.files import read_record
from fewshot.plan import FeaturePart, Plan
from fewshot.report.rendering import Cell, Column, Table
from fewshot.taken import adaptation_folder


@dataclass(frozen=True)
class JobTime:
    """What is known of one job; None: not recorded.

    Attributes:
        seconds: of work. A training's and an adaptation's own count, which goes on where a killed job was taken up; of other
            jobs the time that Snakemake measured, start of Python included.
        memory: most that was resident, in MiB, as Snakemake measured it.
    """

    job: str
    what: str
    seconds: float | None
    memory: float | None
    threads: int | None
    device: str


def times_table(found: Sequence[JobTime]) -> Table:
    """A row a job, in the order of the pipeline, and their sum."""
    rows: list[list[Cell]] = [
        [time.job, time.what, _digits(time.seconds, 1), _digits(time.memory, 0), _digits(time.threads, 0), time.device]
        for time in found
    ]
    known = [time.seconds for time in found if time.seconds is not None]
    caption = f"{len(known)} jobs with a known time: {duration(sum(known))} of work. Jobs may have run side by side."
    if len(known) < len(found):
        caption += f" {len(found) - len(known)} jobs left no time: they ran outside Snakemake, or on another machine."
    numbers = [Column(name, right=True) for name in ("seconds", "memory (MiB)", "threads")]
    return Table("times", "Run times", caption, [Column("job"), Column("of"), *numbers, Column("device")], rows)


def _digits(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def job_times(plan: Plan) -> Iterator[JobTime]:
    """The jobs that make images, networks, features and accuracies.

    Raises:
        DataError: the record of a job is missing or damaged.
    """
    yield _measured(plan, "prepare", plan.store, plan.store)
    for network in plan.networks:
        name = f"{network.name}, seed {network.seed}"
        where: tuple[str, ...] = (plan.store, network.key, f"seed{network.seed}")
        yield _measured(plan, "train", name, *where, record=plan.network_dir(network) / "model.json")
        for part in plan.feature_parts(network):
            yield _measured(plan, "extract", f"{name}{_of_part(part)}", *where, part.name)
    for job in plan.adaptations:
        name = f"{job.network.name} ({job.name}), {job.episodes.shot}-shot, {job.tasks:,} tasks, seed {job.network.seed}"
        where = (plan.store, job.network.key, f"seed{job.network.seed}", job.key, f"{job.episodes.key}-first{job.tasks}")
        rule = "adapt" if job.settings.gives == "features" else "extend"
        yield _measured(plan, rule, name, *where, record=adaptation_folder(plan, job) / "adapt.json")
    for evaluation in plan.evaluations:
        name = f"{evaluation.network.name} ({evaluation.adaptation}), seed {evaluation.network.seed}"
        where = plan.evaluation_dir(evaluation).relative_to(plan.results / "evaluations").parts
        yield _measured(plan, "evaluate", name, plan.config.run, *where)


def _of_part(part: FeaturePart) -> str:
    """What features are of, where not of the evaluated images as they are."""
    if part.of == "trained":
        return ", images trained on"
    return f", {part.name.removeprefix(f'{part.of}-')}" if part.views else ""


def _measured(plan: Plan, rule: str, what: str, *names: str, record: Path | None = None) -> JobTime:
    told: dict[str, Any] = {} if record is None else read_record(record)
    by_snakemake = _benchmark(plan.benchmark_path(rule, *names))
    seconds = told.get("seconds", by_snakemake.get("s"))
    return JobTime(rule, what, seconds, by_snakemake.get("max_rss"), told.get("threads"), str(told.get("device", "")))


def _benchmark(path: Path) -> dict[str, float]:
    """The numbers of a benchmark file's last line: s (seconds), max_rss (MiB) and others; empty where there is no file."""
    if not path.exists():
        return {}
    try:
        values = pd.read_csv(path, sep="\t", na_values=["-"]).iloc[-1].to_dict()
        return {str(name): float(value) for name, value in values.items() if name in ("s", "max_rss") and value == value}  # noqa: PLR0124 - not NaN
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path}: not a benchmark file of Snakemake ({type(error).__name__}); delete it") from None


def duration(seconds: float) -> str:
    """Seconds in words: `42 s`, `3 min 05 s`, `2 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
