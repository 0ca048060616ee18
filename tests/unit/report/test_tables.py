"""Which tables a run fills, with which rows."""

from pathlib import Path

import pytest

from fewshot.config import load
from fewshot.report.rendering import Accuracy, Difference
from tests.unit.report.made_tables import MINI, Make, heads, measured, tables, text


def test_methods_beside_the_paper_then_the_literature(made_run: Make) -> None:
    found, rows = tables(made_run())
    table = found["methods"]
    assert heads(table) == [
        "method", "backbone", "testing", "1-shot measured", "1-shot published", "1-shot difference", "5-shot measured",
        "5-shot published", "5-shot difference",
    ]  # fmt: skip
    assert [row[0] for row in table.rows[:4]] == ["GAP", "GAP", "DC", "DC + IMP"]
    one, five = (measured(rows, "r12-dense", "as-trained", f"{shot}shot-gap-dense") for shot in (1, 5))
    cells = text(table, 2)
    assert cells[:5] + cells[6:8] == ["DC", "ResNet-12", "GAP / DC", one, "42.04 ± 0.17", five, "57.05 ± 0.16"]
    assert text(table, 3)[3:6] == ["", "", ""]  # implants are not tested at 1 shot, and the paper has none
    assert text(table, 0)[4:6] == ["", ""]  # the paper has no C128F on FC100
    assert table.reported == 2
    assert text(table, -1) == ["TADAM †", "ResNet-12", "", "", "40.10 ± 0.40", "", "", "56.10 ± 0.40", ""]
    assert "†: as reported in the literature, by way of paper 000; like for like" in table.caption


def test_what_the_paper_tested_otherwise_is_a_row_of_its_own(made_run: Make) -> None:
    """DC tested with pooled queries alone: the paper's densely tested row is not measured, and stands below."""
    tests = [{"networks": ["gap", "dense"], "poolings": ["gap/gap"]}]
    table = tables(made_run(**{**MINI, "stage2": {}, "evaluation": {**MINI["evaluation"], "tests": tests}}))[0]["methods"]
    assert [row[:3] for row in table.rows if row[0] == "DC"] == [
        ["DC", "ResNet-12", "GAP / GAP"],
        ["DC", "ResNet-12", "GAP / DC"],
    ]
    first, second = (row[3:] for row in table.rows if row[0] == "DC")
    assert (first[1], second) == (Accuracy(78.55, 0.13), [None, Accuracy(78.95, 0.13), None])  # of Tables 2 and 4
    assert [row[0] for row in table.rows].count("GAP") == 1


def test_shape_of_table_1(made_run: Make) -> None:
    found, rows = tables(made_run())
    table = found["stage1"]
    assert [row[:2] for row in table.rows] == [["C128F", "GAP"], ["ResNet-12", "GAP"], ["ResNet-12", "DC"]]
    assert text(table, 2)[2] == measured(rows, "r12-dense", "as-trained", "1shot-gmp-gmp")
    assert " Over 40 tasks. " in table.caption  # implants are not in it
    assert " Over 40 tasks; DC + IMP: 20 of them." in found["methods"].caption


def test_a_backbone_of_other_widths_than_its_name_says_them(made_run: Make) -> None:
    backbones = {
        "usual": {"name": "conv64"}, "narrow": {"name": "conv64", "widths": [8, 8, 16, 16]},
        "wrn": {"name": "wide_resnet"}, "thin": {"name": "wide_resnet", "depth": 10, "width": 2},
        "resnet18": {"name": "resnet18", "weights": "imagenet"},
    }  # fmt: skip
    found, _ = tables(
        made_run(
            stage1={"networks": {name: {"backbone": backbone} for name, backbone in backbones.items()}},
            evaluation={"shots": [1], "tasks": 4, "queries": 3, "tests": [{"networks": list(backbones)}]},
            activation_maps=None,
        )
    )
    own = found["methods"].rows[: len(backbones)]
    assert [row[1] for row in own] == ["Conv-64", "Conv-64 (8-8-16-16)", "WRN", "WRN (10-2)", "ResNet-18"]


def test_a_run_of_both_populations_alone_has_no_table_of_novel_classes(made_run: Make) -> None:
    tests = [{"networks": ["r12-gap", "r12-dense"], "populations": ["both"]}]
    found, _ = tables(made_run(evaluation={"shots": [5], "tasks": 4, "queries": 3, "tests": tests}))
    assert "methods" not in found
    assert "poolings" in found


def test_a_network_tested_on_both_alone_has_no_row_of_novel_classes(made_run: Make) -> None:
    tests = [{"networks": ["r12-gap"]}, {"networks": ["r12-dense"], "populations": ["both"]}]
    found, _ = tables(made_run(evaluation={"shots": [5], "tasks": 4, "queries": 3, "tests": tests}))
    own = found["methods"].rows[: len(found["methods"].rows) - found["methods"].reported]
    assert [row[0] for row in own] == ["GAP"]


def test_shape_of_table_2(made_run: Make) -> None:
    found, rows = tables(made_run(**MINI))
    table = found["poolings"]
    assert heads(table)[4:] == [
        f"{pair} {kind}"
        for pair in ("GMP / GMP", "GMP / DC", "GAP / GAP", "GAP / DC")
        for kind in ("measured", "published", "difference")
    ]
    assert [(row[0], row[3]) for row in table.rows] == [(m, p) for m in ("GAP", "DC") for p in ("base", "novel", "both")]
    assert "Base: held-out images among all 2 base classes (chance 50 %);" in table.caption
    both = text(table, 5)
    assert both[4] == measured(rows, "dense", "as-trained", "5shot-gmp-gmp", "both")
    assert both[5::3] == ["42.45 ± 0.07", "57.98 ± 0.10", "67.53 ± 0.10", "67.78 ± 0.10"]


def test_shape_of_table_3(made_run: Make) -> None:
    found, rows = tables(made_run(**MINI))
    table = found["stage2_poolings"]
    assert heads(table)[3:5] == ["stage 2 support", "stage 2 queries"]
    assert [row[0] for row in table.rows] == ["DC + IMP", "DC + IMP"]
    assert [row[3:5] for row in table.rows] == [["GAP", "GAP"], ["GMP", "DC"]]
    assert heads(table)[5::3] == ["GAP / GAP measured", "GAP / GMP measured", "GAP / DC measured"]
    assert text(table, 1)[5] == measured(rows, "dense", "implants-gmp", "5shot-gap-gap")
    assert text(table, 1)[6::3] == ["79.06 ± 0.19", "79.37 ± 0.18", "79.15 ± 0.19"]


def test_a_set_without_published_numbers_has_no_columns_for_them(made_run: Make) -> None:
    found, _ = tables(made_run(dataset={"name": "glyphs", "image_size": 16}))
    assert "references" not in found
    assert heads(found["methods"])[3:] == ["1-shot measured", "5-shot measured"]
    assert "Nothing is published" in found["methods"].caption


RUNS = Path(__file__).parents[3] / "config" / "runs"


@pytest.mark.parametrize(
    ("name", "first", "others", "cells"),
    [
        ("000_table1_networks", "stage1", {"gains"}, 12),
        ("000_table2_poolings", "poolings", {"methods", "gains"}, 24),
        ("000_table3_implants", "stage2_poolings", set(), 12),
        ("000_table4_methods", "methods", {"gains"}, 11),
        ("000_table5_fc100", "methods", {"gains"}, 8),
    ],
)
def test_the_run_of_a_papers_table_fills_that_table(
    made_run: Make, name: str, first: str, others: set[str], cells: int
) -> None:
    """It comes first, every cell measured that the paper prints, in the paper's order of rows; none is left out."""
    config = load(RUNS / f"{name}.yaml").as_dict()
    small = {"tasks": 10, "queries": 2, "tests": [{**test, "tasks": None} for test in config["evaluation"]["tests"]]}
    found, _ = tables(made_run(**{**config, "evaluation": {**config["evaluation"], **small}}))
    assert next(iter(found)) == first
    assert set(found) == {first, "references"} | others
    table = found[first]
    own = table.rows[: len(table.rows) - table.reported]
    numbers = [
        (row[i], row[i + 1], row[i + 2]) for row in own for i, head in enumerate(heads(table)) if head.endswith(" measured")
    ]
    full = [cell for cell in numbers if None not in cell]
    assert len(full) == cells
    # Implants have no 1-shot cell: nothing can be left out.
    assert [cell for cell in numbers if cell not in full] == [(None, None, None)] * (first == "methods")
    if table.reported:
        assert len(table.rows) - len(own) == {"000_table4_methods": 5, "000_table5_fc100": 2}[name]


def test_widening_is_compared_with_the_plain_network(made_run: Make) -> None:
    networks = {
        "dense": {"backbone": {"name": "resnet12"}, "classifier": {"pooling": "dense"}},
        "wide": {"backbone": {"name": "resnet12", "wide": 16}, "classifier": {"pooling": "dense"}},
    }
    evaluation = {
        "shots": [5],
        "tasks": 10,
        "queries": 2,
        "tests": [{"networks": ["dense", "wide"], "poolings": ["gap/dense"]}],
    }
    found, rows = tables(
        made_run(dataset={"name": "miniimagenet"}, stage1={"networks": networks}, evaluation=evaluation, activation_maps=None)
    )
    (gain,) = found["gains"].rows
    assert gain[0] == "ResNet-12: DC + WIDE over DC"
    dense, wide = rows
    assert isinstance(gain[4], Difference)
    assert gain[4].value == pytest.approx(wide.accuracy - dense.accuracy)
    assert str(gain[5]) == "-0.70"


@pytest.mark.parametrize(("pooling", "there"), [("gmp", True), ("gap", True), ("dense", False)])
def test_only_densely_trained_networks_tested_with_maxima_alone_are_left_to_table_1(
    made_run: Make, pooling: str, there: bool
) -> None:
    networks = {"one": {"backbone": {"name": "c128f"}, "classifier": {"pooling": pooling}}}
    evaluation = {"shots": [1], "tasks": 4, "queries": 3, "tests": [{"networks": ["one"], "poolings": ["gmp/gmp"]}]}
    found, _ = tables(made_run(stage1={"networks": networks}, stage2={}, evaluation=evaluation, activation_maps=None))
    assert ("methods" in found and found["methods"].rows[0][2] == "GMP / GMP") == there


def test_every_population_of_an_extended_classifier_stands_in_a_table(made_run: Make) -> None:
    populations = ["novel", "base", "both", "novel_in_all", "base_in_all", "all"]
    tests = [
        {"networks": ["small-gap"], "poolings": ["gap/gap", "gap/dense"]},
        {"networks": ["small-gap"], "adaptation": "imprinted", "populations": populations},
    ]
    evaluation = {"way": 3, "shots": [1, 5], "tasks": 4, "queries": 3, "tests": tests}
    found, rows = tables(made_run(stage2={"imprinted": {"method": "imprinting"}}, evaluation=evaluation, activation_maps=None))
    table = found["populations"]
    assert {row[2] for row in table.rows} == set(populations)
    name = heads(table).index("5-shot measured")
    for row in table.rows:
        assert str(row[name]) == measured(rows, "small-gap", "imprinted", "5shot-gap-gap", str(row[2]))
    assert "novel_in_all: novel classes among all;" in table.caption


def test_an_ordinary_run_has_no_table_3(made_run: Make) -> None:
    found, _ = tables(made_run())
    assert "populations" not in found
    assert "stage2_poolings" not in found


@pytest.mark.parametrize(
    ("tested", "left"), [("mapped", "GAP (linear) + Act2Param (multi-view)"), ("mapped-views", "GAP (linear) + Act2Param")]
)
def test_one_view_and_ten_crops_are_two_rows_of_paper_004(made_run: Make, tested: str, left: str) -> None:
    """What is not measured stands there all the same, with the paper's number alone."""
    config = load(RUNS / "004_miniimagenet.yaml").as_dict()
    tests = [{"networks": ["simple-80"], "adaptation": tested}]
    evaluation = {**config["evaluation"], "tasks": 4, "queries": 3, "tests": tests}
    found, _ = tables(made_run(**{**config, "evaluation": evaluation, "class_vectors": None}))
    rows = [text(found["methods"], i) for i, row in enumerate(found["methods"].rows) if row[1] == "Conv-64"]
    assert [cells[3] != "" for cells in rows] == [True, False]
    assert [cells[4] != "" for cells in rows] == [True, True]
    assert rows[1][0] == left
    assert "†" not in found["methods"].caption  # paper 004's table has nobody else's methods
    assert found["methods"].caption.endswith("Rows without a measured number were not run.")
