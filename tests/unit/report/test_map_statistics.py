"""Measures of activation maps against plain loops, case by case."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fewshot.intervals import t_quantile
from fewshot.report import drawing, map_drawing
from fewshot.report.activation_maps import CASES, Example
from fewshot.report.map_statistics import COLUMNS, relative_roughness, roughness, statistics_table

WORDS = {case: words.format("gap", "dense") for case, words in CASES.items()}


def test_roughness_is_the_mean_step_to_a_neighbour() -> None:
    values = np.array([[0.0, 0.5, 0.5], [1.0, 0.25, 0.0]], dtype=np.float32)
    steps = [0.5, 0.0, 0.75, 0.25, 1.0, 0.25, 0.5]
    assert roughness(values) == pytest.approx(sum(steps) / 7)
    assert roughness(np.full((5, 5), 0.3, dtype=np.float32)) == 0
    assert roughness(np.array([[0.2, 0.6]], dtype=np.float32)) == pytest.approx(0.4)
    assert math.isnan(roughness(np.ones((1, 1), dtype=np.float32)))


def test_relative_roughness_is_of_any_two_locations_and_of_no_scale() -> None:
    values = np.array([[0.0, 0.5], [1.0, 0.25]], dtype=np.float32)
    pairs = [0.5, 1.0, 0.25, 0.5, 0.25, 0.75]  # of the four locations, any two
    assert relative_roughness(values) == pytest.approx(np.mean([0.5, 1.0, 0.25, 0.75]) / np.mean(pairs))
    assert relative_roughness(values / 7 + 0.1) == pytest.approx(relative_roughness(values), rel=1e-5)
    slope = np.arange(25, dtype=np.float32).reshape(5, 5)
    noise = np.random.default_rng(0).permutation(25).astype(np.float32).reshape(5, 5)
    assert relative_roughness(slope) < 0.5 < relative_roughness(noise)
    assert math.isnan(relative_roughness(np.full((5, 5), 0.3, dtype=np.float32)))


def judged(count: int, side: int = 3) -> list[Example]:
    rng = np.random.default_rng(0)
    kinds = [
        (population, first, second) for population in ("base", "novel") for first in (True, False) for second in (True, False)
    ]
    return [
        Example(
            kinds[i % len(kinds)], i, 0, (0, 0), tuple(rng.random((2, side, side)).astype(np.float32)),
            tuple(rng.integers(0, 10, 2) / 9),
        )
        for i in range(count)
    ]  # fmt: skip


def test_every_case_is_measured_over_its_images() -> None:
    """All base and all novel images too, of whatever case."""
    images = judged(50)
    table = statistics_table(images, WORDS, ("gap", "dense"))
    assert list(table.columns) == COLUMNS
    assert list(dict.fromkeys(table["case"])) == ["base", "novel", *WORDS.values()]
    assert len(table) == 4 * 6
    for row in table.itertuples():
        chosen = [one for one in images if row.case in (one.case[0], WORDS.get(one.case))]
        assert row.images == len(chosen) > 3
        pairs = []
        for one in chosen:
            if row.measure == "located":
                pairs.append([100 * share for share in one.located])
            elif row.measure == "probability":
                pairs.append([sum(sum(map(float, line)) for line in values) / 9 for values in one.maps])
            else:
                function = {"roughness": roughness, "relative_roughness": relative_roughness}[row.measure]
                pairs.append([function(values) for values in one.maps])
        first, second = np.mean(pairs, axis=0)
        differences = [pair[1] - pair[0] for pair in pairs]
        assert (row.first, row.second) == pytest.approx((first, second), rel=1e-5)
        assert row.difference == pytest.approx(second - first, rel=1e-4, abs=1e-6)
        half = t_quantile(len(chosen) - 1) * np.std(differences, ddof=1) / len(chosen) ** 0.5
        assert row.ci95 == pytest.approx(half, rel=1e-4)
        assert (row.first_network, row.second_network) == ("gap", "dense")


def test_a_map_of_one_location_has_no_roughness_and_a_case_without_images_no_row() -> None:
    table = statistics_table(judged(1, side=1), WORDS, ("gap", "dense"))
    assert table[["case", "measure"]].to_numpy().tolist() == [
        ["base", "probability"], ["base", "located"], ["base, both right", "probability"], ["base, both right", "located"],
    ]  # fmt: skip
    assert statistics_table([], WORDS, ("gap", "dense")).empty
    (one,) = judged(1)
    mixed = statistics_table([replace(one, maps=(one.maps[0], one.maps[1][:1, :1]))], WORDS, ("gap", "dense"))
    assert set(mixed["measure"]) == {"probability", "located"}, "of one network's map alone there is nothing to compare"


@pytest.mark.parametrize("count", [0, 50])
@pytest.mark.parametrize("names", [("gap", "dense"), ("gap", "gap")])
def test_the_figure_shows_both_networks_of_every_case(count: int, names: tuple[str, str]) -> None:
    table = statistics_table(judged(count), WORDS, names)
    with drawing.style():
        figure = map_drawing.map_statistics(table, "title")
        panels = figure.axes
        assert len(panels) == 4
        cases = ["base", "novel", *WORDS.values()]
        for ax, measure in zip(panels, map_drawing.MAP_MEASURES, strict=True):
            expected = table[table["measure"] == measure]
            assert len(ax.lines) == (2 if count else 0)
            for line, column in zip(ax.lines, ("first", "second"), strict=False):
                assert list(line.get_xdata()) == pytest.approx(list(expected[column]))
                assert line.get_label() == names[column == "second"]
                assert max(line.get_xdata()) < ax.get_xlim()[1]
            if count:
                labels = [text.get_text().rpartition(" (")[0] for text in panels[0].get_yticklabels()]
                assert [labels[round(place)] for place in ax.lines[0].get_ydata()] == cases
