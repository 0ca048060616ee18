"""Which tables a run fills, and what stands in their cells."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewshot.config import load
from fewshot.plan import Plan
from fewshot.report.published import Published, load_published
from fewshot.report.rendering import Accuracy, Difference, Table, as_csv
from fewshot.report.results import Row, make_rows, read_settings, read_store
from fewshot.report.tables import accuracy_tables

Make = Callable[..., Plan]

MINI: dict[str, Any] = {
    "dataset": {"name": "miniimagenet"},
    "stage1": {
        "networks": {
            "gap": {"backbone": {"name": "resnet12"}, "classifier": {"pooling": "gap"}},
            "dense": {"backbone": {"name": "resnet12"}, "classifier": {"pooling": "dense"}},
        }
    },
    "stage2": {
        "implants": {"method": "implanting"},
        "implants-gmp": {"method": "implanting", "support_pooling": "gmp", "query_pooling": "dense"},
    },
    "evaluation": {
        "shots": [5],
        "tasks": 10,
        "queries": 3,
        "tests": [
            {
                "networks": ["gap", "dense"],
                "poolings": ["gmp/gmp", "gmp/dense", "gap/gap", "gap/dense"],
                "populations": ["novel", "base", "both"],
            },
            {"networks": ["dense"], "adaptation": "implants", "poolings": ["gap/gap", "gap/gmp", "gap/dense"]},
            {"networks": ["dense"], "adaptation": "implants-gmp", "poolings": ["gap/gap", "gap/gmp", "gap/dense"]},
        ],
    },
    "activation_maps": None,
}


def tables(plan: Plan) -> tuple[dict[str, Table], list[Row]]:
    published = load_published()
    store = read_store(plan)
    rows = make_rows(plan, read_settings(plan, store), store, Published(published))
    return {table.name: table for table in accuracy_tables(plan, rows, published)}, rows


def heads(table: Table) -> list[str]:
    return [column.title for column in table.columns]


def text(table: Table, row: int) -> list[str]:
    return ["" if cell is None else str(cell) for cell in table.rows[row]]


def measured(rows: list[Row], network: str, adaptation: str, setting: str, population: str = "novel") -> str:
    row = next(row for row in rows if row.place == (network, adaptation, setting, population))
    return f"{row.accuracy:.2f} ± {row.ci95:.2f}"


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


def test_the_difference_is_measured_less_published_with_the_interval_of_both(made_run: Make) -> None:
    found, rows = tables(made_run())
    row = next(row for row in rows if row.place == ("r12-dense", "as-trained", "5shot-gap-dense", "novel"))
    cell = found["methods"].rows[2][8]
    assert isinstance(cell, Difference)
    assert cell.value == pytest.approx(row.accuracy - 57.05)
    assert cell.ci95 == pytest.approx(np.hypot(row.ci95, 0.16))
    assert str(cell) == f"{row.accuracy - 57.05:+.2f} ± {np.hypot(row.ci95, 0.16):.2f}"


def test_literature_that_is_not_like_for_like_is_marked(made_run: Make) -> None:
    plan = made_run()
    published = load_published()
    published.loc[published["row"] == "TADAM [31]", "like_for_like"] = "no"
    store = read_store(plan)
    rows = make_rows(plan, read_settings(plan, store), store, Published(published))
    table = accuracy_tables(plan, rows, published)[0]
    assert [row[0] for row in table.rows[-2:]] == ["Prototypical networks (Oreshkin et al.) †", "TADAM † ‡"]
    assert "‡: not like for like" in table.caption


def test_what_the_run_left_out_of_the_papers_table_is_an_empty_cell(made_run: Make) -> None:
    found, _ = tables(made_run(**MINI))
    table = found["methods"]
    wide = next(row for row in table.rows if row[0] == "DC + WIDE")
    assert wide[3:] == [None, Accuracy(78.25, 0.14), None]
    assert [row[0] for row in table.rows].count("GAP") == 1


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


def test_networks_that_the_paper_does_not_have_stand_beside_no_number(made_run: Make) -> None:
    """A narrow ResNet-12: its rows are without a published number, and the paper's rows follow as not run."""
    networks = {name: {**network, "backbone": {"name": "resnet12", "widths": [8, 16, 32, 64]}} for name, network in
                MINI["stage1"]["networks"].items()}  # fmt: skip
    found, rows = tables(made_run(**{**MINI, "stage1": {"networks": networks}}))
    assert all(row.published is None for row in rows)
    assert any("widths 8-16-32-64 instead of 64-128-256-512" in row.deviations for row in rows)
    assert {text(found["poolings"], i)[j] for i in range(6) for j in (5, 6, 8, 9, 11, 12, 14, 15)} == {""}
    methods = [(row[0], row[3] is None, row[4]) for row in found["methods"].rows]
    assert ("GAP", False, None) in methods
    assert {row[1] for row in found["methods"].rows if row[3] is not None} == {"ResNet-12 (8-16-32-64)"}
    assert ("GAP", True, Accuracy(76.40, 0.13)) in methods
    assert ("DC + IMP", True, Accuracy(79.77, 0.19)) in methods


def test_shape_of_table_1(made_run: Make) -> None:
    found, rows = tables(made_run())
    table = found["stage1"]
    assert [row[:2] for row in table.rows] == [["C128F", "GAP"], ["ResNet-12", "GAP"], ["ResNet-12", "DC"]]
    assert text(table, 2)[2] == measured(rows, "r12-dense", "as-trained", "1shot-gmp-gmp")
    assert " Over 40 tasks. " in table.caption  # implants are not in it
    assert " Over 40 tasks; DC + IMP: 20 of them." in found["methods"].caption


@pytest.mark.parametrize(("way", "beside"), [(5, True), (3, False)])
def test_published_numbers_stand_beside_tasks_of_as_many_classes(made_run: Make, way: int, beside: bool) -> None:
    found, rows = tables(made_run(**{**MINI, "evaluation": {**MINI["evaluation"], "way": way}}))
    assert any(row.published is not None for row in rows) == beside
    assert ("references" in found) == beside
    assert ("TADAM \u2020" in {row[0] for row in found["methods"].rows} if "methods" in found else False) == beside
    assert all(("Nothing is published" in table.caption) != beside for name, table in found.items() if name == "poolings")
    assert any("published" in title for title in heads(found["poolings"])) == beside


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


@pytest.mark.parametrize(
    ("usual", "others", "words"),
    [
        (40, {}, " Over 40 tasks. "),
        (40, {"r12-gap": 20}, " Over 40 tasks; GAP, ResNet-12: 20 of them. "),
        (1, {"r12-gap": 2, "r12-dense": 40}, " Over 40 tasks; GAP, ResNet-12: 2 of them; GAP, C128F: 1 of them. "),
    ],
)
def test_how_many_tasks_a_table_is_of(made_run: Make, usual: int, others: dict[str, int], words: str) -> None:
    tests = [{"networks": ["small-gap"], "tasks": usual, "shots": [1]}]
    tests += [{"networks": ["small-gap"], "tasks": usual, "poolings": ["gap/gmp"], "shots": [1]}]
    tests += [{"networks": [name], "tasks": count, "shots": [1]} for name, count in others.items()]
    found, _ = tables(made_run(evaluation={"shots": [1], "tasks": 40, "queries": 3, "tests": tests}))
    assert words in next(iter(found.values())).caption


def test_the_number_of_tasks_is_that_of_the_cells_shown(made_run: Make) -> None:
    """The other poolings of a network are in another table, with a number of tasks of their own."""
    tests = [
        {"networks": ["r12-gap"]},
        {"networks": ["r12-dense"], "poolings": ["gap/dense"]},
        {"networks": ["r12-dense"], "poolings": ["gap/gap", "gap/gmp"], "tasks": 20},
    ]
    found, _ = tables(made_run(evaluation={"shots": [5], "tasks": 40, "queries": 3, "tests": tests}, activation_maps=None))
    assert " Over 40 tasks. " in found["methods"].caption
    assert " Over 20 tasks; DC, GAP / DC: over 40. " in found["poolings"].caption


@pytest.mark.parametrize(("seeds", "over"), [([0], "over tasks"), ([0, 1, 2], "over 3 seeds")])
def test_captions_say_what_the_intervals_are_over(made_run: Make, seeds: list[int], over: str) -> None:
    found, _ = tables(made_run(seeds=seeds))
    assert f"measured, the interval {over} by Student's t" in found["methods"].caption
    assert found["gains"].caption.split(";")[1].partition(".")[0].endswith(over)
    assert not any("Intervals are over tasks" in table.caption for table in found.values())


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


def test_later_work_is_marked_like_for_like_or_not(made_run: Make) -> None:
    found, _ = tables(made_run())
    table, wide = found["references"], "ResNet-12, 64-160-320-640"
    rows = {(row[0], row[2], row[1]): text(table, i) for i, row in enumerate(table.rows)}
    assert rows["RFS-simple", "inductive", wide][3:6] == ["42.60", "59.10", "yes"]
    assert rows["DeepEMD", "inductive", wide][5] == "no"
    assert rows["EASY, 3 networks", "transductive", "3 x resnet12"][5] == "no"


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


def test_gains_stand_beside_the_differences_of_the_papers_averages(made_run: Make) -> None:
    found, _ = tables(made_run())
    table = found["gains"]
    rows = {(row[0], row[1], row[2]): row for row in table.rows}
    gain = rows["ResNet-12: DC + IMP over DC", "5-shot", "novel"]
    assert gain[3] == "20"
    assert str(gain[5]) == "+0.58"  # 57.63 - 57.05
    assert str(rows["ResNet-12: DC over GAP", "1-shot", "novel"][5]) == "+1.02"
    assert rows["ResNet-12: DC over GAP", "5-shot", "both"][5] is None


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


def test_csv_has_numbers(made_run: Make) -> None:
    found, _ = tables(made_run())
    lines = as_csv(found["methods"]).splitlines()
    assert lines[0].startswith("method,backbone,testing,1-shot measured,1-shot measured ci95,1-shot published,")
    assert lines[-1] == "TADAM †,ResNet-12,,,,40.10,0.40,,,,,56.10,0.40,,"


def test_over_several_seeds_a_cell_is_their_mean_with_the_interval_over_them(made_run: Make) -> None:
    found, rows = tables(made_run(seeds=[0, 1, 2]))
    place = ("r12-dense", "as-trained", "5shot-gap-dense", "novel")
    means = np.array([row.accuracy for row in rows if row.place == place])
    assert len(means) == 3
    cell = found["methods"].rows[2][6]
    assert isinstance(cell, Accuracy)
    assert cell.value == pytest.approx(means.mean())
    assert cell.ci95 == pytest.approx(4.30265273 * means.std(ddof=1) / np.sqrt(3))


def test_literature_of_which_it_is_unknown_is_not_said_to_be_like_for_like(made_run: Make) -> None:
    plan, published = made_run(), load_published()
    published.loc[published["row"] == "TADAM [31]", "like_for_like"] = "unknown"
    store = read_store(plan)
    rows = make_rows(plan, read_settings(plan, store), store, Published(published))
    table = accuracy_tables(plan, rows, published)[0]
    assert table.rows[-1][0] == "TADAM † ‡"


def test_validation_classes_stand_beside_no_published_number(made_run: Make) -> None:
    found, _ = tables(made_run(**{**MINI, "evaluation": {**MINI["evaluation"], "part": "val"}}))
    assert "references" not in found
    assert not any("published" in head for table in found.values() for head in heads(table))
    assert found["methods"].reported == 0


def test_a_gain_is_of_the_same_seeds_on_the_same_tasks(made_run: Make, edit_record: Callable[..., None]) -> None:
    plan = made_run(seeds=[0, 1])
    found, rows = tables(plan)
    gains = {(row[0], row[1], row[2]): row[4] for row in found["gains"].rows}
    gain = gains["ResNet-12: DC + IMP over DC", "5-shot", "novel"]
    tested = {
        (row.record.adaptation, row.record.network.seed): row.record.accuracies["novel"][:20]
        for row in rows
        if row.record.network.name == "r12-dense" and row.place[2:] == ("5shot-gap-dense", "novel")
    }
    differences = [(tested["implants", seed] - tested["as-trained", seed]).mean() for seed in (0, 1)]
    assert isinstance(gain, Difference)
    assert gain.value == pytest.approx(np.mean(differences))
    assert gain.ci95 == pytest.approx(12.7062047 * np.std(differences, ddof=1) / np.sqrt(2))
    for evaluation in plan.evaluations:
        if evaluation.adaptation == "implants":
            edit_record(plan.evaluation_dir(evaluation) / "settings.json", episodes={"5": "others"})
    assert not any("IMP over DC" in str(row[0]) for row in tables(plan)[0]["gains"].rows)


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
