"""Reading what the jobs of a run left behind, and the numbers made of it: means, intervals, paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import ValidationError

from fewshot.config import AdaptationSettings, NetworkSettings
from fewshot.data.store import open_store
from fewshot.errors import DataError
from fewshot.evaluation import interval
from fewshot.files import read_json
from fewshot.plan import AS_TRAINED, EvaluatedSetting, EvaluationJob, Plan
from fewshot.report.papers import Facts, backbone_name, deviations, method_name
from fewshot.report.published import Number, Published

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NetworkRecord:
    """A trained network as its model.json has it."""

    name: str
    seed: int
    settings: NetworkSettings
    info: dict[str, Any]


@dataclass(frozen=True)
class StoreRecord:
    """What the report says of an image store; the images are the fewest and the most of a base class."""

    dataset: str
    image_size: int
    trained_images: tuple[int, int]
    held_out_images: tuple[int, int]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SettingRecord:
    """One evaluated setting of one network with one seed.

    Attributes:
        evaluated: poolings, shot, populations.
        tasks: number of tasks.
        accuracies: population -> accuracy of each task in percent (tasks,).
        episodes: hash of the tasks.
        run_key: tag of the job that made it.
    """

    network: NetworkRecord
    adaptation: str
    adaptation_settings: AdaptationSettings | None
    evaluated: EvaluatedSetting
    accuracies: dict[str, Floats]
    way: int
    queries: int
    episodes: str
    run_key: str

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return self.evaluated.tasks


def read_network(plan: Plan, job_name: str, seed: int) -> NetworkRecord:
    """The record of a trained network.

    Raises:
        DataError: model.json is missing, damaged or of another version.
    """
    path = plan.network_dir(plan.network(job_name, seed)) / "model.json"
    info = read_json(path)
    try:
        return NetworkRecord(job_name, seed, NetworkSettings.model_validate(info["network"]), info)
    except (KeyError, ValidationError):
        raise DataError(f"{path}: holds no network settings that this version reads; train the network again") from None


def read_store(plan: Plan) -> StoreRecord:
    """The record of the run's image store.

    Raises:
        DataError: the store is missing or damaged.
    """
    store = open_store(plan.store_dir)
    counts = []
    for part in ("base", "held_out"):
        images = np.bincount(store.labels[store.rows(part)], minlength=store.num_base)[: store.num_base]
        counts.append((int(images.min()), int(images.max())))
    return StoreRecord(plan.config.dataset.name, store.image_size, counts[0], counts[1], tuple(store.meta.get("notes", ())))


def read_settings(plan: Plan) -> list[SettingRecord]:
    """Every evaluated setting of the run, in the plan's order.

    Raises:
        DataError: a file is missing, damaged, or does not hold what the plan asks for.
    """
    return [record for job in plan.evaluations for record in _read_evaluation(plan, job)]


def _read_evaluation(plan: Plan, job: EvaluationJob) -> list[SettingRecord]:
    folder = plan.evaluation_dir(job)
    path = folder / "settings.json"
    info = read_json(path)
    network = read_network(plan, job.network.name, job.network.seed)
    adaptation = None if job.adaptation == AS_TRAINED else plan.config.stage2[job.adaptation]
    records = []
    try:
        written = {setting["key"]: setting for setting in info["settings"]}
        for evaluated in job.settings:
            if evaluated.key not in written:
                raise DataError(f"{path}: has no setting {evaluated.key}; run this evaluation again")
            accuracies = _read_tasks(folder / f"{evaluated.key}.parquet", evaluated)
            episodes = str(info["episodes"][str(evaluated.shot)])
            run_key = str(written[evaluated.key]["run_key"])
            way, queries = int(info["way"]), int(info["queries"])
            records.append(
                SettingRecord(network, job.adaptation, adaptation, evaluated, accuracies, way, queries, episodes, run_key)
            )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged ({type(error).__name__}: {error}); run this evaluation again") from None
    return records


def _read_tasks(path: Path, evaluated: EvaluatedSetting) -> dict[str, Floats]:
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise DataError(f"{path}: missing; run this evaluation again") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable parquet file ({type(error).__name__}); run this evaluation again") from None
    missing = [name for name in ("task", *evaluated.populations) if name not in table.columns]
    if missing:
        raise DataError(f"{path}: has no column {', '.join(missing)}; run this evaluation again")
    if len(table) != evaluated.tasks or (table["task"].to_numpy() != np.arange(evaluated.tasks)).any():
        raise DataError(f"{path}: holds {len(table):,} tasks, not the first {evaluated.tasks:,}; run this evaluation again")
    accuracies: dict[str, Floats] = {name: table[name].to_numpy(np.float64) for name in evaluated.populations}
    for name, values in accuracies.items():
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 100):
            raise DataError(f"{path}: column {name} is not all percent (0 to 100); run this evaluation again")
    return accuracies


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
                store.dataset, store.image_size, store.trained_images, store.held_out_images, network,
                record.adaptation_settings, evaluated.tasks, record.queries, population, config.evaluation.part,
                store.notes, config.deviations,
            )  # fmt: skip
            number = None
            if config.evaluation.part == "test":  # what is chosen on the validation classes has no published counterpart
                number = published.find(
                    store.dataset, network, record.adaptation_settings, way=record.way, shot=evaluated.shot,
                    population=population, support_pooling=evaluated.support_pooling,
                    query_pooling=evaluated.query_pooling,
                )  # fmt: skip
            label = methods[record.network.name, record.adaptation]
            mean, ci95 = mean_interval(accuracies)
            rows.append(Row(record, population, label, mean, ci95, number, tuple(deviations(facts))))
    return rows


def method_labels(records: Sequence[SettingRecord]) -> dict[tuple[str, str], str]:
    """(network, adaptation) -> the paper's name of the method, and the config's names where two would read alike."""
    alike: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for record in records:
        name = method_name(record.network.settings, record.adaptation_settings)
        key = (backbone_name(record.network.settings), name)
        alike.setdefault(key, set()).add((record.network.name, record.adaptation))
    labels = {}
    for (_, name), places in alike.items():
        several = [len({place[i] for place in places}) > 1 for i in (0, 1)]
        for place in places:
            extra = [word for word, needed in zip(place, several, strict=True) if needed]
            labels[place] = f"{name} [{', '.join(extra)}]" if extra else name
    return labels


# --- statistics ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paired:
    """A difference of means over the tasks that two settings share, in points, with half its 95 % interval."""

    difference: float
    ci95: float
    tasks: int

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return abs(self.difference) > self.ci95


def mean_interval(accuracies: Floats) -> tuple[float, float]:
    """Mean over tasks and half its 95 % interval, 1.96 s / sqrt(tasks) with the sample standard deviation s.

    The interval is NaN for a single task, which tells nothing of the spread.
    """
    mean, ci95 = interval(accuracies)
    return mean, ci95 if len(accuracies) > 1 else math.nan


def paired(first: Floats, second: Floats) -> Paired:
    """`second` less `first` over their common tasks, the first n of both (task by task, sample standard deviation)."""
    count = min(len(first), len(second))
    return Paired(*mean_interval(second[:count] - first[:count]), count)


_T_975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448,
    2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484,
    2.0452, 2.0423,
)  # fmt: skip
"""Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom."""


def t_quantile(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t with `freedom` >= 1 degrees of freedom (four digits)."""
    if freedom <= len(_T_975):
        return _T_975[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def seed_interval(means: Sequence[float]) -> tuple[float, float | None]:
    """Mean over seeds and half its 95 % interval by Student's t; no interval for one seed."""
    values = np.asarray(means, dtype=np.float64)
    if len(values) < 2:
        return float(values.mean()), None
    half = t_quantile(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()), half
