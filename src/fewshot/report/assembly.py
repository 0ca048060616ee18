"""The run's results as files: summary.csv, paired.csv, seeds.csv, metrics.json and the tables.

Every number comes from the evaluation folders, and is written with fixed digits: the same results give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from fewshot.config import AS_TRAINED
from fewshot.files import atomic, write_json
from fewshot.plan import Plan
from fewshot.report.papers import backbone_name, backbone_title, stage1_name, stage2_name
from fewshot.report.published import PUBLISHED, Published, load_published
from fewshot.report.rendering import Accuracy, Cell, Column, Table, write_tables
from fewshot.report.results import (
    NetworkRecord,
    Row,
    StoreRecord,
    make_rows,
    read_network,
    read_settings,
    read_store,
)
from fewshot.report.statistics import paired, seed_interval
from fewshot.report.tables import accuracy_tables

SUMMARY_COLUMNS = (
    "run", "dataset", "method", "backbone", "stage1", "stage2", "way", "shot", "queries", "tasks", "population",
    "support_pooling", "query_pooling", "seed", "accuracy", "ci95", "published", "published_ci95", "published_source",
    "deviations", "run_key",
)  # fmt: skip
"""Columns of summary.csv; accuracies and intervals in percent."""

PAIRED_COLUMNS = (
    "run", "dataset", "way", "shot", "population", "seed", "first_network", "first_adaptation", "first_support_pooling",
    "first_query_pooling", "second_network", "second_adaptation", "second_support_pooling", "second_query_pooling",
    "difference", "ci95", "tasks", "excludes_zero",
)  # fmt: skip
"""Columns of paired.csv; `difference` is the second setting less the first, in points, over their common tasks."""

SEEDS_COLUMNS = (
    *(name for name in SUMMARY_COLUMNS[: SUMMARY_COLUMNS.index("seed")]),
    "seeds", "accuracy", "ci95_seeds", "ci95_tasks", "published", "published_ci95", "published_source", "deviations",
)  # fmt: skip
"""Columns of seeds.csv; `ci95_seeds`: Student's t over seeds; `ci95_tasks`: mean of the seeds' intervals over tasks."""

DIGITS = "%.4f"


def assemble(plan: Plan, published: Path = PUBLISHED) -> None:
    """Write summary.csv, paired.csv, seeds.csv (for a single seed its header), metrics.json, tables/ into results/<run>.

    Args:
        plan: of the run; all its evaluations have been run.
        published: the file of published numbers.

    Raises:
        DataError: a result, a network, the image store or the published numbers are missing or damaged, or a result or a
            network was made with other settings or images.
    """
    table = load_published(published)
    numbers, store = Published(table), read_store(plan)
    rows = make_rows(plan, read_settings(plan, store), store, numbers)
    for name, found in result_tables(plan, rows).items():
        write_csv(plan.results / name, found)
    write_json(plan.results / "metrics.json", metrics(rows))
    networks = [read_network(plan, job, store) for job in plan.networks]
    tables = [*accuracy_tables(plan, rows, table), network_table(networks), deviation_table(rows, store)]
    write_tables(plan.results / "tables", plan.config, tables)


def result_tables(plan: Plan, rows: Sequence[Row]) -> dict[str, pd.DataFrame]:
    """The run's numbers, a table a file: summary.csv, paired.csv, seeds.csv."""
    return {
        "summary.csv": summary(plan, rows),
        "paired.csv": paired_differences(plan, rows),
        "seeds.csv": over_seeds(plan, rows),
    }


def csv_bytes(table: pd.DataFrame) -> bytes:
    """A table as a csv file holds it: numbers with four digits, nothing for what is not there."""
    return table.to_csv(index=False, float_format=DIGITS, lineterminator="\n").encode()


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically, as `csv_bytes` has it."""
    with atomic(path) as temporary:
        temporary.write_bytes(csv_bytes(table))


def _setting(plan: Plan, row: Row) -> dict[str, Any]:
    """What summary.csv and seeds.csv say of a setting, seed and numbers apart."""
    record = row.record
    network, evaluated = record.network.settings, record.evaluated
    return {
        "run": plan.config.run,
        "dataset": plan.config.dataset.name,
        "method": row.method,
        "backbone": backbone_name(network),
        "stage1": stage1_name(network),
        "stage2": stage2_name(record.adaptation_settings),
        "way": record.way,
        "shot": evaluated.shot,
        "queries": record.queries,
        "tasks": evaluated.tasks,
        "population": row.population,
        "support_pooling": evaluated.support_pooling,
        "query_pooling": evaluated.query_pooling,
        "published": None if row.published is None else row.published.value,
        "published_ci95": None if row.published is None else row.published.ci95,
        "published_source": "" if row.published is None else row.published.source,
        "deviations": "; ".join(row.deviations),
    }


def summary(plan: Plan, rows: Sequence[Row]) -> pd.DataFrame:
    """summary.csv: one row an evaluated setting, population and seed."""
    found = [
        {
            **_setting(plan, row),
            "seed": row.record.network.seed,
            "accuracy": row.accuracy,
            "ci95": row.ci95,
            "run_key": row.record.run_key,
        }
        for row in rows
    ]
    return _frame(found, SUMMARY_COLUMNS)


def over_seeds(plan: Plan, rows: Sequence[Row]) -> pd.DataFrame:
    """seeds.csv: one row an evaluated setting and population, its mean over seeds; no rows for a single seed."""
    found = []
    for group in by_place(rows).values() if len(plan.config.seeds) > 1 else ():
        mean, ci95 = seed_interval([row.accuracy for row in group])
        over_tasks = sum(row.ci95 for row in group) / len(group)
        numbers = {"seeds": len(group), "accuracy": mean, "ci95_seeds": ci95, "ci95_tasks": over_tasks}
        said = dict.fromkeys(sentence for row in group for sentence in row.deviations)  # some are of one seed's training
        found.append({**_setting(plan, group[0]), **numbers, "deviations": "; ".join(said)})
    return _frame(found, SEEDS_COLUMNS)


def by_place(rows: Sequence[Row]) -> dict[tuple[str, str, str, str], list[Row]]:
    """The rows of each setting and population, one a seed, in order."""
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.place, []).append(row)
    return groups


def paired_differences(plan: Plan, rows: Sequence[Row]) -> pd.DataFrame:
    """paired.csv: every pair of settings with the same tasks, population and seed."""
    return _frame(list(_differences(plan, rows)), PAIRED_COLUMNS)


def _differences(plan: Plan, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        record = row.record
        groups.setdefault((record.episodes, record.evaluated.shot, row.population, record.network.seed), []).append(row)
    for (_, shot, population, seed), group in groups.items():
        for first, second in combinations(group, 2):
            result = paired(first.record.accuracies[population], second.record.accuracies[population])
            yield {
                "run": plan.config.run,
                "dataset": plan.config.dataset.name,
                "way": first.record.way,
                "shot": shot,
                "population": population,
                "seed": seed,
                **_side("first", first),
                **_side("second", second),
                "difference": result.difference,
                "ci95": result.ci95,
                "tasks": result.tasks,
                "excludes_zero": "yes" if result.excludes_zero else "no",
            }


def _side(side: str, row: Row) -> dict[str, str]:
    record = row.record
    return {
        f"{side}_network": record.network.name,
        f"{side}_adaptation": record.adaptation,
        f"{side}_support_pooling": record.evaluated.support_pooling,
        f"{side}_query_pooling": record.evaluated.query_pooling,
    }


def metrics(rows: Sequence[Row]) -> dict[str, Any]:
    """metrics.json for `dvc metrics show`: network -> adaptation -> setting and population -> accuracy, over seeds."""
    found: dict[str, Any] = {}
    for (network, adaptation, setting, population), group in by_place(rows).items():
        accuracy = round(sum(row.accuracy for row in group) / len(group), 4)
        found.setdefault(network, {}).setdefault(adaptation, {})[f"{setting}-{population}"] = accuracy
    return found


def network_table(networks: Sequence[NetworkRecord]) -> Table:
    """Size, training, validation and cost of every network."""
    found: list[list[Cell]] = []
    for network in networks:
        info, settings = network.info, network.settings
        validation = info.get("validation") or {}
        accuracy = Accuracy(validation["accuracy"], validation.get("ci95")) if "accuracy" in validation else None
        training, wide = settings.training, getattr(settings.backbone, "wide", 0)
        words = [backbone_title(settings), settings.backbone.shape + (f" + {wide}" if wide else "")]
        words.append(f"embedding {settings.embedding}" if settings.embedding else "")
        on = " on held-out images" if training.holds_out else ""
        kept = f"{info['iteration']:,} of {training.iterations:,} ({info.get('kept', 'last')}{on})"
        found.append(
            [
                network.name, str(network.seed), ", ".join(filter(None, words)), stage1_name(settings),
                f"{info['parameters']:,}", kept, str(training.images_an_iteration), accuracy,
                "" if network.scale is None else f"{network.scale:.2f}", f"{info['seconds']:,.0f}", str(info["device"]),
                str(info["precision"]),
            ]
        )  # fmt: skip
    caption = (
        "Validation: accuracy, in percent, of the state that was kept, few-shot on the validation classes or, where it says "
        "so, on held-out images of the trained classes. "
        "Scale: its tau, as last logged; dense queries are tested with it (eq. 14) unless evaluation.scale is set."
    )
    names = [
        "network",
        "seed",
        "backbone",
        "stage 1",
        "parameters",
        "iterations",
        "batch",
        "validation",
        "scale",
        "seconds",
        "device",
        "precision",
    ]
    columns = [Column(name, numbers=name == "validation") for name in names]
    return Table("networks", "Networks", caption, columns, found)


def deviation_table(rows: Sequence[Row], store: StoreRecord) -> Table:
    """Every sentence on what differs from the papers, and the rows that it holds for."""
    said: dict[str, list[Row]] = {}
    for row in rows:
        for sentence in row.deviations:
            said.setdefault(sentence, []).append(row)
    found: list[list[Cell]] = []
    for sentence, group in said.items():
        if len(group) == len(rows):
            where = "all"
        else:
            places = dict.fromkeys((row.record.network.name, row.record.adaptation) for row in group)
            where = ", ".join(name if how == AS_TRAINED else f"{name} ({how})" for name, how in places)
            populations = dict.fromkeys(row.population for row in group)
            if "novel" not in populations:
                where += f": {', '.join(populations)}"
        found.append([sentence, where])
    caption = (
        f"What is known to differ from the papers ({store.dataset}). Settings on which a paper is silent are in the "
        "run's config."
    )
    return Table("deviations", "Deviations", caption, [Column("deviation"), Column("rows")], found or [["none found", "all"]])


def _frame(rows: list[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(columns))
    for name in ("published", "published_ci95", "ci95_seeds"):
        if name in table:
            table[name] = table[name].astype(float)
    return table
