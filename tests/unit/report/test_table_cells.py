"""What stands in the cells of the tables, and what their captions say."""

from collections.abc import Callable

import numpy as np
import pytest

from fewshot.report.published import Published, load_published
from fewshot.report.rendering import Accuracy, Difference, as_csv
from fewshot.report.results import make_rows, read_settings, read_store
from fewshot.report.tables import accuracy_tables
from tests.unit.report.made_tables import MINI, Make, heads, tables, text


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


@pytest.mark.parametrize(("way", "beside"), [(5, True), (3, False)])
def test_published_numbers_stand_beside_tasks_of_as_many_classes(made_run: Make, way: int, beside: bool) -> None:
    found, rows = tables(made_run(**{**MINI, "evaluation": {**MINI["evaluation"], "way": way}}))
    assert any(row.published is not None for row in rows) == beside
    assert ("references" in found) == beside
    assert ("TADAM \u2020" in {row[0] for row in found["methods"].rows} if "methods" in found else False) == beside
    assert all(("Nothing is published" in table.caption) != beside for name, table in found.items() if name == "poolings")
    assert any("published" in title for title in heads(found["poolings"])) == beside


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


def test_later_work_is_marked_like_for_like_or_not(made_run: Make) -> None:
    found, _ = tables(made_run())
    table, wide = found["references"], "ResNet-12, 64-160-320-640"
    rows = {(row[0], row[2], row[1]): text(table, i) for i, row in enumerate(table.rows)}
    assert rows["RFS-simple", "inductive", wide][3:6] == ["42.60", "59.10", "yes"]
    assert rows["DeepEMD", "inductive", wide][5] == "no"
    assert rows["EASY, 3 networks", "transductive", "3 x resnet12"][5] == "no"


def test_gains_stand_beside_the_differences_of_the_papers_averages(made_run: Make) -> None:
    found, _ = tables(made_run())
    table = found["gains"]
    rows = {(row[0], row[1], row[2]): row for row in table.rows}
    gain = rows["ResNet-12: DC + IMP over DC", "5-shot", "novel"]
    assert gain[3] == "20"
    assert str(gain[5]) == "+0.58"  # 57.63 - 57.05
    assert str(rows["ResNet-12: DC over GAP", "1-shot", "novel"][5]) == "+1.02"
    assert rows["ResNet-12: DC over GAP", "5-shot", "both"][5] is None


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
