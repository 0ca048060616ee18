"""What the files of a run say about each job: settings, numbers over time, origin. `tracking` carries it to MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewshot.config import content_hash
from fewshot.errors import DataError
from fewshot.files import read_record
from fewshot.plan import AdaptationJob, EvaluationJob, NetworkJob, Plan
from fewshot.taken import adaptation_folder, evaluation_folder

Metric = tuple[str, float, int]
"""Name, value, step."""


@dataclass(frozen=True)
class Record:
    """What one MLflow run is to hold: a job's settings, numbers, origin and small files."""

    name: str
    kind: str
    run_key: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    artifacts: tuple[Path, ...] = ()

    @property
    def span(self) -> tuple[int, int] | None:
        """When the job began and ended, milliseconds: the time of its last file, less its seconds; None: it has no files.

        What tells of no seconds, as an evaluation, began when it ended.
        """
        if not self.artifacts:
            return None
        end = int(max(path.stat().st_mtime for path in self.artifacts) * 1000)
        return end - int(1000 * next((value for name, value, _ in self.metrics if name == "seconds"), 0.0)), end


def training_record(plan: Plan, job: NetworkJob) -> Record:
    """The training of one network: settings, curves and what was kept."""
    folder = plan.network_dir(job)
    model = read_record(folder / "model.json", ("metrics.jsonl",))
    metrics = [
        *curve(folder / "metrics.jsonl", "iteration"),
        *_numbers(model, ("parameters", "seconds"), model.get("iteration")),
    ]
    kept = model.get("validation") or {}
    metrics += [(f"kept_validation_{name}", kept[name], 0) for name in ("accuracy", "ci95") if kept.get(name) is not None]
    return Record(
        name=f"train {job.name} seed{job.seed}",
        kind="training",
        run_key=network_run_key(job, model["data_hash"]),
        parameters=flattened({"network": model["network"], "seed": model["seed"], "image_size": model["image_size"]}),
        tags=_origin(plan, model),
        metrics=tuple(metrics),
        artifacts=(folder / "model.json", folder / "metrics.jsonl"),
    )


def adaptation_record(plan: Plan, job: AdaptationJob) -> Record:
    """One stage-2 method on one network and episode file."""
    folder = adaptation_folder(plan, job)
    adapted = read_record(folder / "adapt.json", ("metrics.jsonl",))
    model = read_record(plan.network_dir(job.network) / "model.json")
    settings = adapted["settings"]
    identity = {
        "network": network_run_key(job.network, model["data_hash"]),
        "settings": job.settings.identity(),
        "episodes": job.episodes.key,
        "tasks": job.tasks,
    }
    return Record(
        name=f"adapt {job.network.name} {job.name} {job.episodes.shot}shot seed{job.network.seed}",
        kind="adaptation",
        run_key=content_hash(identity),
        parameters=flattened({"adaptation": settings, "episodes": job.episodes.key, "tasks": job.tasks}),
        tags=_origin(plan, {**adapted, "data_hash": model["data_hash"]}),
        metrics=(
            *curve(folder / "metrics.jsonl", "epoch"),
            *_numbers(adapted, ("seconds", "loss_first", "loss_last", "support_share", "query_share"), 0),
        ),
        artifacts=(folder / "adapt.json", folder / "metrics.jsonl"),
    )


def evaluation_records(plan: Plan, job: EvaluationJob) -> Iterator[Record]:
    """One record for each evaluated setting: mean accuracy and 95 % interval of each population, in percent."""
    from fewshot import accuracies
    from fewshot.intervals import interval, known

    folder = evaluation_folder(plan, job)
    told = read_record(folder / "settings.json", [f"{setting.key}.parquet" for setting in job.settings])
    shared = {name: told[name] for name in ("dataset", "network_key", "seed", "adaptation", "way", "queries")}
    for row in told["settings"]:
        table = folder / f"{row['key']}.parquet"
        metrics: list[Metric] = []
        for population, values in accuracies.load(table, f"delete {folder} and run again").items():
            mean, half = interval(values)
            numbers = known(**{f"{population}_accuracy": mean, f"{population}_ci95": half})
            metrics += [(name, value, 0) for name, value in numbers.items()]
        yield Record(
            name=f"evaluate {job.network.name} {job.adaptation} {row['key']} seed{job.network.seed}",
            kind="evaluation",
            run_key=row["run_key"],
            parameters=flattened({**shared, **{name: row[name] for name in row if name != "run_key"}}),
            tags=_origin(plan, told),
            metrics=tuple(metrics),
            artifacts=(folder / "settings.json", table),
        )


def network_run_key(job: NetworkJob, data_hash: str) -> str:
    """Hash of what a training depends on: settings, data, seed and teacher. Settings that a later version adds change none."""
    teacher = {"teacher": job.teacher.key} if job.teacher else {}
    return content_hash({"network": job.settings.identity(), **teacher, "data_hash": data_hash, "seed": job.seed})


def curve(path: Path, step: str) -> Iterator[Metric]:
    """The numbers of a metrics.jsonl, named as there, by the step in the field `step`.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        for line in path.read_text().splitlines():
            values = json.loads(line)
            at = int(values.pop(step))
            yield from _numbers(values, tuple(values), at)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path}: missing or damaged; delete its folder and run the pipeline again") from None


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as MLflow parameters: `training.optimizer.lr` -> `0.1`; lists as one text."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _numbers(values: Mapping[str, Any], names: tuple[str, ...], step: int | None) -> Iterator[Metric]:
    for name in names:
        if isinstance(values.get(name), int | float):
            yield name, float(values[name]), step or 0


def _origin(plan: Plan, told: Mapping[str, Any]) -> dict[str, str]:
    known = {name: told.get(name) for name in ("git_revision", "data_hash", "device")}
    version = told.get("versions") or {}
    known |= {f"version.{name}": value for name, value in version.items()}
    known |= {"config_hash": content_hash(plan.config.as_dict()), "dataset": plan.config.dataset.name}
    return {name: str(value) for name, value in known.items() if value is not None}
