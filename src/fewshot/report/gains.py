"""Gains on the same tasks: dense over GAP training, wide over plain networks, leaky over plain distance, adapted over not.

Of two networks, only where they differ in that alone: what is trained in another way beside it is no gain of the method.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fewshot.config import (
    AS_TRAINED,
    EpisodicSettings,
    LeakySquaredEuclideanSettings,
    NetworkSettings,
    SquaredEuclideanSettings,
)
from fewshot.report.papers import backbone_title, usual_pooling
from fewshot.report.results import Row
from fewshot.report.statistics import paired, shown_interval

COLUMNS = (
    "comparison", "gain", "shot", "population", "difference", "ci95", "tasks", "excludes_zero", "published",
)  # fmt: skip
"""Columns of the gains; `published` is the difference of the paper's own two averages, where it has both."""

Group = list[Row]
"""The rows of one setting and population, one a seed."""


def gains_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Paired gains in points between the settings of a run that the paper compares, over the tasks that they share.

    Every network is tested its way: as the paper's Table 4 tests it, or, where that was not run, with its first poolings.
    """
    found = []
    for comparison, before, after in _comparisons(_Index.of(rows)):
        row = _gain(before, after)
        if row is not None:
            gain = f"{backbone_title(before[0].record.network.settings)}: {after[0].method} over {before[0].method}"
            found.append({"comparison": comparison, "gain": gain, **row})
    table = pd.DataFrame(found, columns=list(COLUMNS))
    table["published"] = table["published"].astype(float)
    return table.sort_values(["comparison", "gain", "population", "shot"], kind="stable", ignore_index=True)


@dataclass(frozen=True)
class _Index:
    """(network, adaptation, shot, population) -> poolings -> the rows of its seeds."""

    groups: dict[tuple[str, str, int, str], dict[str, Group]]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Index:
        groups: dict[tuple[str, str, int, str], dict[str, Group]] = {}
        for row in rows:
            record = row.record
            key = (record.network.name, record.adaptation, record.evaluated.shot, row.population)
            pair = f"{record.evaluated.support_pooling}/{record.evaluated.query_pooling}"
            groups.setdefault(key, {}).setdefault(pair, []).append(row)
        return cls(groups)

    def tested(self, key: tuple[str, str, int, str]) -> tuple[str, Group]:
        """The poolings that a network is tested with, and its rows."""
        pairs = self.groups[key]
        first, group = next(iter(pairs.items()))
        usual = usual_pooling(group[0].record.network.settings)
        return (usual, pairs[usual]) if usual in pairs else (first, group)


def _comparisons(index: _Index) -> Iterator[tuple[str, Group, Group]]:
    """What is compared, rows before, rows after."""
    for key in index.groups:
        network, adaptation, shot, population = key
        pair, after = index.tested(key)
        if adaptation != AS_TRAINED:
            before = index.groups.get((network, AS_TRAINED, shot, population), {}).get(pair)
            if before is not None:
                yield "adapted over as trained", before, after
            continue
        settings = after[0].record.network.settings
        wide = getattr(settings.backbone, "wide", 0)
        plain = settings.backbone.model_copy(update={"wide": 0}) if wide else None
        for other in index.groups:
            if other[1:] != key[1:] or other[0] == network:
                continue
            _, before = index.tested(other)
            its = before[0].record.network.settings
            if _alike(its, _with(settings, pooling="gap")) and settings.classifier.pooling == "dense":
                yield "dense over GAP training", before, after
            elif plain is not None and _alike(its, settings.model_copy(update={"backbone": plain})):
                yield "widened over plain", before, after
            elif _leak_alone(its, settings):
                yield "leaky over plain distance", before, after


def _alike(first: NetworkSettings, second: NetworkSettings) -> bool:
    """Whether two networks differ in nothing that decides a result; how often a training reports or saves does not."""
    return first.identity() == second.identity()


def _with(network: NetworkSettings, **classifier: object) -> NetworkSettings:
    """The same network with another classifier, trained in the same way."""
    return network.model_copy(update={"classifier": network.classifier.model_copy(update=classifier)})


def _leak_alone(plain: NetworkSettings, leaky: NetworkSettings) -> bool:
    """Whether two networks trained on tasks differ in the leak of the squared Euclidean distance and nothing else."""
    first, second = plain.training.objective, leaky.training.objective
    if not (isinstance(first, EpisodicSettings) and isinstance(second, EpisodicSettings)):
        return False
    if not (
        isinstance(first.distance, SquaredEuclideanSettings) and isinstance(second.distance, LeakySquaredEuclideanSettings)
    ):
        return False
    same = first.model_copy(update={"distance": second.distance, "histograms": second.histograms})  # what is only recorded
    return _alike(plain.model_copy(update={"training": plain.training.model_copy(update={"objective": same})}), leaky)


def _gain(before: Group, after: Group) -> dict[str, Any] | None:
    """Numbers of one gain: over tasks for one seed, over the seeds' differences for several; None: no common tasks."""
    record = after[0].record
    population = after[0].population
    differences = [
        paired(first.record.accuracies[population], second.record.accuracies[population])
        for first in before
        for second in after
        if first.record.network.seed == second.record.network.seed and first.record.episodes == second.record.episodes
    ]
    if not differences:
        return None
    mean, ci95 = shown_interval([difference.difference for difference in differences], differences[0].ci95)
    numbers = (before[0].published, after[0].published)
    published = None if numbers[0] is None or numbers[1] is None else numbers[1].value - numbers[0].value
    return {
        "shot": record.evaluated.shot, "population": population, "difference": mean, "ci95": ci95,
        "tasks": differences[0].tasks, "excludes_zero": "yes" if abs(mean) > ci95 else "no", "published": published,
    }  # fmt: skip
