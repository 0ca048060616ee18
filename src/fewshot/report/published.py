"""Published numbers: config/published.csv and the look-up of a measured setting in it (config/published.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fewshot.config import AdaptationSettings, ImplantingSettings, ImprintingSettings, JointTrainingSettings, NetworkSettings
from fewshot.errors import DataError
from fewshot.report.comparable import MAIN_TABLES, OTHER, PAPERS, paper_of
from fewshot.report.paper001 import DATASETS, is_of_paper_001
from fewshot.report.papers import backbone_name, stage1_name, stage2_name

PUBLISHED = Path("config/published.csv")
"""The published numbers, from the project's root."""

COLUMNS = (
    "paper", "table", "row", "dataset", "method", "backbone", "stage1", "stage2", "stage2_support_pooling",
    "stage2_query_pooling", "way", "shot", "population", "support_pooling", "query_pooling", "value", "ci95",
    "like_for_like", "source", "note",
)  # fmt: skip
"""Columns of published.csv."""

TABLES = ("4", "5", "2", "3", "1", "readme")
"""Tables of a paper in the order in which they are asked for a number; where two print the same cell they agree."""

_CELLS: Mapping[str, tuple[Callable[[str], float], Callable[[float], bool], str]] = {
    "way": (int, lambda value: value > 0, "a whole number above 0"),
    "shot": (int, lambda value: value > 0, "a whole number above 0"),
    "value": (float, lambda value: 0 <= value <= 100, "a number of percent, 0 to 100"),
    "ci95": (
        lambda cell: float(cell or "nan"), lambda value: math.isnan(value) or 0 <= value <= 100,
        "a number of percent, or empty where none was printed",
    ),
}  # fmt: skip
"""Column -> its value of a cell, whether that may be, and what it is to be."""

KEY = (
    "dataset", "backbone", "stage1", "stage2", "stage2_support_pooling", "stage2_query_pooling", "way", "shot",
    "population", "support_pooling", "query_pooling",
)  # fmt: skip
"""The columns that tell a paper's settings apart: rows that agree in them are one number, printed more than once."""


@dataclass(frozen=True)
class Number:
    """A published number in percent, its interval (None: not printed) and where it stands."""

    value: float
    ci95: float | None
    source: str


def load_published(path: Path = PUBLISHED) -> pd.DataFrame:
    """The published numbers: one row a cell, text columns empty where there is nothing, `value` and `ci95` as floats.

    Raises:
        DataError: the file is missing, its columns are not those of `COLUMNS`, a cell is not what its column has, or a row is
            of a paper that nothing looks up.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise DataError(f"{path}: missing; run from the project's root, or restore the file from the repository") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable csv file ({type(error).__name__}); restore it from the repository") from None
    if tuple(table.columns) != COLUMNS:
        raise DataError(f"{path}: its columns must be {','.join(COLUMNS)}; restore it from the repository")
    for column, (convert, fits, words) in _CELLS.items():
        found = []
        for line, cell in enumerate(table[column], start=2):
            try:
                found.append(convert(cell))
                right = fits(found[-1])
            except ValueError:
                right = False
            if not right:
                raise DataError(f"{path}, line {line}: {column} {cell!r} is not {words}; mend the cell")
        table[column] = found
    for line, (paper, name) in enumerate(zip(table["paper"], table["table"], strict=True), start=2):
        if paper not in PAPERS:
            raise DataError(
                f"{path}, line {line}: no paper {paper!r}; known are {', '.join(PAPERS)}: write {OTHER} to have it "
                "listed, or make it known in src/fewshot/report/comparable.py (config/published.md)"
            )
        if paper in MAIN_TABLES and name not in (*TABLES, "text"):
            raise DataError(f"{path}, line {line}: paper {paper} has no table {name!r}; known are {', '.join(TABLES)}, text")
    return table


class Published:
    """Look-up of the papers' own numbers by what was trained and how it was tested."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table
        self._numbers: dict[tuple[Hashable, ...], Number] = {}
        own = table[table["paper"].isin(list(MAIN_TABLES)) & (table["stage1"] != "")]
        for (paper, *key), rows in own.groupby(["paper", *KEY], sort=False):
            tables = sorted(rows["table"])
            printed = f"Table{'s' if len(tables) > 1 else ''} {', '.join(tables)}"
            where = f"paper {paper}, {'README' if tables == ['readme'] else printed}"
            first = tables.index(min(tables, key=TABLES.index))
            value, ci95 = rows.sort_values("table")[["value", "ci95"]].to_numpy(float)[first].tolist()
            self._numbers[(paper, *key)] = Number(value, None if math.isnan(ci95) else ci95, where)

        extended = table[table["paper"] == "001"]
        self._extended = {
            (row["dataset"], row["stage2"], int(row["way"]), int(row["shot"]), row["population"]): Number(
                float(row["value"]), None, f"paper 001, Table {row['table']}"
            )
            for row in extended.to_dict("records")
        }

    def find(
        self,
        dataset: str,
        network: NetworkSettings,
        adaptation: AdaptationSettings | None,
        *,
        image_size: int,
        way: int,
        shot: int,
        population: str,
        support_pooling: str,
        query_pooling: str,
    ) -> Number | None:
        """A paper's number for a setting, or None where none has it or has it for other networks or images only.

        `image_size` is in pixels. How stage 1 was trained may differ: see `deviations`.
        """
        if isinstance(adaptation, ImprintingSettings | JointTrainingSettings):
            if not is_of_paper_001(dataset, network, image_size):
                return None
            stage2_001 = stage2_name(adaptation)
            if adaptation.finetuning is None:  # without training, the base classes beside them change nothing among novel ones
                stage2_001 = stage2_001.removesuffix("-transfer")
            return self._extended.get((DATASETS[dataset], stage2_001, way, shot, population))
        paper = paper_of(dataset, network, adaptation, image_size, shot)
        if paper is None:
            return None
        stage2 = (stage2_name(adaptation), "", "")
        if isinstance(adaptation, ImplantingSettings):
            stage2 = (adaptation.method, adaptation.support_pooling, adaptation.query_pooling)
        trained = (paper, dataset, backbone_name(network), stage1_name(network), *stage2)
        return self._numbers.get((*trained, way, shot, population, support_pooling, query_pooling))
