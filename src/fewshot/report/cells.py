"""What stands in a table's cell: measured, published and their difference, looked up by network, shot and poolings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import pandas as pd

from fewshot.config import AS_TRAINED, BackboneSettings, RunConfig, TorchvisionSettings
from fewshot.plan import Plan
from fewshot.report.papers import LABELS, backbone_title
from fewshot.report.published import Published
from fewshot.report.rendering import Accuracy, Cell, Column, Difference
from fewshot.report.results import Row
from fewshot.report.statistics import shown_interval

PAIRS = ("gmp/gmp", "gmp/dense", "gap/gap", "gap/dense", "gap/gmp", "gmp/gap", "flatten/flatten")
"""Support/query poolings at testing, in the order of the paper's Table 2; then the rest."""
ADAPTED_PAIRS = ("gap/gap", "gap/gmp", "gap/dense", "gmp/gap", "gmp/gmp", "gmp/dense")
"""The same in the order of its Table 3."""

Key = tuple[str, str, int, str, str]
"""Of a cell: network, adaptation, shot, poolings, population."""


class Measured:
    """The run's rows by network, adaptation, shot, poolings and population; seeds put together."""

    def __init__(self, plan: Plan, rows: Sequence[Row], published: pd.DataFrame) -> None:
        self.plan = plan
        self.published = Published(published)
        self.dataset = plan.config.dataset.name
        self.image_size = plan.config.dataset.image_size or 0  # found from one's own images, of which no paper has numbers
        self.shots = sorted({row.record.evaluated.shot for row in rows})
        order = list(plan.config.stage1.networks)
        rows = sorted(rows, key=lambda row: (row.record.adaptation != AS_TRAINED, order.index(row.record.network.name)))
        self.first: dict[tuple[str, str], Row] = {}
        self.groups: dict[Key, list[Row]] = {}
        for row in rows:
            record = row.record
            place = (record.network.name, record.adaptation)
            self.first.setdefault(place, row)
            pair = f"{record.evaluated.support_pooling}/{record.evaluated.query_pooling}"
            self.groups.setdefault((*place, record.evaluated.shot, pair, row.population), []).append(row)
        self.shown: set[Key] = set()
        alike = (published["dataset"] == self.dataset) & (published["way"] == plan.config.evaluation.way)
        self.table = published[alike]  # of this data set, in tasks of as many classes
        self.any_published = not self.table.empty and plan.config.evaluation.part == "test"
        if plan.config.evaluation.way == "all":  # numbers of one network and one set of classes: columns only where some fit
            self.any_published = any(row.published is not None for row in rows)

    def pairs(self, place: tuple[str, str], shot: int | None = None) -> list[str]:
        """Support/query poolings that a network was tested with, in the order of PAIRS."""
        found = {key[3] for key in self.groups if key[:2] == place and shot in (None, key[2])}
        return [pair for pair in PAIRS if pair in found]

    def populations(self, place: tuple[str, str], shot: int) -> set[str]:
        """Populations that were evaluated; `novel` where none was."""
        return {key[4] for key in self.groups if key[:3] == (*place, shot)} or {"novel"}

    def cells(self, place: tuple[str, str], shot: int, pair: str, population: str = "novel") -> list[Cell]:
        """Measured; and, where the data set has published numbers at all, published and the difference."""
        key = (*place, shot, pair, population)
        group = self.groups.get(key, [])
        measured: Accuracy | None = None
        if group:
            self.shown.add(key)
            measured = Accuracy(*shown_interval([row.accuracy for row in group], group[0].ci95))
        if not self.any_published:
            return [measured]
        number = self.number(place, shot, pair, population)
        return [measured, number, difference(measured, number)]

    def number(self, place: tuple[str, str], shot: int, pair: str, population: str = "novel") -> Accuracy | None:
        """The paper's number of a cell."""
        record = self.first[place].record
        support, query = pair.split("/")
        found = self.published.find(
            self.dataset, record.network.settings, record.adaptation_settings, image_size=self.image_size, way=record.way,
            shot=shot, population=population, support_pooling=support, query_pooling=query,
        )  # fmt: skip
        return None if found is None else Accuracy(found.value, found.ci95)

    def columns(self, groups: Iterable[str]) -> list[Column]:
        """The columns of each group of cells."""
        names = ("measured", "published", "difference") if self.any_published else ("measured",)
        return [Column(name, group, numbers=True) for group in groups for name in names]

    def backbone(self, place: tuple[str, str]) -> str:
        """A network's backbone as tables write it, with its widths where its name does not say them."""
        settings = self.first[place].record.network.settings
        return backbone_title(settings) + _widths(settings.backbone)

    def tasks(self) -> str:
        """How many tasks the numbers shown are means over, in words: those of most cells, and the cells that have others."""
        counts = {key: self.groups[key][0].record.evaluated.tasks for key in self.groups if key in self.shown}
        found: dict[int, list[Key]] = {}
        for key, count in counts.items():
            found.setdefault(count, []).append(key)
        usual, *others = sorted(found, key=lambda count: (-len(found[count]), -count))
        words = []
        for count in sorted(others, reverse=True):
            names = dict.fromkeys(self._name(key, counts) for key in found[count])
            words.append(f"; {', '.join(names)}: {f'{count:,} of them' if count < usual else f'over {count:,}'}")
        return f"Over {usual:,} {'task' if usual == 1 else 'tasks'}{''.join(words)}."

    def _name(self, key: Key, counts: Mapping[Key, int]) -> str:
        """The method of a cell shown, and as much more as tells it from its cells of other numbers of tasks."""

        def words(one: Key) -> tuple[str, ...]:
            network, adaptation, shot, pair, population = one
            return self.backbone((network, adaptation)), f"{shot}-shot", pair_title(pair), population

        method, own = self.first[key[:2]].method, words(key)
        alike = {words(one): count for one, count in counts.items() if self.first[one[:2]].method == method}
        for size in range(len(own) + 1):
            for chosen in combinations(range(len(own)), size):
                if {count for its, count in alike.items() if all(its[i] == own[i] for i in chosen)} == {counts[key]}:
                    return ", ".join((method, *(own[i] for i in chosen)))
        return f"{method} [{key[0]}]"

    def caption(self) -> str:
        """What a table of accuracies says of the numbers that it shows."""
        config = self.plan.config
        more = " (summary.csv has those over tasks)" if len(config.seeds) > 1 else ""
        nothing = (
            " Difference: measured less published, with the interval of both."
            if self.any_published
            else (" Nothing is published for this data set and these classes.")
        )
        what = "Accuracy" if config.evaluation.way == "all" else f"{config.evaluation.way}-way accuracy"
        spread = f"the interval {spread_of(config)} by Student's t{more}"
        return f"{what} in percent; ± is half the 95 % interval: measured, {spread}. {self.tasks()}{nothing}"


def spread_of(config: RunConfig) -> str:
    """What the intervals of a run's tables and figures are over: tasks, draws of the exemplars, or seeds."""
    if len(config.seeds) > 1:
        return f"over {len(config.seeds)} seeds"
    return "over draws of the exemplars" if config.evaluation.way == "all" else "over tasks"


def _widths(backbone: BackboneSettings) -> str:
    """` (16-32-64-128)`: the widths of a backbone that has others than those its name stands for, its settings' defaults."""
    if isinstance(backbone, TorchvisionSettings) or not backbone.shape:
        return ""
    fields = type(backbone).model_fields
    has_usual = not any(field.is_required() for name, field in fields.items() if name != "name")
    usual = type(backbone).model_validate({"name": backbone.name}).shape if has_usual else ""
    return "" if backbone.shape == usual else f" ({backbone.shape})"


def difference(measured: Accuracy | None, published: Accuracy | None) -> Difference | None:
    """Measured less published, in points, with the interval of two independent means."""
    if measured is None or published is None:
        return None
    both = (measured.ci95, published.ci95) if measured.has_interval and published.has_interval else None
    return Difference(measured.value - published.value, None if both is None else math.hypot(both[0] or 0, both[1] or 0))


def reported(group: pd.DataFrame, shot: int) -> Accuracy | None:
    """A published row's number at a number of shots."""
    rows = group[group["shot"] == shot]
    if rows.empty:
        return None
    value, ci95 = float(rows["value"].iloc[0]), float(rows["ci95"].iloc[0])
    return Accuracy(value, None if math.isnan(ci95) else ci95)


def pair_title(pair: str) -> str:
    """`gap/dense` as `GAP / DC`."""
    return " / ".join(LABELS[name] for name in pair.split("/"))
