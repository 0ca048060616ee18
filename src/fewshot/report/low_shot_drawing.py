"""How the figures of paper 001 look: from a table (see low_shot_figures.py) to a matplotlib figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fewshot.data.store import Store
from fewshot.report.drawing import DASHES, legend, looks, palette, say, within_percent
from fewshot.report.low_shot import POPULATIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def finetuning_curves(table: pd.DataFrame, title: str) -> Figure:
    """Figures 3 and 4: a row a population, a column a number of exemplars, a line a method with its interval over draws."""
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    if table.empty:
        return _words("This run fine-tunes nothing.", title)
    shots = sorted(table["shot"].unique())
    populations = [name for name in POPULATIONS if name in set(table["population"])]
    lines = _lines(table)
    shades = palette([label for label, _ in lines])
    figure, axes = plt.subplots(
        len(populations), len(shots), figsize=(2.8 * len(shots) + 1, 2.6 * len(populations) + 0.8), squeeze=False,
        sharex=True, layout="constrained",
    )  # fmt: skip
    for line, population in zip(axes, populations, strict=True):
        for ax, shot in zip(line, shots, strict=True):
            for i, (label, part) in enumerate(lines):
                points = part[(part["population"] == population) & (part["shot"] == shot)].sort_values("epoch")
                if not points.empty:
                    epochs, middle, half = (points[name].to_numpy(float) for name in ("epoch", "accuracy", "ci95"))
                    ax.plot(epochs, middle, color=shades[label], linestyle=(0, DASHES[i % len(DASHES)]))
                    ax.fill_between(epochs, middle - half, middle + half, color=shades[label], alpha=0.15, linewidth=0)
            ax.set(title=f"n = {shot}" if population == populations[0] else "")
            ax.set_xlabel("epoch" if population == populations[-1] else "")
        within_percent(line)
        line[0].set_ylabel(f"{POPULATIONS[population][0]} (%)")
    dashes = {label: (0, DASHES[i % len(DASHES)]) for i, (label, _) in enumerate(lines)}
    legend(figure, [Line2D([], [], color=shades[label], linestyle=dashes[label], label=label) for label in dashes])
    figure.suptitle(title)
    return figure


def accuracy_by_exemplars(table: pd.DataFrame, title: str) -> Figure:
    """Tables 1 to 3 and figure 6 at a glance: a panel a population, a line a method and network."""
    return _by(table, "shot", "exemplars a class", title)


def accuracy_by_embedding(table: pd.DataFrame, title: str) -> Figure:
    """Figure 7: accuracy by the width of the embedding, at 1 and 5 exemplars (or the fewest two that there are).

    A line is of networks that differ in that width alone.
    """
    if table["embedding"].nunique() < 2:
        return _words("This run has embeddings of one width only.", title)
    shots = [shot for shot in (1, 5) if shot in set(table["shot"])] or sorted(table["shot"].unique())[:2]
    widths = table.groupby(["series", "adaptation"])["embedding"].transform("nunique")  # one alone shows nothing of the width
    part = table[table["shot"].isin(shots) & (widths > 1) & ~table["stage2"].isin(["random"])]
    if part.empty:
        return _words("No two networks of this run differ in the width of the embedding alone.", title)
    several = part.groupby("stage2")["adaptation"].transform("nunique") > 1
    name = part["stage2"].where(~several, part["stage2"] + " [" + part["adaptation"] + "]")
    part = part.assign(method=name + ", n = " + part["shot"].astype(str), network=part["series"])
    return _by(part, "embedding", "width of the embedding", title)


def _by(table: pd.DataFrame, column: str, words: str, title: str) -> Figure:
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    populations = [name for name in POPULATIONS if name in set(table["population"])]
    lines = _lines(table)
    look = looks([label for label, _ in lines])
    places = sorted(table[column].unique())
    figure, axes = plt.subplots(
        1, len(populations), figsize=(3.6 * len(populations) + 0.6, 4.2), squeeze=False, layout="constrained"
    )
    for ax, population in zip(axes[0], populations, strict=True):
        for i, (label, part) in enumerate(lines):
            points = part[part["population"] == population].sort_values(column)
            if not points.empty:
                shift = 0.03 * (i - (len(lines) - 1) / 2)
                ax.errorbar(
                    np.array([places.index(place) for place in points[column]]) + shift, points["accuracy"],
                    yerr=points["ci95"].fillna(0), color=look[label].colour, capsize=2, marker=look[label].marker,
                    markersize=5, linestyle=(0, look[label].dashes), linewidth=1.3,
                )  # fmt: skip
        ax.set_xticks(range(len(places)), [str(place) for place in places])
        ax.set(title=POPULATIONS[population][0], xlabel=words)
    within_percent(axes[0])
    axes[0][0].set_ylabel("accuracy (%)")
    handles = [
        Line2D([], [], color=one.colour, marker=one.marker, linestyle=(0, one.dashes), label=label)
        for label, one in look.items()
    ]
    legend(figure, handles)
    figure.suptitle(title)
    return figure


def exemplars(store: Store, classes: pd.DataFrame, cases: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Figure 5: exemplars by falling recall; then images right and wrong, each over an exemplar of the class it was taken for.

    Args:
        store: the images.
        classes: class, exemplar, recall.
        cases: `right`, `wrong` -> image, class, predicted, exemplar (-1: a base class, of which none is shown).
        title: of the figure.
    """
    import matplotlib.pyplot as plt

    across = max(1, len(classes), *(len(part) for part in cases.values()))
    figure, axes = plt.subplots(1 + 2 * len(cases), across, figsize=(1.3 * across, 8.5), squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.set_frame_on(False)
    for ax, row in zip(axes[0], classes.itertuples(), strict=False):
        _show(ax, store, int(row.exemplar), f"{row.recall:.0f} %", "0.5")  # type: ignore[arg-type]
    for number, (words, part) in enumerate(cases.items()):
        colour = {"right": "tab:green"}.get(words, "tab:red")
        for i, row in enumerate(part.itertuples()):
            _show(axes[1 + 2 * number][i], store, int(row.image), words, colour)  # type: ignore[arg-type]
            if int(row.exemplar) >= 0:  # type: ignore[arg-type]
                _show(axes[2 + 2 * number][i], store, int(row.exemplar), "", colour)  # type: ignore[arg-type]
            else:
                say(axes[2 + 2 * number][i], "base\nclass")
    for place, words in ((0, "exemplars,\nrecall"), (1, "tested"), (2, "its exemplar"), (3, "tested"), (4, "taken for")):
        axes[place][0].set_ylabel(words, fontsize=8)
    figure.suptitle(title)
    return figure


def _show(ax: Axes, store: Store, row: int, words: str, colour: str) -> None:
    ax.imshow(store.images[row])
    ax.set_title(words, fontsize=8, pad=2)
    ax.set_frame_on(True)
    for side in ax.spines.values():
        side.set(color=colour, linewidth=2, visible=True)


def _lines(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Label and rows of each line: a method as the tables have it, with its network where another's bears the same name."""
    groups = [
        (network, method, part) for (network, _, method), part in table.groupby(["network", "adaptation", "method"], sort=False)
    ]
    named = Counter(method for _, method, _ in groups)
    return [(f"{method}, {network}" if named[method] > 1 else str(method), part) for network, method, part in groups]


def _words(text: str, title: str) -> Figure:
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(8, 2), layout="constrained")
    say(ax, text)
    figure.suptitle(title)
    return figure
