"""Reading what the jobs of a run left behind, each checked to be of this run, and the rows of the report made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import ValidationError

from fewshot.accuracies import load
from fewshot.config import AS_TRAINED, AdaptationSettings, NetworkSettings
from fewshot.data.store import open_store
from fewshot.errors import DataError
from fewshot.files import read_record
from fewshot.intervals import Floats, interval
from fewshot.plan import EvaluatedSetting, EvaluationJob, NetworkJob, Plan
from fewshot.predictions import CLASS_MEAN
from fewshot.report.deviations import deviations
from fewshot.report.papers import backbone_name, method_name
from fewshot.report.published import Number, Published
from fewshot.report.setting import Facts
from fewshot.taken import evaluation_folder


@dataclass(frozen=True)
class NetworkRecord:
    """A trained network as its model.json has it.

    `scale`: tau of the kept state as its training logged it (eq. 7 and 14); None for a linear classifier.
    """

    name: str
    seed: int
    settings: NetworkSettings
    info: dict[str, Any]
    scale: float | None


@dataclass(frozen=True)
class StoreRecord:
    """What the report says of an image store: fewest and most images of a base class; numbers of base and test classes."""

    dataset: str
    image_size: int
    trained_images: tuple[int, int]
    held_out_images: tuple[int, int]
    classes: tuple[int, int]
    notes: tuple[str, ...]
    data_hash: str


@dataclass(frozen=True)
class SettingRecord:
    """One evaluated setting of one network with one seed.

    Attributes:
        evaluated: poolings, shot, populations.
        accuracies: population -> accuracy of each task in percent (tasks,).
        episodes: hash of the tasks.
        class_means: population -> mean over classes of each class's accuracy, of each task, where it was measured.
        run_key: tag of the job that made it.
        adapted_in: precision in which stage 2 trained backbones; None: it trained none, or did not record it.
    """

    network: NetworkRecord
    adaptation: str
    adaptation_settings: AdaptationSettings | None
    evaluated: EvaluatedSetting
    accuracies: dict[str, Floats]
    way: int
    queries: int | Literal["all", "remaining"]
    episodes: str
    run_key: str
    class_means: dict[str, Floats] = field(default_factory=dict)
    adapted_in: str | None = None

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return self.evaluated.tasks


def read_network(plan: Plan, job: NetworkJob, store: StoreRecord) -> NetworkRecord:
    """The record of a trained network.

    Raises:
        DataError: model.json is missing, damaged or of another version, or the network was trained on other images.
    """
    folder = plan.network_dir(job)
    path = folder / "model.json"
    info = read_record(path, ("metrics.jsonl",), "train the network again")
    try:
        settings = NetworkSettings.model_validate(info["network"])
    except (KeyError, ValidationError):
        raise DataError(f"{path}: holds no network settings that this version reads; train the network again") from None
    if info.get("data_hash") != store.data_hash:
        raise DataError(f"{folder}: trained on other images than those of {plan.store_dir}; train the network again")
    scale = _kept_scale(folder / "metrics.jsonl", info) if settings.classifier.kind == "cosine" else None
    return NetworkRecord(job.name, job.seed, settings, info, scale)


def _kept_scale(path: Path, info: dict[str, Any]) -> float | None:
    """The scale of the last training line up to the iteration that was kept; None where there is no such line."""
    lines = read_lines(path)
    if not {"iteration", "scale"} <= set(lines.columns):
        return None
    logged = lines.loc[lines["scale"].notna() & (lines["iteration"] <= info["iteration"]), "scale"]
    return None if logged.empty else float(logged.iloc[-1])


def read_store(plan: Plan) -> StoreRecord:
    """The record of the run's image store.

    Raises:
        DataError: the store is missing or damaged.
    """
    store = open_store(plan.store_dir, images=False)
    counts = []
    for part in ("base", "held_out"):
        images = np.bincount(store.labels[store.rows(part)], minlength=store.num_base)[: store.num_base]
        counts.append((int(images.min()), int(images.max())))
    classes = store.num_base, int((store.classes["part"] == "test").sum())
    notes = tuple(store.meta.get("notes", ()))
    return StoreRecord(plan.config.dataset.name, store.image_size, counts[0], counts[1], classes, notes, store.data_hash)


def read_settings(plan: Plan, store: StoreRecord) -> list[SettingRecord]:
    """Every evaluated setting of the run, in the plan's order.

    Args:
        plan: of the run.
        store: of the run; nothing that was made with other images is read.

    Raises:
        DataError: a file is missing, damaged, does not hold what the plan asks for, or was made with other settings.
    """
    return [record for job in plan.evaluations for record in _read_evaluation(plan, job, store)]


def _read_evaluation(plan: Plan, job: EvaluationJob, store: StoreRecord) -> list[SettingRecord]:
    folder = evaluation_folder(plan, job)
    path = folder / "settings.json"
    info = read_record(path, cure="run this evaluation again")
    network = read_network(plan, job.network, store)
    adaptation = None if job.adaptation == AS_TRAINED else plan.config.stage2[job.adaptation]
    records = []
    try:
        written = {setting["key"]: setting for setting in info["settings"]}
        for evaluated in job.settings:
            if evaluated.key not in written:
                raise DataError(f"{path}: has no setting {evaluated.key}; run this evaluation again")
            other = _difference(plan, job, evaluated, info, network, store)
            if other:
                raise DataError(f"{folder}: evaluated with other settings ({other}); evaluate again")
            table = f"{evaluated.key}.parquet"
            read_record(path, (table,), "run this evaluation again")
            found = _read_tasks(folder / table, evaluated)
            names: tuple[str, ...] = evaluated.populations
            accuracies = {name: found[name] for name in names}
            means = {name: found[name + CLASS_MEAN] for name in names if name + CLASS_MEAN in found}
            episodes = str(info["episodes"][str(evaluated.shot)])
            run_key = str(written[evaluated.key]["run_key"])
            way, queries = int(info["way"]), info["queries"]
            records.append(
                SettingRecord(
                    network, job.adaptation, adaptation, evaluated, accuracies, way, queries, episodes, run_key, means,
                    adapted_in=(info.get("adapted_in") or {}).get(str(evaluated.shot)),
                )
            )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged ({type(error).__name__}: {error}); run this evaluation again") from None
    return records


def _difference(
    plan: Plan,
    job: EvaluationJob,
    evaluated: EvaluatedSetting,
    info: dict[str, Any],
    network: NetworkRecord,
    store: StoreRecord,
) -> str:
    """What tells an evaluated setting from the plan's, in words; empty where it is the plan's."""
    if info.get("network_key") != job.network.key:
        return f"of network {info.get('network_key')}"
    if info.get("model_sha256") != network.info.get("sha256"):
        return f"another training of {job.network.name}"
    if info.get("data_hash") != store.data_hash:
        return "other images"
    written = next(setting for setting in info["settings"] if setting["key"] == evaluated.key)
    wanted = json.loads(json.dumps(plan.identity(job, evaluated)))  # as it reads after it was written
    return "" if written.get("identity") == wanted else evaluated.key


def _read_tasks(path: Path, evaluated: EvaluatedSetting) -> dict[str, Floats]:
    cure = "run this evaluation again"
    found = load(path, cure)
    missing = [name for name in evaluated.populations if name not in found]
    if missing:
        raise DataError(f"{path}: has no column {', '.join(missing)}; {cure}")
    for values in found.values():
        if len(values) != evaluated.tasks:
            raise DataError(f"{path}: holds {len(values):,} tasks, not {evaluated.tasks:,}; {cure}")
    return found


def read_lines(path: Path) -> pd.DataFrame:
    """A metrics.jsonl file as a table; empty where the file has no lines.

    Raises:
        DataError: the file is missing or is not JSON lines.
    """
    try:
        return pd.read_json(path, lines=True) if path.stat().st_size else pd.DataFrame()
    except FileNotFoundError:
        raise DataError(f"{path}: missing; train the network again") from None
    except ValueError:
        raise DataError(f"{path}: damaged (not JSON lines); train the network again") from None


# --- rows of the report ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A row of summary.csv: one setting, population and seed. Accuracy and interval in percent."""

    record: SettingRecord
    population: str
    method: str
    accuracy: float
    ci95: float
    published: Number | None
    deviations: tuple[str, ...]

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Network, adaptation, setting key, population: what the seeds of one setting share."""
        return self.record.network.name, self.record.adaptation, self.record.evaluated.key, self.population


def make_rows(plan: Plan, records: Sequence[SettingRecord], store: StoreRecord, published: Published) -> list[Row]:
    """One row a setting, population and seed, in the plan's order, beside the paper's number where it has one."""
    config, methods, rows = plan.config, method_labels(records), []
    for record in records:
        evaluated, network = record.evaluated, record.network.settings
        for population, accuracies in record.accuracies.items():
            facts = Facts(
                dataset=store.dataset, image_size=store.image_size, trained_images=store.trained_images,
                held_out_images=store.held_out_images, classes=store.classes, network=network,
                adaptation=record.adaptation_settings, tasks=evaluated.tasks, queries=record.queries, population=population,
                part=config.evaluation.part, notes=store.notes, config_deviations=config.deviations,
                dense_queries=evaluated.query_pooling == "dense", scale=config.evaluation.scale,
                done=record.network.info.get("done"), precision=record.network.info.get("precision"),
                adapted_in=record.adapted_in,
            )  # fmt: skip
            number = None
            if config.evaluation.part == "test":  # what is chosen on the validation classes has no published counterpart
                number = published.find(
                    store.dataset, network, record.adaptation_settings, image_size=store.image_size, way=record.way,
                    shot=evaluated.shot, population=population, support_pooling=evaluated.support_pooling,
                    query_pooling=evaluated.query_pooling,
                )  # fmt: skip
            label = methods[record.network.name, record.adaptation]
            mean, ci95 = interval(accuracies)
            rows.append(Row(record, population, label, mean, ci95, number, tuple(deviations(facts))))
    return rows


def method_labels(records: Sequence[SettingRecord]) -> dict[tuple[str, str], str]:
    """(network, adaptation) -> the paper's name of the method, and the config's names where two would read alike.

    An adaptation that bears its name on one backbone bears it on all.
    """
    alike: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for record in records:
        name = method_name(record.network.settings, record.adaptation_settings)
        key = (backbone_name(record.network.settings), name)
        alike.setdefault(key, set()).add((record.network.name, record.adaptation))
    several = {key: [len({place[i] for place in places}) > 1 for i in (0, 1)] for key, places in alike.items()}
    told = {(key[1], adaptation) for key, places in alike.items() if several[key][1] for _, adaptation in places}
    labels = {}
    for key, places in alike.items():
        for network, adaptation in places:
            extra = [network] * several[key][0] + [adaptation] * ((key[1], adaptation) in told)
            labels[network, adaptation] = f"{key[1]} [{', '.join(extra)}]" if extra else key[1]
    return labels
