"""Figures 3 to 8 of paper 002 for networks trained on tasks, each beside a csv file of what it shows.

Figures 3 to 7: histograms of log(|dl/dd| + 1e-5) and of distances at given iterations of the training. Figure 8: accuracy over
s and r of the leaky squared Euclidean distance. Figure 9 is the figure of training curves that every run has.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fewshot.config import EpisodicSettings, LeakySquaredEuclideanSettings, NetworkSettings, SquaredEuclideanSettings
from fewshot.errors import DataError
from fewshot.plan import Plan
from fewshot.report import drawing
from fewshot.report.assembly import by_place, write_csv
from fewshot.report.published import PUBLISHED, Published, load_published
from fewshot.report.results import Row, make_rows, read_lines, read_settings, read_store
from fewshot.report.statistics import shown_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = {"log_gradient": "log(|dl/dd| + 1e-5)", "distance": "distance"}
"""Histograms of metrics.jsonl, and the titles of their columns."""


def draw_distance_figures(plan: Plan, published: Path = PUBLISHED) -> None:
    """Draw distance_histograms and leak_sweep into results/<run>/figures.

    Args:
        plan: of a run with networks trained on tasks; its evaluations have been run.
        published: the file of published numbers.

    Raises:
        DataError: a result or a network is missing, damaged or of other settings.
    """
    store = read_store(plan)
    rows = make_rows(plan, read_settings(plan, store), store, Published(load_published(published)))
    folder, run = plan.results / "figures", plan.config.run
    histograms, sweep = histogram_table(plan), sweep_table(rows)
    write_csv(folder / "distance_histograms.csv", histograms)
    write_csv(folder / "leak_sweep.csv", sweep)
    with drawing.style():
        figure = draw_histograms(histograms, f"Gradients and distances in training (run {run})")
        drawing.save(figure, folder / "distance_histograms.svg")
        drawing.save(draw_sweep(sweep, f"Where the leak begins, and its slope (run {run})"), folder / "leak_sweep.svg")


def histogram_table(plan: Plan) -> pd.DataFrame:
    """One row a bin: network, iteration (steps taken before it), measure, low, high (edges of the bin), count. First seed.

    Raises:
        DataError: the metrics of a network are missing or damaged.
    """
    parts = []
    for job in plan.networks:
        path = plan.network_dir(job) / "metrics.jsonl"
        lines = read_lines(path)
        for measure in MEASURES:
            if job.seed != plan.config.seeds[0] or measure not in lines:
                continue
            for _, line in lines[lines[measure].notna()].iterrows():
                try:
                    kept: dict[str, Any] = line[measure]
                    edges = np.linspace(kept["low"], kept["high"], len(kept["counts"]) + 1)
                    counts = np.array(kept["counts"], dtype=np.int64)
                except (KeyError, TypeError, ValueError):
                    raise DataError(f"{path}: a histogram of {measure} is damaged; train the network again") from None
                place = {"network": job.name, "iteration": int(line["iteration"]), "measure": measure}
                parts.append(pd.DataFrame(place | {"low": edges[:-1], "high": edges[1:], "count": counts}))
    columns = ["network", "iteration", "measure", "low", "high", "count"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def sweep_table(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a network of a sweep and number of shots: s, r, accuracy on novel classes (percent, over seeds), interval.

    Of a sweep are networks with the leaky distance that differ from another in s alone or in r alone; networks of one sweep,
    numbered from 1, differ in nothing but s and r.
    """
    found = []
    for group in by_place(rows).values():
        record = group[0].record
        distance = record.network.settings.distance
        if not isinstance(distance, LeakySquaredEuclideanSettings):
            continue
        accuracy, ci95 = shown_interval([row.accuracy for row in group], group[0].ci95)
        found.append(
            {
                "network": record.network.name, "shot": record.evaluated.shot, "s": distance.s, "r": distance.r,
                "accuracy": accuracy, "ci95": ci95,
                "sweep": _without_leak(record.network.settings),
            }
        )  # fmt: skip
    table = pd.DataFrame(found, columns=["sweep", "network", "shot", "s", "r", "accuracy", "ci95"])
    swept = (table.groupby(["sweep", "shot", "r"])["s"].transform("nunique") > 1) | (
        table.groupby(["sweep", "shot", "s"])["r"].transform("nunique") > 1
    )
    table = table[swept]
    numbered = table.assign(sweep=pd.factorize(table["sweep"])[0] + 1)
    return numbered.sort_values(["sweep", "shot", "s", "r"], kind="stable", ignore_index=True)


def _without_leak(network: NetworkSettings) -> str:
    """What networks have in common that differ in the leak alone (and in what is recorded of it)."""
    objective = network.training.objective
    assert isinstance(objective, EpisodicSettings)  # noqa: S101 - it has a distance
    blank = objective.model_copy(update={"distance": SquaredEuclideanSettings(), "histograms": ()})
    training = network.training.model_copy(update={"objective": blank})
    return network.model_copy(update={"training": training}).key()


def draw_histograms(table: pd.DataFrame, title: str) -> Figure:
    """Figures 3 to 7: a row a network and iteration; gradients on the left, distances on the right."""
    import matplotlib.pyplot as plt

    places = list(dict.fromkeys(zip(table["network"], table["iteration"], strict=True)))
    figure, axes = plt.subplots(
        max(len(places), 1), 2, figsize=(8, 1.6 * max(len(places), 1) + 0.6), squeeze=False, layout="constrained"
    )
    if not places:
        for ax in axes[0]:
            drawing.say(ax, "not recorded")
    for (network, iteration), row in zip(places, axes, strict=False):
        for ax, (measure, label) in zip(row, MEASURES.items(), strict=True):
            chosen = (table["network"] == network) & (table["iteration"] == iteration) & (table["measure"] == measure)
            part = table[chosen]
            ax.bar(part["low"], part["count"], width=part["high"] - part["low"], align="edge", linewidth=0)
            ax.set(yscale="symlog", ylim=(0, None))
            if measure == "log_gradient":
                ax.set_ylabel(f"{network}\niteration {iteration}")
            if (network, iteration) == places[-1]:
                ax.set_xlabel(label)
    figure.suptitle(title)
    return figure


def draw_sweep(table: pd.DataFrame, title: str) -> Figure:
    """Figure 8: accuracy over s at each r that has several s, and over r (logarithmic) at each s that has several r.

    A line a sweep and number of shots; where the run has several sweeps, it names the first of its networks.
    """
    import matplotlib.pyplot as plt

    several = len(set(table["sweep"])) > 1
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True, layout="constrained")
    for ax, (over, fixed) in zip(axes, (("s", "r"), ("r", "s")), strict=True):
        lines = [(key, line) for key, line in table.groupby(["sweep", "shot", fixed], sort=True) if len(set(line[over])) > 1]
        if not lines:
            drawing.say(ax, f"no two networks differ in {over} alone")
            continue
        for ((_, shot, value), line), look in zip(lines, drawing.looks([str(key) for key, _ in lines]).values(), strict=True):
            points = line.sort_values(over)
            ax.errorbar(
                points[over],
                points["accuracy"],
                yerr=points["ci95"],
                capsize=3,
                color=look.colour,
                marker=look.marker,
                linestyle=(0, look.dashes),
                label=f"{fixed} = {value:g}, {shot}-shot" + (f", {points['network'].iloc[0]} ..." if several else ""),
            )
        if over == "r":
            ax.set_xscale("log")
        ax.set(xlabel=over, ylabel="accuracy (%)" if over == "s" else "")
        drawing.within_percent([ax])
        ax.legend(frameon=False)
    figure.suptitle(title)
    return figure
