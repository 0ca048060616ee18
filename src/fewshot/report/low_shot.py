"""Tables of runs in which classifiers are extended by all novel classes at once: the shape of Tables 1 to 3 of paper 001."""

from __future__ import annotations

from collections.abc import Sequence

from fewshot.intervals import interval
from fewshot.report.cells import Measured, spread_of
from fewshot.report.papers import EXTENSIONS, stage2_name
from fewshot.report.rendering import Accuracy, Cell, Column, Table
from fewshot.report.results import Row
from fewshot.report.statistics import shown_interval

POPULATIONS = {
    "novel_in_all": (
        "Novel classes among all",
        "Images of novel classes, judged among base and novel classes (Table 1).",
    ),
    "all": ("All classes", "Images of base and novel classes, judged among all of them (Table 2; iNaturalist: Table 4)."),
    "base_in_all": ("Base classes among all", "Images of base classes, judged among base and novel classes."),
    "novel": (
        "Novel classes alone",
        "Images of novel classes, judged among these alone (transfer, Table 3; figure 6).",
    ),
    "base": ("Base classes alone", "Images of base classes, judged among these alone."),
    "both": ("Base and novel classes", "Images of base and novel classes, judged among all of them: another name of all."),
}
"""Every population -> title and what it means, in the order of the paper's tables; then those that it does not have."""


def low_shot_tables(run: Measured, rows: Sequence[Row]) -> list[Table]:
    """One table a population, methods by number of exemplars; and the means over classes of the same.

    Args:
        run: the measured rows and the published numbers.
        rows: of the run.
    """
    tables = [_table(run, population) for population in POPULATIONS]
    return [*(table for table in tables if table is not None), *_class_means(run, rows)]


def ordered(run: Measured) -> list[tuple[str, str]]:
    """(network, adaptation), networks as the config has them, adaptations in the order of the paper's rows.

    Methods that the paper does not have stand behind its own, as the config's tests name them.
    """
    order = {name: i for i, name in enumerate(EXTENSIONS)}
    networks = list(run.plan.config.stage1.networks)

    def rank(place: tuple[str, str]) -> tuple[int, int]:
        stage2 = stage2_name(run.first[place].record.adaptation_settings)
        return networks.index(place[0]), order.get(stage2, len(order))

    return sorted(run.first, key=rank)


def _table(run: Measured, population: str) -> Table | None:
    rows: list[list[Cell]] = []
    run.shown = set()
    for place in ordered(run):
        (pair,) = run.pairs(place)  # a method pools in one way
        cells = [cell for shot in run.shots for cell in run.cells(place, shot, pair, population)]
        if any(cell is not None for cell in cells[:: 3 if run.any_published else 1]):
            rows.append([run.first[place].method, *_network(run, place), *cells])
    if not rows:
        return None
    title, words = POPULATIONS[population]
    columns = [Column("method"), *_network_columns(run), *run.columns(f"n = {shot}" for shot in run.shots)]
    return Table(f"low_shot_{population}", title, f"{words} {run.caption()}", columns, rows)


def _class_means(run: Measured, rows: Sequence[Row]) -> list[Table]:
    """Means over classes of each class's accuracy, where they were measured."""
    found: list[list[Cell]] = []
    places = {place: i for i, place in enumerate(ordered(run))}
    groups: dict[tuple[tuple[str, str], str, int], list[Row]] = {}
    for row in rows:
        place = row.record.network.name, row.record.adaptation
        if row.population in row.record.class_means:
            groups.setdefault((place, row.population, row.record.evaluated.shot), []).append(row)
    for population in POPULATIONS:
        for place in sorted({key[0] for key in groups if key[1] == population}, key=places.__getitem__):
            cells: list[Cell] = []
            for shot in run.shots:
                group = groups.get((place, population, shot))
                cells.append(None if group is None else _over_seeds(group, population))
            found.append([run.first[place].method, *_network(run, place), POPULATIONS[population][0], *cells])
    if not found:
        return []
    columns = [Column("method"), *_network_columns(run), Column("classes")]
    columns += [Column("measured", f"n = {shot}", numbers=True) for shot in run.shots]
    caption = "Mean over classes of the accuracy of each class, in percent; ± is half the 95 % interval "
    caption += f"{spread_of(run.plan.config)}."
    return [Table("low_shot_class_means", "Mean per-class accuracy", caption, columns, found)]


def _over_seeds(group: Sequence[Row], population: str) -> Accuracy:
    single = [interval(row.record.class_means[population]) for row in group]
    return Accuracy(*shown_interval([value for value, _ in single], single[0][1]))


def _network(run: Measured, place: tuple[str, str]) -> list[Cell]:
    """The network's name, where the run has several."""
    return [place[0]] if len({name for name, _ in run.first}) > 1 else []


def _network_columns(run: Measured) -> list[Column]:
    return [Column("network")] if len({name for name, _ in run.first}) > 1 else []
