"""The published numbers: what config/published.csv holds."""

from pathlib import Path
from typing import get_args

import pandas as pd
import pytest

from fewshot.config import DatasetSettings, load
from fewshot.errors import DataError
from fewshot.report.comparable import PAPERS
from fewshot.report.published import COLUMNS, KEY, load_published

ROOT = Path(__file__).parents[3]


def test_every_cell_of_the_five_tables_is_there(own: pd.DataFrame) -> None:
    assert own.groupby("table").size().to_dict() == {"1": 12, "2": 24, "3": 12, "4": 11, "5": 8}


@pytest.mark.parametrize(
    ("number", "cells", "values", "intervals"),
    [
        ("1", 12, 835.97, 1.76),
        ("2", 24, 1648.76, 2.65),
        ("3", 12, 942.19, 2.33),
        ("4", 23, 1608.69, 8.09),
        ("5", 14, 748.44, 4.02),
    ],
)
def test_no_cell_of_the_paper_is_lost_or_changed(
    table: pd.DataFrame, number: str, cells: int, values: float, intervals: float
) -> None:
    """Sums over the printed tables, literature rows included; added up from the paper's text, not from the file."""
    rows = table[(table["paper"] == "000") & (table["table"] == number)]
    assert len(rows) == cells
    assert rows["value"].sum() == pytest.approx(values)
    assert rows["ci95"].sum() == pytest.approx(intervals)


@pytest.mark.parametrize(
    ("setting", "dataset", "methods", "cells", "values"),
    [
        ("inductive", "miniimagenet", 46, 92, 6799.67),
        ("inductive", "fc100", 21, 41, 2151.79),  # DeepEMD v2 has no 5-shot number
        ("transductive", "miniimagenet", 8, 16, 1289.30),
        ("transductive", "fc100", 1, 2, 120.99),
    ],
)
def test_no_later_number_is_lost(
    table: pd.DataFrame, setting: str, dataset: str, methods: int, cells: int, values: float
) -> None:
    rows = table[(table["table"] == setting) & (table["dataset"] == dataset)]
    assert len(rows.groupby(["row", "backbone", "source"])) == methods
    assert len(rows) == cells
    assert rows["value"].sum() == pytest.approx(values)


@pytest.mark.parametrize(
    ("row", "dataset", "numbers", "like"),
    [
        ("MAML [5]", "miniimagenet", {1: 48.70, 5: 63.10}, {"yes"}),
        ("Inv-equi", "fc100", {1: 47.76, 5: 65.30}, {"yes"}),
        ("RFS-distill", "fc100", {1: 44.6, 5: 60.9}, {"yes"}),
        ("DeepEMD", "fc100", {1: 46.47, 5: 63.22}, {"no"}),  # 84 px
        ("MABAS", "fc100", {1: 42.31, 5: 58.16}, {"unknown"}),
        ("MetaOptNet-SVM, trained on train and val", "fc100", {1: 47.2, 5: 62.5}, {"no"}),
        ("P>M>F", "miniimagenet", {1: 95.3, 5: 98.4}, {"no"}),
        ("TIM on FEAT features", "miniimagenet", {1: 74.3, 5: 84.2}, {"no"}),
    ],
)
def test_later_numbers_and_whether_they_compare(
    table: pd.DataFrame, row: str, dataset: str, numbers: dict[int, float], like: set[str]
) -> None:
    rows = table[(table["row"] == row) & (table["dataset"] == dataset)]
    assert dict(zip(rows["shot"], rows["value"], strict=True)) == numbers
    assert set(rows["like_for_like"]) == like


def test_what_is_not_known_to_compare_is_unknown(table: pd.DataFrame) -> None:
    unrecorded = table["note"].str.contains("size of input not recorded")
    assert set(table.loc[unrecorded, "like_for_like"]) == {"unknown"}
    assert set(table.loc[table["like_for_like"] == "unknown", "note"].str.contains("not recorded")) == {True}
    for words in ("upsampled", "extra images", "external data", "large input", "trained on the validation classes"):
        assert set(table.loc[table["note"].str.contains(words), "like_for_like"]) == {"no"}, words


def test_what_is_transductive_is_never_like_for_like(table: pd.DataFrame) -> None:
    assert set(table.loc[table["table"] == "transductive", "like_for_like"]) == {"no"}


@pytest.mark.parametrize(
    ("number", "rows", "values"),
    [("1", 30, 931.79), ("2", 30, 1524.93), ("3", 25, 879.43), ("4", 25, 906.2)],
)
def test_no_cell_of_paper_001_is_lost_or_changed(table: pd.DataFrame, number: str, rows: int, values: float) -> None:
    """Sums over the printed tables, added up from the paper's text, not from the file."""
    own = table[(table["paper"] == "001") & (table["table"] == number)]
    assert len(own) == rows
    assert own["value"].sum() == pytest.approx(values)
    assert not own.duplicated(["dataset", "stage2", "way", "shot", "population"]).any()


def test_values_are_percent_and_words_are_the_configs(table: pd.DataFrame) -> None:
    assert set(table.loc[table["dataset"].isin(["cub-halves", "inaturalist2017"]), "table"]) == {*"1234", "reproduction"}
    assert table["value"].between(0, 100).all()
    table = table[~table["dataset"].isin(["cub-halves", "inaturalist2017"])]
    assert table["value"].between(100 / table["way"], 100).all(), "no better than chance"
    assert table.loc[table["paper"] != "other", "value"].ge(20).all()
    assert (table["ci95"].dropna() > 0).all()
    known = {name for one in get_args(get_args(DatasetSettings)[0]) for name in get_args(one.model_fields["name"].annotation)}
    assert {"miniimagenet", "fc100", "omniglot"} <= set(table["dataset"]) <= known
    assert set(table["population"]) == {"novel", "base", "both"}
    assert set(table["like_for_like"]) == {"yes", "no", "unknown"}
    assert (table["source"] != "").all()


@pytest.mark.parametrize("number", ["2", "3"])
def test_keys_within_a_table_are_unique(own: pd.DataFrame, number: str) -> None:
    assert not own[own["table"] == number].duplicated(list(KEY)).any()


def test_tables_that_print_the_same_setting_agree(own: pd.DataFrame) -> None:
    shared = own.groupby(list(KEY))[["value", "ci95"]].nunique()
    assert (shared == 1).all(axis=None)
    assert own.duplicated(list(KEY)).sum() == 7  # GAP three times in 1 and 4, once more in 2; DC 2 = 1 and 2 = 4; IMP 3 = 4


@pytest.mark.parametrize("name", ["miniimagenet", "fc100", "000_table5_fc100", "cifar_fs", "cub", "omniglot", "folder"])
def test_run_files_do_not_say_what_is_said_by_itself(name: str) -> None:
    """Sentences on base images, widths, iterations and tasks are found from the settings; twice would be once too much."""
    config = load(ROOT / "config" / "runs" / f"{name}.yaml")
    assert not [text for text in config.deviations if "base" in text or "instead of" in text]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        load_published(tmp_path / "none.csv")
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="its columns must be"):
        load_published(other)
    assert len(COLUMNS) == 20


def test_no_cell_of_papers_002_and_004_is_lost(table: pd.DataFrame) -> None:
    sums = table[table["paper"].isin(["002", "004"])].groupby(["paper", "dataset"])["value"].agg(["size", "sum"])
    assert sums["size"].to_dict() == {("002", "miniimagenet"): 8, ("002", "omniglot"): 6, ("004", "miniimagenet"): 8}
    assert sums["sum"].to_dict() == pytest.approx(
        {("002", "miniimagenet"): 447.05, ("002", "omniglot"): 580.23, ("004", "miniimagenet"): 524.90}
    )


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("way", "five", "a whole number above 0"), ("shot", "", "a whole number above 0"),
        ("value", "n/a", "percent, 0 to 100"),
        ("value", "5763", "percent, 0 to 100"), ("value", "", "percent, 0 to 100"), ("ci95", "±0.2", "empty where none"),
    ],
)  # fmt: skip
def test_a_cell_that_is_no_number_is_named(tmp_path: Path, column: str, cell: str, words: str) -> None:
    """One in `way` would else make the column text, in which no setting finds its number."""
    table = pd.read_csv(ROOT / "config" / "published.csv", dtype=str, keep_default_na=False)
    table.loc[7, column] = cell
    table.to_csv(tmp_path / "published.csv", index=False)
    with pytest.raises(DataError, match=rf"published\.csv, line 9: {column} '{cell}' is not .*{words}"):
        load_published(tmp_path / "published.csv")


@pytest.mark.parametrize("paper", ["005", "0", ""])
def test_a_paper_that_nothing_looks_up_is_named(tmp_path: Path, paper: str) -> None:
    """Its rows would be shown nowhere."""
    table = pd.read_csv(ROOT / "config" / "published.csv", dtype=str, keep_default_na=False)
    table.loc[len(table) - 1, "paper"] = paper
    table.to_csv(tmp_path / "published.csv", index=False)
    said = rf"line {len(table) + 1}: no paper '{paper}'; known are 000, 001, 002, 004, other: write other .*comparable\.py"
    with pytest.raises(DataError, match=said) as caught:
        load_published(tmp_path / "published.csv")
    assert "\n" not in str(caught.value)


def test_every_known_paper_has_its_numbers(table: pd.DataFrame) -> None:
    assert set(table["paper"]) == set(PAPERS)


def test_a_table_that_a_paper_does_not_have_is_named(tmp_path: Path) -> None:
    table = pd.read_csv(ROOT / "config" / "published.csv", dtype=str, keep_default_na=False)
    table.loc[0, "table"] = "A1"
    table.to_csv(tmp_path / "published.csv", index=False)
    with pytest.raises(DataError, match=r"line 2: paper 000 has no table 'A1'; known are 4, 5, 2, 3, 1, readme, text"):
        load_published(tmp_path / "published.csv")
