"""Tables in the papers' shape, measured and published side by side: which rows and columns each has."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from fewshot.config import AS_TRAINED, ImplantingSettings
from fewshot.config.extension import Extension
from fewshot.plan import Plan
from fewshot.report.cells import ADAPTED_PAIRS, PAIRS, Key, Measured, pair_title, reported, spread_of
from fewshot.report.comparable import MAIN_TABLES, OTHER, paper_of
from fewshot.report.gains import gains_table
from fewshot.report.low_shot import POPULATIONS, low_shot_tables
from fewshot.report.papers import LABELS, backbone_name, backbone_title, stage1_name, stage2_name, usual_pooling
from fewshot.report.rendering import Cell, Column, Difference, Table
from fewshot.report.results import Row

MARK = "\u2020"
"""Beside methods whose numbers are as reported in the literature."""
UNLIKE = "\u2021"
"""Beside those among them that are not like for like."""


def accuracy_tables(plan: Plan, rows: Sequence[Row], published: pd.DataFrame) -> list[Table]:
    """The tables that the run's settings can fill, in reading order.

    Args:
        plan: of the run.
        rows: of its summary.
        published: the published numbers.
    """
    run = Measured(plan, rows, published)
    if plan.config.evaluation.way == "all":
        return low_shot_tables(run, rows)
    found: list[tuple[Table, set[Key]]] = []
    for make in (_methods, _stage1, _poolings, _stage2_poolings, _populations):
        run.shown = set()
        table = make(run)
        if table is not None:
            found.append((table, run.shown))
    found = sorted(found, key=lambda one: sum(one[1] < other[1] for other in found))  # a fuller table before its excerpts
    seen: set[Key] = set()
    chosen = []
    for table, shown in found:
        own = table.rows[: len(table.rows) - table.reported]
        methods = {str(row[0]).split(" [")[0] for row in own}  # less the config's names of settings of one method
        if shown - seen or (table.name == "methods" and len(methods) > 1):
            chosen.append(table)
        seen |= shown
    return [*chosen, *(table for table in (_gains(run, rows), _references(run)) if table is not None)]


def _methods(run: Measured) -> Table | None:
    """Shape of Tables 4 and 5: methods by shots, each tested as the paper tests it; then methods as reported."""
    rows: list[list[Cell]] = []
    measured, papers = set(), set()
    for place, first in run.first.items():
        settings = first.record.network.settings
        pairs = run.pairs(place)
        usual = usual_pooling(settings)
        if settings.classifier.pooling == "dense" and {"gmp/gmp"} == set(pairs):
            continue  # tested as in Table 1 alone
        pair = usual if usual in pairs else pairs[0]
        if not any((*place, shot, pair, "novel") in run.groups for shot in run.shots):
            continue  # tested on other classes alone
        paper = paper_of(run.dataset, settings, first.record.adaptation_settings, run.image_size)
        if paper is not None:
            papers.add(paper)
            stage2 = stage2_name(first.record.adaptation_settings)
            measured.add((backbone_name(settings), stage1_name(settings), _method(stage2), pair_title(pair)))
        cells = [cell for shot in run.shots for cell in run.cells(place, shot, pair)]
        rows.append([first.method, run.backbone(place), pair_title(pair), *cells])
    if not run.shown:
        return None
    literature = _literature(run, measured, papers or {"000"})
    marks = " ".join(str(row[0]) for row in literature)
    caption = run.caption() + " Testing: pooling of support / query features."
    if MARK in marks:
        caption += f" {MARK}: as reported in the literature, by way of paper {', '.join(sorted(papers or {'000'}))}; "
        caption += f"{UNLIKE}: not like for like" if UNLIKE in marks else "like for like"
        caption += " (base classes only, inductive, the usual image size)."
    if literature:
        caption += " Rows without a measured number were not run."
    columns = [
        Column("method"),
        Column("backbone"),
        Column("testing"),
        *run.columns(f"{shot}-shot" for shot in run.shots),
    ]
    return Table("methods", "Accuracy on novel classes", caption, columns, rows + literature, len(literature))


def _literature(run: Measured, measured: set[tuple[str, str, str, str]], papers: set[str]) -> list[list[Cell]]:
    """The rows of the papers' tables that are not `measured` with the same poolings; those of others' methods are marked."""
    rows: list[list[Cell]] = []
    if not run.any_published:
        return rows
    main = pd.MultiIndex.from_tuples([(paper, number) for paper in papers for number in MAIN_TABLES[paper]])
    places = pd.MultiIndex.from_frame(run.table[["paper", "table"]])
    own = run.table[places.isin(main)]
    for (_, method, backbone), group in own.groupby(["row", "method", "backbone"], sort=False):
        first = group.iloc[0]
        literature = first["stage1"] == ""
        pair = "" if literature else pair_title(f"{first['support_pooling']}/{first['query_pooling']}")
        if not literature and (backbone, first["stage1"], _method(str(first["stage2"])), pair) in measured:
            continue
        unlike = literature and first["like_for_like"] != "yes"
        cells = [cell for shot in run.shots for cell in (None, reported(group, shot), None)]
        marks = " ".join([MARK] * literature + [UNLIKE] * unlike)
        rows.append([f"{method} {marks}".strip(), backbone_title(str(backbone)), pair, *cells])
    return rows


def _method(stage2: str) -> str:
    """A stage 2 without the poolings that it was trained with, which the tables of methods do not tell apart."""
    return stage2.partition(" ")[0]


def _stage1(run: Measured) -> Table | None:
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
    caption = run.caption() + " As trained; GMP on support and queries for DC, GAP on both otherwise (paper 000, Table 1)."
    columns = [Column("backbone"), Column("stage 1"), *run.columns(f"{shot}-shot" for shot in run.shots)]
    return Table("stage1", "Stage 1 only, accuracy on novel classes", caption, columns, rows)


def _poolings(run: Measured) -> Table | None:
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
    caption = run.caption() + " As trained. Heads: pooling of support / query features at testing (paper 000, Table 2)."
    if any(row[3] != "novel" for row in rows):
        known = {len(row.record.network.info["classes"]) for row in run.first.values()}
        among = ", ".join(f"{count} base classes (chance {100 / count:.2g} %)" for count in sorted(known))
        caption += f" Base: held-out images among all {among}; both: base and novel queries among all classes together."
        caption += " That all tasks draw base images from the same held-out ones is not in the intervals."
    columns = [
        Column("stage 1"),
        Column("backbone"),
        Column("shots"),
        Column("classes"),
        *run.columns(map(pair_title, pairs)),
    ]
    return Table("poolings", "Pooling at testing, stage 1 only", caption, columns, rows)


def _stage2_poolings(run: Measured) -> Table | None:
    """Shape of Table 3: poolings of stage-2 training by pooling at testing."""
    places = [place for place, row in run.first.items() if isinstance(row.record.adaptation_settings, ImplantingSettings)]
    pairs = [pair for pair in ADAPTED_PAIRS if any(pair in run.pairs(place) for place in places)]
    if len(pairs) < 2 and len(places) == len({place[0] for place in places}):
        return None
    rows: list[list[Cell]] = []
    for place in places:
        first = run.first[place]
        settings = first.record.adaptation_settings
        assert isinstance(settings, ImplantingSettings)  # noqa: S101 - see `places`
        for shot in run.shots:
            if not run.pairs(place, shot):
                continue
            training = [LABELS[settings.support_pooling], LABELS[settings.query_pooling]]
            cells = [cell for pair in pairs for cell in run.cells(place, shot, pair)]
            rows.append([first.method, run.backbone(place), f"{shot}-shot", *training, *cells])
    plain = [(str(row[0]).split(" [")[0], *row[1:5]) for row in rows]
    if len(set(plain)) == len(rows):  # the columns tell the settings apart: no need of the config's names
        rows = [[name[0], *row[1:]] for name, row in zip(plain, rows, strict=True)]
    caption = run.caption() + " Heads: pooling of support / query features at testing (paper 000, Table 3)."
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
        columns + run.columns(map(pair_title, pairs)),
        rows,
    )


def _populations(run: Measured) -> Table | None:
    """Populations of methods that extend the classifier, which may have more of them than networks as trained."""
    rows: list[list[Cell]] = []
    populations: list[str] = []
    for place, first in run.first.items():
        if not isinstance(first.record.adaptation_settings, Extension):
            continue
        (pair,) = run.pairs(place)
        for population in POPULATIONS:
            cells = [run.cells(place, shot, pair, population) for shot in run.shots]
            if any(cell[0] is not None for cell in cells):
                flat = [cell for shot_cells in cells for cell in shot_cells]
                rows.append([first.method, run.backbone(place), population, *flat])
                populations.append(population)
    if set(populations) <= {"novel"}:
        return None  # stands in the table of methods
    meaning = "; ".join(f"{name}: {POPULATIONS[name][0].lower()}" for name in POPULATIONS if name in populations)
    columns = [
        Column("method"),
        Column("backbone"),
        Column("classes"),
        *run.columns(f"{shot}-shot" for shot in run.shots),
    ]
    caption = f"{run.caption()} Classes: {meaning}."
    return Table("populations", "Populations, classifiers extended by novel classes", caption, columns, rows)


def _gains(run: Measured, rows: Sequence[Row]) -> Table | None:
    """Paired differences, beside those of the paper's averages."""
    found = gains_table(rows)
    if found.empty:
        return None
    with_published = run.any_published and found["published"].notna().any()
    cells: list[list[Cell]] = []
    for row in found.to_dict("records"):
        published = [None if math.isnan(row["published"]) else Difference(row["published"])] if with_published else []
        gain = Difference(row["difference"], row["ci95"])
        cells.append([row["gain"], f"{row['shot']}-shot", row["population"], f"{row['tasks']:,}", gain, *published])
    columns = [Column("gain"), Column("shots"), Column("classes"), Column("tasks"), Column("measured", numbers=True)]
    mean = "mean difference" if len(run.plan.config.seeds) == 1 else "mean of the seeds' differences"
    caption = f"Points of percent, task by task on the same tasks; ± is half the 95 % interval of the {mean}, "
    caption += f"{spread_of(run.plan.config)}."
    if with_published:
        columns.append(Column("published", numbers=True))
        caption += " Published: the difference of the paper's two averages, which it does not pair."
    return Table("gains", "Gains on the same tasks", caption, columns, cells)


def _references(run: Measured) -> Table | None:
    """Later work on the same data set."""
    later = run.table[run.table["paper"] == OTHER]
    if later.empty or not run.any_published:
        return None
    shots = sorted(later["shot"].unique())
    keys = ["table", "row", "backbone", "source", "like_for_like", "note"]
    rows: list[list[Cell]] = []
    for (setting, row, backbone, source, like, note), group in later.groupby(keys, sort=False):
        cells: list[Cell] = [reported(group, shot) for shot in shots]
        rows.append([str(row), backbone_title(str(backbone)), str(setting), *cells, str(like), str(source), str(note)])
    caption = (
        f"{run.plan.config.evaluation.way}-way accuracy in percent on novel classes, as published. Like for like: base classes "
        "only, inductive, the set's usual image size; unknown where that size is not recorded."
    )
    numbers = [Column("published", f"{shot}-shot", numbers=True) for shot in shots]
    columns = [Column("method"), Column("backbone"), Column("setting"), *numbers]
    columns += [Column("like for like"), Column("source"), Column("note")]
    return Table("references", "Other published results", caption, columns, rows, len(rows))
