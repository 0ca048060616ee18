"""The report of a run: one HTML file with what was run, on what, and what came out, beside what is published.

It is made of what the evaluations left, as the tables beside it are, and of the figures.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from fewshot.config import AS_TRAINED, RunConfig
from fewshot.data.store import open_store
from fewshot.drawings import DRAWING, figures
from fewshot.errors import DataError
from fewshot.files import atomic
from fewshot.plan import Plan
from fewshot.report import plots
from fewshot.report.assembly import csv_bytes, deviation_table, network_table, result_tables
from fewshot.report.cells import difference, spread_of
from fewshot.report.facts import facts, origin, terms
from fewshot.report.graph import graph
from fewshot.report.pages import data_uri, render
from fewshot.report.published import PUBLISHED, Published, load_published
from fewshot.report.rendering import Accuracy, Cell, Column, Difference, Table, heading
from fewshot.report.results import Row, make_rows, read_network, read_settings, read_store
from fewshot.report.tables import accuracy_tables
from fewshot.report.times import job_times, times_table

DRAWN = "glyphs"
"""The data set whose images may be passed on: a program draws them."""


@dataclass(frozen=True)
class Figure:
    """A figure within the page; `drawing`: of lines, whose colours a dark page may turn round, and no photographs."""

    name: str
    title: str
    caption: str
    uri: str
    drawing: bool


def write_report(plan: Plan, published: Path = PUBLISHED) -> None:
    """Write results/<run>/report.html.

    Args:
        plan: of the run; its tables and figures are made.
        published: the file of published numbers.

    Raises:
        DataError: a result, a network, the image store, a table or a figure is missing or damaged.
    """
    record, store = read_store(plan), open_store(plan.store_dir, images=False)
    numbers = load_published(published)
    rows = make_rows(plan, read_settings(plan, record), record, Published(numbers))
    networks = [read_network(plan, job, record) for job in plan.networks]
    times = list(job_times(plan))
    config = plan.config
    results = result_tables(plan, rows)  # not the files of this name: what was edited by hand is not what was measured
    page = render(
        "report.html.j2",
        title=heading(config),
        run=config.run,
        notes=config.notes,
        facts=facts(plan, store, networks, times),
        terms=terms(rows),
        tables={table.name: table for table in accuracy_tables(plan, rows, numbers)},
        comparison=comparison_table(rows, spread_of(config)),
        spread=spread_of(config),
        seeds=len(config.seeds),
        pairs=pairs_table(results["paired.csv"]),
        settings=settings_table(results["summary.csv"]),
        networks=network_table(networks),
        deviations=deviation_table(rows, record),
        times=times_table(times),
        graph=graph(plan),
        figures={figure.name: figure for figure in _figures(plan)},
        origin=origin(plan, networks, store),
        photographs=config.dataset.name != DRAWN,
        config=yaml.safe_dump(config.as_dict(), sort_keys=False, allow_unicode=True),
        files=[(name, data_uri(csv_bytes(table), "text/csv")) for name, table in results.items()],
    )
    with atomic(plan.results / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")


# --- tables ----------------------------------------------------------------------------------------------------------


def comparison_table(rows: Sequence[Row], spread: str) -> Table:
    """Every setting that a paper has a number for: measured (its interval is over `spread`), published, and the difference."""
    found: list[list[Cell]] = []
    for row in plots.published_table(rows).to_dict("records"):
        measured = Accuracy(row["accuracy"], row["ci95"])
        published = Accuracy(row["published"], row["published_ci95"])
        found.append(
            [
                row["setting"], f"{row['shot']}-shot", row["population"], measured, published,
                difference(measured, published), row["published_source"],
            ]
        )  # fmt: skip
    caption = (
        f"Accuracy in percent with half its 95 % interval, measured {spread}; difference in points. The deviations below say "
        "why the two may differ."
    )
    columns = [Column("setting"), Column("shots"), Column("classes")]
    columns += [Column(name, numbers=True) for name in ("measured", "published", "difference")]
    return Table("comparison", "Measured and published", caption, [*columns, Column("source")], found)


def pairs_table(paired: pd.DataFrame) -> Table:
    """paired.csv: every two settings with the same tasks."""

    def side(row: Mapping[Any, Any], which: str) -> str:
        names = (row[f"{which}_network"], row[f"{which}_adaptation"], row[f"{which}_support_pooling"])
        return _setting(*names, row[f"{which}_query_pooling"])

    found: list[list[Cell]] = [
        [
            side(row, "second"), side(row, "first"), f"{row['shot']}-shot", row["population"], str(row["seed"]),
            Difference(row["difference"], row["ci95"]), f"{row['tasks']:,}", "no" if row["excludes_zero"] == "yes" else "yes",
        ]
        for row in paired.to_dict("records")
    ]  # fmt: skip
    columns = [Column(name) for name in ("setting", "less", "shots", "classes", "seed")]
    columns += [Column("difference", numbers=True), Column("tasks", right=True), Column("interval holds 0")]
    caption = "Mean difference over the common tasks of one seed, in points, with half its 95 % interval over these tasks."
    return Table("pairs", "All pairs on the same tasks", caption, columns, found)


def settings_table(summary: pd.DataFrame) -> Table:
    """summary.csv: every evaluated setting, population and seed."""
    found: list[list[Cell]] = [
        [
            row["method"], row["backbone"], f"{row['shot']}-shot", row["population"],
            f"{row['support_pooling']} / {row['query_pooling']}", str(row["seed"]), Accuracy(row["accuracy"], row["ci95"]),
            None if pd.isna(row["published"]) else Accuracy(row["published"], row["published_ci95"]), f"{row['tasks']:,}",
            row["run_key"],
        ]
        for row in summary.to_dict("records")
    ]  # fmt: skip
    columns = [Column(name) for name in ("method", "backbone", "shots", "classes", "testing", "seed")]
    columns += [Column("measured", numbers=True), Column("published", numbers=True), Column("tasks", right=True)]
    caption = (
        "Accuracy of each seed in percent, with half its 95 % interval over tasks. MLflow holds the job behind a row under the "
        "tag run_key."
    )
    return Table("settings", "All evaluated settings", caption, [*columns, Column("run_key")], found)


def _setting(network: str, adaptation: str, support: str, query: str) -> str:
    how = "" if adaptation == AS_TRAINED else f" ({adaptation})"
    return f"{network}{how}, {support} / {query}"


# --- figures ---------------------------------------------------------------------------------------------------------


def _captions(config: RunConfig) -> dict[str, tuple[str, str]]:
    """Name of a figure's file -> title and caption."""
    spread = f"with the 95 % interval {spread_of(config)}"
    difference = "mean of the seeds' differences" if len(config.seeds) > 1 else "mean difference"
    return {
        "accuracy_by_shot": (
            "Accuracy by shots",
            f"Accuracy on novel classes by the number of support images a class, {spread}.",
        ),
        "published_vs_measured": (
            "Published and measured",
            f"Measured accuracy, {spread}, and published accuracy of every setting that a paper reports; a line joins the two.",
        ),
        "paired_gains": (
            "Paired gains",
            f"The {difference} of one setting over another on the same tasks, {spread}.",
        ),
        "training_curves": (
            "Training curves",
            "Training loss and accuracy, and validation accuracy along the way with its 95 % interval (over tasks of the "
            "validation classes, or over held-out images where a network is validated on those); a line a network and seed.",
        ),
        "activation_maps": ("Class activation maps", _maps(config)),
        "map_statistics": (
            "Activation maps in numbers",
            "Means over all images that were judged (how many), of all and of the cases above, which are chosen by what the "
            "networks said: the true class's probability over the locations of the map; how much it differs between "
            "neighbouring locations, and that over how much between any two; the share of locations that find the class by "
            "themselves.",
        ),
        "distance_histograms": (
            "Gradients and distances",
            "How many of a training task's distances, and of the loss's gradients by them, are how large, after given "
            "iterations.",
        ),
        "class_vectors": (
            "Classes by activations and by parameters",
            "The classes' mean activations and the classifier's parameters, a t-SNE each; a class looks the same on both "
            "sides.",
        ),
        "leak_sweep": (
            "Leak",
            f"Accuracy over s, where the leaky squared Euclidean distance begins to leak, and over its slope r, {spread}.",
        ),
        "low_shot_accuracy": (
            "Accuracy by exemplars",
            f"Accuracy by the number of exemplars of each novel class, {spread}.",
        ),
        "embedding_size": ("Accuracy by width", f"Accuracy by the width of the embedding, {spread}."),
        "finetuning_curves": (
            "Fine-tuning",
            "Accuracy along the epochs of fine-tuning, with the 95 % interval over draws of the exemplars"
            f"{', of the first seed' if len(config.seeds) > 1 else ''}.",
        ),
        "exemplars": ("Exemplars", "Single exemplars by the recall of the class that they stand for."),
    }


def _maps(config: RunConfig) -> str:
    """Which networks and prototypes the activation maps are of."""
    settings = config.activation_maps
    if settings is None:
        return ""
    first, second = settings.networks
    images = "one image" if settings.shot == 1 else f"{settings.shot} images"
    return (
        f"The probability of the true class at every location, by the network {first} and by {second}, in this order; of novel "
        f"classes against prototypes of {images} a class. The first images found of each case, none picked by eye."
    )


def _figures(plan: Plan) -> Iterable[Figure]:
    """The run's figures; one without data is left out."""
    folder, drawn = plan.results / "figures", figures(plan)
    if "low_shot_accuracy" in drawn:  # has the panel of accuracy_by_shot, among others
        del drawn["accuracy_by_shot"]
    for name, (title, caption) in _captions(plan.config).items():
        if name in drawn and (name == "activation_maps" or _holds_data(folder / f"{name}.csv")):
            drawing = drawn[name] == DRAWING
            file, kind = (f"{name}.svg", "image/svg+xml") if drawing else (f"{name}.png", "image/png")
            yield Figure(name, title, caption, data_uri(_bytes(folder / file), kind), drawing)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: missing; make tables and figures again (fewshot assemble)") from None


def _holds_data(path: Path) -> bool:
    """Whether a figure's csv file has more than its header."""
    try:
        return len(pd.read_csv(path)) > 0
    except FileNotFoundError:
        raise DataError(f"{path}: missing; make tables and figures again (fewshot assemble)") from None
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}: not a readable csv file ({type(error).__name__}); run fewshot assemble again") from None
