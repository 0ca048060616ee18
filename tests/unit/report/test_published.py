"""The published numbers: what config/published.csv holds and how a setting finds its number."""

import re
from pathlib import Path

import pandas as pd
import pytest

from fewshot.config import ImplantingSettings, NetworkSettings
from fewshot.errors import DataError
from fewshot.report.published import COLUMNS, Number, Published, load_published

ROOT = Path(__file__).parents[2]
PAPER = ROOT.parent / "shared" / "papers" / "000_f21c17c572d92b5e.txt"
KEY = [
    "dataset", "backbone", "stage1", "stage2", "stage2_support_pooling", "stage2_query_pooling", "way", "shot", "population",
    "support_pooling", "query_pooling",
]  # fmt: skip


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return load_published(ROOT / "config" / "published.csv")


@pytest.fixture(scope="module")
def own(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["paper"] == "000") & (table["stage1"] != "")]


def network(name: str = "resnet12", pooling: str = "dense", kind: str = "cosine", wide: int = 0) -> NetworkSettings:
    backbone = {"name": name} | ({"wide": wide} if wide else {})
    return NetworkSettings.model_validate({"backbone": backbone, "classifier": {"pooling": pooling, "kind": kind}})


def test_every_cell_of_the_five_tables_is_there(own: pd.DataFrame) -> None:
    assert own.groupby("table").size().to_dict() == {"1": 12, "2": 24, "3": 12, "4": 11, "5": 8}


def test_values_are_percent_and_words_are_the_configs(table: pd.DataFrame) -> None:
    assert table["value"].between(20, 100).all()
    assert (table["ci95"].dropna() > 0).all()
    assert set(table["dataset"]) == {"miniimagenet", "fc100"}
    assert set(table["population"]) == {"novel", "base", "both"}
    assert set(table["like_for_like"]) == {"yes", "no"}
    assert (table["source"] != "").all()


@pytest.mark.parametrize("number", ["2", "3"])
def test_keys_within_a_table_are_unique(own: pd.DataFrame, number: str) -> None:
    assert not own[own["table"] == number].duplicated(KEY).any()


def test_tables_that_print_the_same_setting_agree(own: pd.DataFrame) -> None:
    shared = own.groupby(KEY)[["value", "ci95"]].nunique()
    assert (shared == 1).all(axis=None)
    assert own.duplicated(KEY).sum() == 7  # GAP three times in 1 and 4, once more in 2; DC 2 = 1 and 2 = 4; IMP 3 = 4


@pytest.mark.parametrize(
    ("settings", "where", "number"),
    [
        (network(), ("miniimagenet", 1, "novel", "gap/dense"), Number(62.53, 0.19, "paper 000, Table 4")),
        (network(), ("miniimagenet", 5, "novel", "gap/dense"), Number(78.95, 0.13, "paper 000, Tables 2, 4")),
        (network(), ("miniimagenet", 5, "novel", "gmp/gmp"), Number(79.01, 0.13, "paper 000, Tables 1, 2")),
        (network(), ("miniimagenet", 5, "both", "gap/dense"), Number(67.78, 0.10, "paper 000, Table 2")),
        (network(pooling="gap"), ("miniimagenet", 5, "base", "gmp/dense"), Number(77.17, 0.11, "paper 000, Table 2")),
        (network(pooling="gap"), ("miniimagenet", 5, "novel", "gap/gap"), Number(76.40, 0.13, "paper 000, Tables 1, 2, 4")),
        (network("c128f"), ("miniimagenet", 10, "novel", "gmp/gmp"), Number(74.61, 0.13, "paper 000, Table 1")),
        (network(wide=16), ("miniimagenet", 10, "novel", "gap/dense"), Number(82.03, 0.12, "paper 000, Table 4")),
        (network(), ("fc100", 10, "novel", "gap/dense"), Number(61.91, 0.16, "paper 000, Table 5")),
    ],
)
def test_a_setting_finds_its_number(
    table: pd.DataFrame, settings: NetworkSettings, where: tuple[str, int, str, str], number: Number
) -> None:
    dataset, shot, population, pair = where
    support, query = pair.split("/")
    found = Published(table).find(
        dataset, settings, None, way=5, shot=shot, population=population, support_pooling=support, query_pooling=query
    )
    assert found == number


@pytest.mark.parametrize(
    ("training", "query", "value"),
    [("gap/gap", "dense", 79.77), ("gap/gap", "gmp", 74.57), ("gmp/dense", "gmp", 79.37), ("gap/dense", "gap", 79.56)],
)
def test_table_3_is_told_apart_by_the_training_of_stage_2(table: pd.DataFrame, training: str, query: str, value: float) -> None:
    support_training, query_training = training.split("/")
    stage2 = ImplantingSettings.model_validate(
        {"method": "implanting", "support_pooling": support_training, "query_pooling": query_training}
    )
    found = Published(table).find(
        "miniimagenet", network(), stage2, way=5, shot=5, population="novel", support_pooling="gap", query_pooling=query
    )
    assert found is not None
    assert found.value == value


@pytest.mark.parametrize(
    ("settings", "dataset", "way", "pair"),
    [
        (network(), "glyphs", 5, "gap/dense"),
        (network(), "fc100", 10, "gap/dense"),
        (network(), "fc100", 5, "gmp/gmp"),
        (network("conv64"), "fc100", 5, "gap/dense"),
        (network(pooling="gap", kind="linear"), "fc100", 5, "gap/gap"),
    ],
)
def test_what_the_paper_did_not_do_has_no_number(
    table: pd.DataFrame, settings: NetworkSettings, dataset: str, way: int, pair: str
) -> None:
    support, query = pair.split("/")
    found = Published(table).find(
        dataset, settings, None, way=way, shot=5, population="novel", support_pooling=support, query_pooling=query
    )
    assert found is None


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        load_published(tmp_path / "none.csv")
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="its columns must be"):
        load_published(other)
    assert len(COLUMNS) == 20


@pytest.mark.shared
@pytest.mark.skipif(not PAPER.exists(), reason="the paper's text is not beside the project")
def test_numbers_are_the_papers(table: pd.DataFrame) -> None:
    """Every value and interval stands in the paper's text in this form, as often as the tables print it."""
    lines = [re.sub(r"</?b>|</?math>|\$|\\pm|<math>\\pm", " ", line) for line in PAPER.read_text().splitlines()]
    printed = re.findall(r"(\d\d\.\d\d)(?:\s*±?\s+(\d\.\d{1,2})\b)?", "\n".join(line.replace("±", " ") for line in lines))
    found = pd.Series([(float(value), float(ci95) if ci95 else None) for value, ci95 in printed]).value_counts()
    rows = table[(table["paper"] == "000") & (table["table"] != "text")]
    wanted = pd.Series(
        [(value, None if pd.isna(ci95) else ci95) for value, ci95 in zip(rows["value"], rows["ci95"], strict=True)]
    ).value_counts()
    assert {key: count for key, count in wanted.items() if found.get(key, 0) < count} == {}
