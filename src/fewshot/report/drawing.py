"""How figures look, and one function a figure: from its table (see plots.py) to a matplotlib figure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from fewshot.files import atomic

if TYPE_CHECKING:  # drawing libraries take seconds to import, and only two jobs draw
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    Colour = tuple[float, float, float]

MEASURES = {
    "loss": "training loss",
    "accuracy": "training accuracy (%)",
    "validation_accuracy": "validation accuracy (%)",
}
"""Columns of metrics.jsonl that are drawn, and the titles of their panels."""

MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*", "<", ">")
DASHES = ((1, 0), (4, 1.5), (1, 1), (5, 1, 1, 1), (7, 2), (3, 1, 1, 1, 1, 1))
"""On and off lengths; lines differ in dashes and markers as well as in colour."""


@contextmanager
def style() -> Iterator[None]:
    """Look of all figures: white grid, colour-blind-safe colours, text as outlines, no time stamps, no display needed."""
    import matplotlib as mpl

    mpl.use("agg")
    import seaborn as sns

    with mpl.rc_context():
        sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", font_scale=0.85)
        mpl.rcParams.update({"svg.hashsalt": "fewshot", "svg.fonttype": "path", "figure.titlesize": "medium"})
        yield


def save(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write a .svg or .png file atomically, without dates, and close the figure; `dpi`: pixels an inch of a .png."""
    import matplotlib.pyplot as plt

    kind = path.suffix[1:]
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with atomic(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi, bbox_inches="tight", metadata=metadata)
    plt.close(figure)


def say(ax: Axes, text: str) -> None:
    """Words in place of data."""
    ax.set(xticks=[], yticks=[])
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="0.35", wrap=True)


def class_words(name: str) -> str:
    """A class's name for people: without the number of ImageNet (`n01910747 jellyfish`) or CUB (`001.Laysan_Albatross`)."""
    return re.sub(r"^(n\d{8}|\d{3}\.)\s*(?=.)", "", name).replace("_", " ")


def palette(names: Sequence[str]) -> dict[str, Colour]:
    """A colour for each name, told apart by the colour-blind too."""
    import seaborn as sns

    return dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True))


@dataclass(frozen=True)
class Look:
    """Of a line with markers."""

    colour: Colour
    marker: str
    dashes: tuple[float, ...]


def looks(names: Sequence[str]) -> dict[str, Look]:
    """How the line of each name looks: no two of 100 have colour and marker in common, no two of 30 colour and dashes."""
    shades = list(palette(names).values())
    return {
        name: Look(shades[i], MARKERS[(i + i // len(MARKERS)) % len(MARKERS)], DASHES[i % len(DASHES)])
        for i, name in enumerate(names)
    }


def within_percent(axes: Iterable[Axes], axis: Literal["x", "y"] = "y") -> None:
    """Let no axis of accuracies run below 0 or above 100, however wide an interval over few seeds is."""
    for ax in axes:
        low, high = ax.get_xlim() if axis == "x" else ax.get_ylim()
        ax.set(**{f"{axis}lim": (max(low, 0.0), min(high, 100.0))})


def legend(figure: Figure, handles: list[Line2D]) -> None:
    """One legend below all panels; none without handles."""
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), frameon=False)


def training_curves(table: pd.DataFrame, title: str) -> Figure:
    """Loss, training accuracy and validation accuracy (with its interval) over iterations; a line a network and seed."""
    import matplotlib.pyplot as plt
    import seaborn as sns
    from matplotlib.lines import Line2D

    names = list(dict.fromkeys(table["network"].astype(str)))
    colours = palette(names)
    dashes = {name: DASHES[i % len(DASHES)] for i, name in enumerate(names)}
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    for ax, (measure, label) in zip(axes, MEASURES.items(), strict=True):
        part = table[table["measure"] == measure]
        if part.empty:
            say(ax, "not recorded")
        else:
            sns.lineplot(
                part, x="iteration", y="value", hue="network", palette=colours, style="network", dashes=dashes,
                units="seed", estimator=None, linewidth=1.5, legend=False, ax=ax,
            )  # fmt: skip
            for (name, _), line in part.groupby(["network", "seed"], sort=False):
                if len(line) == 1:  # of which no line is drawn, nor a band
                    ax.errorbar(line["iteration"], line["value"], line["ci95"].fillna(0), color=colours[str(name)], marker="o")
                elif line["ci95"].notna().any():
                    low, high = line["value"] - line["ci95"], line["value"] + line["ci95"]
                    ax.fill_between(line["iteration"], low, high, color=colours[str(name)], alpha=0.15, linewidth=0)
        ax.set(title=label, xlabel="iteration", ylabel="")
        if measure != "loss" and not part.empty:
            within_percent([ax])
    legend(
        figure, [Line2D([], [], color=colours[name], linestyle=(0, dashes[name]), label=name) for name in names]
    )  # fmt: skip
    figure.suptitle(title)
    return figure


def accuracy_by_shot(table: pd.DataFrame, title: str) -> Figure:
    """Accuracy on novel classes over the number of shots, with intervals; a panel a backbone, a line a method."""
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    if table.empty:
        figure, ax = plt.subplots(figsize=(8, 2), layout="constrained")
        say(ax, "This run tests no novel classes among themselves.")
        figure.suptitle(title)
        return figure
    backbones = list(dict.fromkeys(table["backbone"]))
    methods = list(dict.fromkeys(table["method"]))
    shots = sorted(table["shot"].unique())
    look = looks(methods)
    figure, axes = plt.subplots(
        1, len(backbones), figsize=(4.2 * len(backbones) + 0.6, 4), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, backbone in zip(axes[0], backbones, strict=True):
        for i, method in enumerate(methods):
            line = table[(table["backbone"] == backbone) & (table["method"] == method)].sort_values("shot")
            if line.empty:
                continue
            shift = 0.04 * (i - (len(methods) - 1) / 2)  # intervals side by side, not one on the other
            places = np.array([shots.index(shot) for shot in line["shot"]]) + shift
            ax.errorbar(
                places, line["accuracy"], yerr=line["ci95"].fillna(0), color=look[method].colour, capsize=3, linewidth=1.5,
                marker=look[method].marker, markersize=6, linestyle=(0, look[method].dashes),
            )  # fmt: skip
        ax.set(title=backbone, xlabel="support images a class (shots)", xlim=(-0.4, len(shots) - 0.6))
        ax.set_xticks(range(len(shots)), [str(shot) for shot in shots])
    within_percent(axes[0])
    axes[0][0].set_ylabel("accuracy on novel classes (%)")
    legend(
        figure,
        [
            Line2D([], [], color=one.colour, marker=one.marker, label=method, linestyle=(0, one.dashes))
            for method, one in look.items()
        ],
    )
    figure.suptitle(title)
    return figure


def published_vs_measured(table: pd.DataFrame, title: str) -> Figure:
    """Published and measured accuracy of every setting the paper has, joined by a line; says so where there is none."""
    import matplotlib.pyplot as plt

    if table.empty:
        figure, ax = plt.subplots(figsize=(8, 2), layout="constrained")
        say(ax, "Nothing is published for the settings of this run: there is nothing to compare.")
        figure.suptitle(title)
        return figure
    blue, orange = list(palette(["measured", "published"]).values())
    figure, ax = plt.subplots(figsize=(9, 1.4 + 0.3 * len(table)), layout="constrained")
    places = np.arange(len(table))[::-1]
    ax.hlines(places, table["accuracy"], table["published"], color="0.6", linewidth=1.5, zorder=1)
    for column, ci95, colour, marker, face in (
        ("published", "published_ci95", orange, "D", "white"),
        ("accuracy", "ci95", blue, "o", blue),
    ):
        ax.errorbar(
            table[column], places, xerr=table[ci95].fillna(0), color=colour, linestyle="none", marker=marker, markersize=6,
            markerfacecolor=face, capsize=3, label="measured" if column == "accuracy" else "published", zorder=2,
        )  # fmt: skip
    labels = [f"{row.shot}-shot, {row.population}: {row.setting}" for row in table.itertuples()]
    ax.set_yticks(places, labels)
    ax.set(xlabel="accuracy (%)", ylim=(-0.7, len(table) - 0.3))
    within_percent([ax], "x")
    ax.grid(visible=False, axis="y")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(title)
    return figure


def paired_gains(table: pd.DataFrame, title: str) -> Figure:
    """Forest plot of paired differences with their intervals; hollow where the interval holds zero."""
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    if table.empty:
        figure, ax = plt.subplots(figsize=(8, 2), layout="constrained")
        say(ax, "This run has no two settings that a paper compares; paired.csv has all pairs.")
        figure.suptitle(title)
        return figure
    kinds = list(dict.fromkeys(table["comparison"].astype(str)))
    colours = palette(kinds)
    figure, ax = plt.subplots(figsize=(9, 1.4 + 0.3 * len(table)), layout="constrained")
    ax.axvline(0, color="0.3", linewidth=1)
    places = np.arange(len(table))[::-1]
    for place, row in zip(places, table.to_dict("records"), strict=True):
        colour = colours[row["comparison"]]
        ax.errorbar(
            row["difference"], place, color=colour, capsize=3, markersize=7,
            xerr=0 if pd.isna(row["ci95"]) else row["ci95"],
            marker=MARKERS[kinds.index(row["comparison"])],
            markerfacecolor=colour if row["excludes_zero"] == "yes" else "white",
        )  # fmt: skip
    labels = [f"{row.gain}, {row.shot}-shot, {row.population}" for row in table.itertuples()]
    ax.set_yticks(places, labels)
    ax.set(xlabel="paired difference in accuracy (points)", ylim=(-0.7, len(table) - 0.3))
    ax.grid(visible=False, axis="y")
    legend(
        figure,
        [
            Line2D([], [], color=colours[kind], marker=MARKERS[i], linestyle="none", label=kind)
            for i, kind in enumerate(kinds)
        ]
        + [Line2D([], [], color="0.3", marker="o", markerfacecolor="white", linestyle="none", label="interval holds 0")],
    )  # fmt: skip
    figure.suptitle(title)
    return figure
