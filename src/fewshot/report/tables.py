"""Tables in the papers' shape, measured and published side by side: what goes into which cell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from fewshot.plan import AS_TRAINED, Plan
from fewshot.report.papers import BACKBONES, LABELS, backbone_name, is_of_the_paper, stage1_name, usual_pooling
from fewshot.report.published import Published
from fewshot.report.rendering import Accuracy, Cell, Column, Table
from fewshot.report.results import Row
from fewshot.report.statistics import seed_interval

PAIRS = ("gmp/gmp", "gmp/dense", "gap/gap", "gap/dense", "gap/gmp", "gmp/gap")
"""Support/query poolings at testing, in the order of the paper's Table 2, then those of its Table 3."""
MARK = "\u2020"
"""Beside methods whose numbers are as reported in the literature."""


# --- contents --------------------------------------------------------------------------------------------------------


class _Measured:
    """The run's rows by network, adaptation, shot, poolings and population; seeds put together."""

    def __init__(self, plan: Plan, rows: Sequence[Row], published: pd.DataFrame) -> None:
        self.plan, self.table = plan, published
        self.published = Published(published)
        self.dataset, self.image_size = plan.config.dataset.name, plan.config.dataset.image_size
        self.shots = sorted({row.record.evaluated.shot for row in rows})
        order = list(plan.config.stage1.networks)
        rows = sorted(rows, key=lambda row: (order.index(row.record.network.name), row.record.adaptation != AS_TRAINED))
        self.first: dict[tuple[str, str], Row] = {}
        self.groups: dict[tuple[str, str, int, str, str], list[Row]] = {}
        for row in rows:
            record = row.record
            place = (record.network.name, record.adaptation)
            self.first.setdefault(place, row)
            pair = f"{record.evaluated.support_pooling}/{record.evaluated.query_pooling}"
            self.groups.setdefault((*place, record.evaluated.shot, pair, row.population), []).append(row)
        self.any_published = bool((published["dataset"] == self.dataset).any()) and plan.config.evaluation.part == "test"

    def pairs(self, place: tuple[str, str], shot: int | None = None) -> list[str]:
        found = {key[3] for key in self.groups if key[:2] == place and shot in (None, key[2])}
        return [pair for pair in PAIRS if pair in found]

    def populations(self, place: tuple[str, str], shot: int) -> set[str]:
        """Populations that were evaluated; `novel` where none was."""
        return {key[4] for key in self.groups if key[:3] == (*place, shot)} or {"novel"}

    def cells(self, place: tuple[str, str], shot: int, pair: str, population: str = "novel") -> list[Cell]:
        """Measured, and published where the data set has published numbers at all."""
        group = self.groups.get((*place, shot, pair, population), [])
        measured: Cell = None
        if group:
            mean, over_seeds = seed_interval([row.accuracy for row in group])
            measured = Accuracy(mean, group[0].ci95 if over_seeds is None else over_seeds)
        return [measured, self.number(place, shot, pair, population)] if self.any_published else [measured]

    def number(self, place: tuple[str, str], shot: int, pair: str, population: str = "novel") -> Accuracy | None:
        record = self.first[place].record
        support, query = pair.split("/")
        found = self.published.find(
            self.dataset, record.network.settings, record.adaptation_settings, image_size=self.image_size, way=record.way,
            shot=shot, population=population, support_pooling=support, query_pooling=query,
        )  # fmt: skip
        return None if found is None else Accuracy(found.value, found.ci95)

    def columns(self, groups: Iterable[str]) -> list[Column]:
        names = ("measured", "published") if self.any_published else ("measured",)
        return [Column(name, group, numbers=True) for group in groups for name in names]

    def backbone(self, place: tuple[str, str]) -> str:
        return _backbone(backbone_name(self.first[place].record.network.settings))

    @property
    def caption(self) -> str:
        evaluation = self.plan.config.evaluation
        seeds = len(self.plan.config.seeds)
        spread = (
            "the interval over tasks, 1.96 s / sqrt(tasks) with the sample standard deviation s"
            if seeds == 1
            else f"the interval over {seeds} seeds by Student's t (summary.csv has those over tasks)"
        )
        nothing = "" if self.any_published else " Nothing is published for this data set and these classes."
        return f"{evaluation.way}-way accuracy in percent; ± is half the 95 % interval: measured, {spread}.{nothing}"


def accuracy_tables(plan: Plan, rows: Sequence[Row], published: pd.DataFrame) -> list[Table]:
    """The tables that the run's settings can fill, in reading order.

    Args:
        plan: of the run.
        rows: of its summary.
        published: the published numbers.
    """
    run = _Measured(plan, rows, published)
    found = [_methods(run), _stage1(run), _poolings(run), _stage2_poolings(run), _references(run)]
    return [table for table in found if table is not None]


def _methods(run: _Measured) -> Table:
    """Shape of Tables 4 and 5: methods by shots, each tested as the paper tests it; then methods as reported."""
    rows: list[list[Cell]] = []
    measured = set()
    for place, first in run.first.items():
        settings = first.record.network.settings
        pairs = run.pairs(place)
        usual = usual_pooling(settings)
        pair = usual if usual in pairs else pairs[0]
        if is_of_the_paper(run.dataset, settings, first.record.adaptation_settings, run.image_size):
            measured.add((backbone_name(settings), stage1_name(settings), first.record.adaptation != AS_TRAINED))
        cells = [cell for shot in run.shots for cell in run.cells(place, shot, pair)]
        rows.append([first.method, run.backbone(place), _pair(pair), *cells])
    reported = []
    if run.any_published:
        own = run.table[
            (run.table["paper"] == "000") & run.table["table"].isin(["4", "5"]) & (run.table["dataset"] == run.dataset)
        ]
        for (_, method, backbone), group in own.groupby(["row", "method", "backbone"], sort=False):
            first_row = group.iloc[0]
            literature = first_row["stage1"] == ""
            if not literature and (backbone, first_row["stage1"], first_row["stage2"] != AS_TRAINED) in measured:
                continue
            pair = "" if literature else _pair(f"{first_row['support_pooling']}/{first_row['query_pooling']}")
            cells = [cell for shot in run.shots for cell in (None, _reported(group, shot))]
            name = f"{method} {MARK}" if literature else str(method)
            reported.append([name, _backbone(str(backbone)), pair, *cells])
    caption = run.caption + " Testing: pooling of support / query features."
    if reported:
        caption += f" {MARK}: as reported in the literature, by way of paper 000. Rows without a measured number were not run."
    columns = [
        Column("method"),
        Column("backbone"),
        Column("testing"),
        *run.columns(f"{shot}-shot" for shot in run.shots),
    ]
    return Table("methods", "Accuracy on novel classes", caption, columns, rows + reported, len(reported))


def _stage1(run: _Measured) -> Table | None:
    """Shape of Table 1: networks as trained; those trained densely tested with global max-pooling."""
    chosen = {"gap": "gap/gap", "dense": "gmp/gmp"}
    rows: list[list[Cell]] = []
    dense = False
    for place, first in run.first.items():
        pooling = first.record.network.settings.classifier.pooling
        pair = chosen.get(pooling, "")
        if place[1] == AS_TRAINED and pair in run.pairs(place):
            dense = dense or pooling == "dense"
            cells = [cell for shot in run.shots for cell in run.cells(place, shot, pair)]
            rows.append([run.backbone(place), first.method, *cells])
    if not dense:
        return None
    caption = run.caption + " As trained; GMP on support and queries for DC, GAP on both otherwise (paper 000, Table 1)."
    columns = [Column("backbone"), Column("stage 1"), *run.columns(f"{shot}-shot" for shot in run.shots)]
    return Table("stage1", "Stage 1 only, accuracy on novel classes", caption, columns, rows)


def _poolings(run: _Measured) -> Table | None:
    """Shape of Table 2: populations by pooling at testing, networks as trained; where more than the usual was tested."""
    wanted = [
        (place, shot)
        for place in run.first
        for shot in run.shots
        if place[1] == AS_TRAINED and (len(run.pairs(place, shot)) > 1 or run.populations(place, shot) != {"novel"})
    ]
    pairs = [pair for pair in PAIRS if any(pair in run.pairs(place, shot) for place, shot in wanted)]
    rows: list[list[Cell]] = []
    for place, shot in wanted:
        for population in ("base", "novel", "both"):
            cells = [run.cells(place, shot, pair, population) for pair in pairs]
            if any(cell[0] is not None for cell in cells):
                flat = [cell for pair_cells in cells for cell in pair_cells]
                rows.append([run.first[place].method, run.backbone(place), f"{shot}-shot", population, *flat])
    if not rows:
        return None
    caption = run.caption + " As trained. Heads: pooling of support / query features at testing (paper 000, Table 2)."
    if any(row[3] != "novel" for row in rows):
        caption += " Base: held-out images among all base classes; both: base and novel queries among all classes together."
    columns = [
        Column("stage 1"),
        Column("backbone"),
        Column("shots"),
        Column("classes"),
        *run.columns(map(_pair, pairs)),
    ]
    return Table("poolings", "Pooling at testing, stage 1 only", caption, columns, rows)


def _stage2_poolings(run: _Measured) -> Table | None:
    """Shape of Table 3: poolings of stage-2 training by pooling at testing."""
    places = [place for place in run.first if place[1] != AS_TRAINED]
    pairs = [pair for pair in PAIRS if any(pair in run.pairs(place) for place in places)]
    if len(pairs) < 2 and len(places) == len({place[0] for place in places}):
        return None
    rows: list[list[Cell]] = []
    for place in places:
        first = run.first[place]
        settings = first.record.adaptation_settings
        assert settings is not None  # noqa: S101 - places are of adapted networks
        for shot in run.shots:
            if not run.pairs(place, shot):
                continue
            training = [LABELS[settings.support_pooling], LABELS[settings.query_pooling]]
            cells = [cell for pair in pairs for cell in run.cells(place, shot, pair)]
            rows.append([first.method, run.backbone(place), f"{shot}-shot", *training, *cells])
    caption = run.caption + " Heads: pooling of support / query features at testing (paper 000, Table 3)."
    columns = [
        Column("method"),
        Column("backbone"),
        Column("shots"),
        Column("support", "stage 2"),
        Column("queries", "stage 2"),
    ]
    return Table(
        "stage2_poolings",
        "Pooling in stage 2 and at testing, novel classes",
        caption,
        columns + run.columns(map(_pair, pairs)),
        rows,
    )


def _references(run: _Measured) -> Table | None:
    """Later work on the same data set."""
    later = run.table[(run.table["paper"] == "other") & (run.table["dataset"] == run.dataset)]
    if later.empty or not run.any_published:
        return None
    shots = sorted(later["shot"].unique())
    keys = ["table", "row", "backbone", "source", "like_for_like", "note"]
    rows: list[list[Cell]] = []
    for (setting, row, backbone, source, like, note), group in later.groupby(keys, sort=False):
        cells: list[Cell] = [_reported(group, shot) for shot in shots]
        rows.append([str(row), _backbone(str(backbone)), str(setting), *cells, str(like), str(source), str(note)])
    caption = (
        "5-way accuracy in percent on novel classes, as published. Like for like: base classes only, inductive, "
        "the set's usual image size; unknown where that size is not recorded."
    )
    numbers = [Column("published", f"{shot}-shot", numbers=True) for shot in shots]
    columns = [Column("method"), Column("backbone"), Column("setting"), *numbers]
    columns += [Column("like for like"), Column("source"), Column("note")]
    return Table("references", "Other published results", caption, columns, rows, len(rows))


def _reported(group: pd.DataFrame, shot: int) -> Accuracy | None:
    rows = group[group["shot"] == shot]
    if rows.empty:
        return None
    value, ci95 = float(rows["value"].iloc[0]), float(rows["ci95"].iloc[0])
    return Accuracy(value, None if math.isnan(ci95) else ci95)


def _pair(pair: str) -> str:
    return " / ".join(LABELS[name] for name in pair.split("/"))


def _backbone(name: str) -> str:
    return BACKBONES.get(name, name)
