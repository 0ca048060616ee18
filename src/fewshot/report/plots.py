"""Figures of a run as SVG, each beside a csv file of what it shows. The same results give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fewshot.plan import Plan
from fewshot.report import drawing
from fewshot.report.assembly import by_place, write_csv
from fewshot.report.drawing import MEASURES
from fewshot.report.gains import gains_table
from fewshot.report.papers import LABELS, backbone_title, usual_pooling
from fewshot.report.published import PUBLISHED, Published, load_published
from fewshot.report.results import Row, make_rows, read_lines, read_settings, read_store
from fewshot.report.statistics import shown_interval


def draw_figures(plan: Plan, published: Path = PUBLISHED) -> None:
    """Draw all figures into results/<run>/figures: <name>.svg and <name>.csv.

    Args:
        plan: of the run; its networks are trained and its evaluations run.
        published: the file of published numbers.

    Raises:
        DataError: a result, a network, the image store or the published numbers are missing or damaged, or a result or a
            network was made with other settings or images.
    """
    store = read_store(plan)
    rows = make_rows(plan, read_settings(plan, store), store, Published(load_published(published)))
    run, folder = plan.config.run, plan.results / "figures"
    figures = {
        "training_curves": (training_table(plan), drawing.training_curves, "Training"),
        "accuracy_by_shot": (shot_table(rows), drawing.accuracy_by_shot, "Accuracy by shots"),
        "published_vs_measured": (published_table(rows), drawing.published_vs_measured, "Published and measured"),
        "paired_gains": (gains_table(rows), drawing.paired_gains, "Gains over the same tasks"),
    }
    for name, (table, draw, title) in figures.items():
        write_csv(folder / f"{name}.csv", table)
        with drawing.style():
            drawing.save(draw(table, f"{title} (run {run})"), folder / f"{name}.svg")


# --- what is drawn ---------------------------------------------------------------------------------------------------


def training_table(plan: Plan) -> pd.DataFrame:
    """One row a network, seed, iteration and measure: value, ci95 (of validation only)."""
    parts = []
    for job in plan.networks:
        lines = read_lines(plan.network_dir(job) / "metrics.jsonl")
        for measure in MEASURES:
            if measure in lines:
                part = lines[lines[measure].notna()]
                ci95 = part.get("validation_ci95", np.nan) if measure == "validation_accuracy" else np.nan
                parts.append(
                    pd.DataFrame(
                        {"network": job.name, "seed": job.seed, "iteration": part["iteration"].astype(int)}
                        | {"measure": measure, "value": part[measure].astype(float), "ci95": ci95}
                    )
                )
    columns = ["network", "seed", "iteration", "measure", "value", "ci95"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


@dataclass(frozen=True)
class _Usual:
    """Rows on novel classes tested as the paper tests them (or, where that was not run, with the first poolings)."""

    rows: dict[tuple[str, str, int], list[Row]]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Usual:
        found: dict[tuple[str, str, int], dict[str, list[Row]]] = {}
        for row in rows:
            if row.population == "novel":
                record = row.record
                place = (record.network.name, record.adaptation, record.evaluated.shot)
                found.setdefault(place, {}).setdefault(_pair(row), []).append(row)
        usual = {}
        for place, pairs in found.items():
            first = next(iter(pairs.values()))[0]
            usual[place] = pairs.get(usual_pooling(first.record.network.settings), next(iter(pairs.values())))
        return cls(usual)


def shot_table(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a network, adaptation and number of shots: accuracy on novel classes (over seeds) and interval."""
    found = []
    for (network, adaptation, shot), group in _Usual.of(rows).rows.items():
        accuracy, ci95 = _over_seeds(group)
        first = group[0]
        found.append(
            {
                "network": network, "adaptation": adaptation, "backbone": _backbone(first), "method": first.method,
                "testing": _labels(_pair(first)), "shot": shot, "accuracy": accuracy, "ci95": ci95,
            }
        )  # fmt: skip
    columns = ["network", "adaptation", "backbone", "method", "testing", "shot", "accuracy", "ci95"]
    return pd.DataFrame(found, columns=columns)  # no rows where no test has the novel classes alone


def published_table(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a setting and population that the paper has a number for: measured (over seeds) beside published."""
    found = []
    for group in by_place(rows).values():
        first = group[0]
        if first.published is not None:
            accuracy, ci95 = _over_seeds(group)
            found.append(
                {
                    "setting": f"{_backbone(first)} {first.method}, {_labels(_pair(first))}",
                    "shot": first.record.evaluated.shot, "population": first.population, "accuracy": accuracy, "ci95": ci95,
                    "published": first.published.value, "published_ci95": first.published.ci95,
                    "published_source": first.published.source,
                }
            )  # fmt: skip
    columns = ["setting", "shot", "population", "accuracy", "ci95", "published", "published_ci95", "published_source"]
    table = pd.DataFrame(found, columns=columns)
    table["published_ci95"] = table["published_ci95"].astype(float)
    return table.sort_values(["shot", "population", "setting"], kind="stable", ignore_index=True)


def _over_seeds(group: Sequence[Row]) -> tuple[float, float]:
    return shown_interval([row.accuracy for row in group], group[0].ci95)


def _pair(row: Row) -> str:
    return f"{row.record.evaluated.support_pooling}/{row.record.evaluated.query_pooling}"


def _labels(pair: str) -> str:
    return "/".join(LABELS[name] for name in pair.split("/"))


def _backbone(row: Row) -> str:
    return backbone_title(row.record.network.settings)
