"""What the figures show, and that they do not change by themselves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from fewshot.intervals import t_quantile
from fewshot.plan import Plan
from fewshot.report import drawing
from fewshot.report.low_shot_drawing import accuracy_by_embedding
from fewshot.report.low_shot_figures import accuracy_table
from fewshot.report.plots import draw_figures, gains_table, published_table, shot_table, training_table
from fewshot.report.published import Published, load_published
from fewshot.report.results import Row, make_rows, read_settings, read_store

Make = Callable[..., Plan]
NAMES = {"training_curves", "accuracy_by_shot", "published_vs_measured", "paired_gains"}


def rows_of(plan: Plan) -> list[Row]:
    store = read_store(plan)
    return make_rows(plan, read_settings(plan, store), store, Published(load_published()))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("n01910747 jellyfish", "jellyfish"),
        ("n01910747", "n01910747"),
        ("001.Black_footed_Albatross", "Black footed Albatross"),
        ("maple_tree", "maple tree"),
        ("0042", "0042"),
    ],
)
def test_a_class_has_its_name_without_the_number_of_its_data_set(name, words) -> None:
    assert drawing.class_words(name) == words


def test_figures_are_the_same_bytes_each_time(made_run: Make) -> None:
    plan = made_run()
    draw_figures(plan)
    folder = plan.results / "figures"
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(first) == {f"{name}.{kind}" for name in NAMES for kind in ("svg", "csv")}
    draw_figures(plan)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    for name in NAMES:
        text = first[f"{name}.svg"].decode()
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "<dc:date>" not in text


def test_training_curves_table(made_run: Make) -> None:
    table = training_table(made_run())
    assert table.groupby(["network", "measure"]).size().to_dict() == {
        (network, measure): count
        for network in ("small-gap", "r12-gap", "r12-dense")
        for measure, count in (("loss", 12), ("accuracy", 12), ("validation_accuracy", 3))
    }
    validation = table["measure"] == "validation_accuracy"
    assert (table.loc[validation, "ci95"] == 0.8).all()
    assert table.loc[~validation, "ci95"].isna().all()


def test_accuracy_by_shot_takes_the_usual_poolings(made_run: Make) -> None:
    table = shot_table(rows_of(made_run()))
    assert len(table) == 7  # three networks at two shots, implants at one
    assert set(table["testing"]) == {"GAP/GAP", "GAP/DC"}
    assert not table.duplicated(["network", "adaptation", "shot"]).any()


def test_published_and_measured(made_run: Make) -> None:
    table = published_table(rows_of(made_run()))
    assert list(table["published"]) == [42.04, 41.02, 57.63, 57.05, 56.63]
    assert table["setting"][0] == "ResNet-12 DC, GAP/DC"


def test_gains(made_run: Make) -> None:
    plan = made_run()
    table = gains_table(rows_of(plan))
    assert [(row.comparison, row.population, row.shot) for row in table.itertuples()] == [
        ("adapted over as trained", "novel", 5),
        ("dense over GAP training", "base", 5),
        ("dense over GAP training", "both", 5),
        ("dense over GAP training", "novel", 1),
        ("dense over GAP training", "novel", 5),
    ]
    gap, dense = (
        plan.evaluation_dir(plan.evaluation(plan.network(name, 0), "as-trained")) for name in ("r12-gap", "r12-dense")
    )
    before = pd.read_parquet(gap / "1shot-gap-gap.parquet")["novel"]
    after = pd.read_parquet(dense / "1shot-gap-dense.parquet")["novel"]
    row = table.iloc[3]
    assert row["difference"] == pytest.approx(np.mean(after - before))
    assert row["ci95"] == pytest.approx(t_quantile(39) * np.std(after - before, ddof=1) / np.sqrt(40))
    assert row["gain"] == "ResNet-12: DC over GAP"


@pytest.mark.parametrize(
    ("change", "gains"),
    [
        ({}, {"DC over GAP", "DC + WIDE over DC"}),
        ({"training": {"objective": {"rotation": {}}}}, set()),
        ({"embedding": 8}, set()),
        ({"training": {"log_every": 7, "save_every": 5}}, {"DC over GAP", "DC + WIDE over DC"}),
    ],
)
def test_networks_that_differ_in_more_than_the_method_show_no_gain(made_run: Make, change: dict, gains: set) -> None:
    dense = {"backbone": {"name": "resnet12"}, "classifier": {"pooling": "dense"}}
    networks = {
        "gap": {"backbone": {"name": "resnet12"}},
        "dense": dense | change,
        "wide": dense | {"backbone": {"name": "resnet12", "wide": 16}},
    }
    tests = [{"networks": ["gap"]}, {"networks": ["dense", "wide"], "poolings": ["gap/dense"]}]
    evaluation = {"shots": [1], "tasks": 4, "queries": 3, "tests": tests}
    found = gains_table(rows_of(made_run(stage1={"networks": networks}, evaluation=evaluation, activation_maps=None)))
    assert set(found["gain"]) == {f"ResNet-12: {words}" for words in gains}


def test_a_method_on_a_gmp_trained_network_gains_over_that_network_tested_with_maxima(made_run: Make) -> None:
    network = {"backbone": {"name": "c128f"}, "classifier": {"pooling": "gmp"}}
    tests = [
        {"networks": ["gmp"], "poolings": ["gap/gap", "gmp/gmp"]},
        {"networks": ["gmp"], "adaptation": "imprinted"},
    ]
    plan = made_run(
        stage1={"networks": {"gmp": network}}, stage2={"imprinted": {"method": "imprinting"}}, activation_maps=None,
        evaluation={"shots": [1], "tasks": 8, "queries": 3, "tests": tests},
    )  # fmt: skip
    (gain,) = gains_table(rows_of(plan)).to_dict("records")
    before = pd.read_parquet(plan.evaluation_dir(plan.evaluations[0]) / "1shot-gmp-gmp.parquet")["novel"]
    after = pd.read_parquet(plan.evaluation_dir(plan.evaluations[1]) / "1shot-gmp-gmp.parquet")["novel"]
    assert gain["difference"] == pytest.approx((after - before).mean())


def test_the_leak_is_compared_whatever_is_recorded_beside_it(made_run: Make) -> None:
    def tasks(distance: dict[str, Any], **more: Any) -> dict[str, Any]:
        objective = {"kind": "episodic", "way": 3, "shot": 1, "queries": 2, "distance": distance, **more}
        network = {"backbone": {"name": "conv64"}, "classifier": {"kind": "none", "pooling": "flatten"}}
        return {**network, "training": {"objective": objective}}

    networks = {
        "plain": tasks({"name": "squared_euclidean"}),
        "leaky": tasks({"name": "leaky_squared_euclidean"}, histograms=[0, 5]),
    }
    tests = [{"networks": ["plain", "leaky"], "poolings": ["flatten/flatten"]}]
    evaluation = {"shots": [1], "tasks": 4, "queries": 3, "tests": tests}
    found = gains_table(rows_of(made_run(stage1={"networks": networks}, evaluation=evaluation, activation_maps=None)))
    assert found["comparison"].tolist() == ["leaky over plain distance"]


def test_figure_7_joins_networks_that_differ_in_the_width_alone(made_run: Make, edit_record: Callable[..., None]) -> None:
    columns = ["network", "series", "embedding", "method"]
    networks = {
        "small-8": {"backbone": {"name": "c128f"}, "embedding": 8},
        "small-16": {"backbone": {"name": "c128f"}, "embedding": 16},
        "large-8": {"backbone": {"name": "resnet12"}, "embedding": 8},
        "large-16": {"backbone": {"name": "resnet12"}, "embedding": 16},
    }
    plan = made_run(
        stage1={"networks": networks}, stage2={"imprinted": {"method": "imprinting"}}, activation_maps=None,
        evaluation={"shots": [1], "tasks": 4, "queries": 3, "tests": [
            {"networks": list(networks), "adaptation": "imprinted"}]},
    )  # fmt: skip
    for job in plan.networks:
        path = plan.network_dir(job) / "model.json"
        edit_record(path, feature_shape=[job.settings.embedding, 1, 1])
    table = accuracy_table(rows_of(plan))
    assert table[columns[:3]].drop_duplicates().to_numpy().tolist() == [
        ["small-8", "small-8", 8], ["small-16", "small-8", 16], ["large-8", "large-8", 8], ["large-16", "large-8", 16],
    ]  # fmt: skip
    with drawing.style():
        figure = accuracy_by_embedding(table, "")
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels == ["imprinting, n = 1, small-8", "imprinting, n = 1, large-8"]
        one_each = table[table["network"].isin(["small-8", "large-16"])]
        words = accuracy_by_embedding(one_each, "").axes[0].texts[0].get_text()
        assert words == "No two networks of this run differ in the width of the embedding alone."


def test_gains_over_seeds(made_run: Make) -> None:
    plan = made_run(seeds=[0, 1])
    row = gains_table(rows_of(plan)).iloc[0]
    differences = []
    for seed in (0, 1):
        folders = (
            plan.evaluation_dir(plan.evaluation(plan.network("r12-dense", seed), name)) for name in ("as-trained", "implants")
        )
        before, after = (pd.read_parquet(folder / "5shot-gap-dense.parquet")["novel"][:20] for folder in folders)
        differences.append(float((after - before).mean()))
    assert row["difference"] == pytest.approx(np.mean(differences))
    assert row["ci95"] == pytest.approx(12.7062 * np.std(differences, ddof=1) / np.sqrt(2))


def test_a_figure_without_data_says_so(tmp_path: Path) -> None:
    empty = pd.DataFrame()
    training = pd.DataFrame(columns=["network", "seed", "iteration", "measure", "value", "ci95"])
    with drawing.style():
        for figure, words in (
            (drawing.published_vs_measured(empty, "title"), "Nothing is published"),
            (drawing.paired_gains(empty, "title"), "no two settings"),
            (drawing.training_curves(training, "title"), "not recorded"),
        ):
            assert words in " ".join(text.get_text() for ax in figure.axes for text in ax.texts)
            drawing.save(figure, tmp_path / "figure.svg")


def test_a_training_of_one_point_is_seen(tmp_path: Path) -> None:
    """A line of one point has no length: the shortest trainings had empty axes."""
    table = pd.DataFrame(
        [("gap", 0, 5, "loss", 2.0, np.nan), ("gap", 0, 5, "validation_accuracy", 40.0, 3.0)]
        + [("gap", 0, step, "accuracy", 10.0 + step, np.nan) for step in (1, 2)],
        columns=["network", "seed", "iteration", "measure", "value", "ci95"],
    )
    with drawing.style():
        loss, accuracy, validation = drawing.training_curves(table, "title").axes
    assert [len(ax.containers) for ax in (loss, accuracy, validation)] == [1, 0, 1]
    (band,) = validation.containers[0].lines[2]
    (span,) = band.get_segments()
    assert span[:, 1].tolist() == [37.0, 43.0]


def test_no_two_of_many_lines_look_alike() -> None:
    found = list(drawing.looks([str(i) for i in range(60)]).values())
    assert len({(look.colour, look.marker) for look in found}) == 60
    assert len({(look.colour, look.dashes) for look in found[:30]}) == 30


def test_accuracies_are_drawn_between_0_and_100_however_wide_their_interval() -> None:
    table = pd.DataFrame(
        {"backbone": "C128F", "method": ["GAP", "DC"], "shot": 1, "accuracy": [20.0, 90.0], "ci95": [60.0, 60.0]}
        | {"setting": ["GAP", "DC"], "population": "novel", "published": [30.0, 80.0], "published_ci95": [0.1, 0.1]}
    )
    with drawing.style():
        assert drawing.accuracy_by_shot(table, "").axes[0].get_ylim() == (0, 100)
        assert drawing.published_vs_measured(table, "").axes[0].get_xlim() == (0, 100)


def test_style_leaves_no_trace() -> None:
    import matplotlib as mpl

    before = mpl.rcParams["axes.facecolor"], mpl.rcParams["svg.hashsalt"]
    with drawing.style():
        pass
    assert (mpl.rcParams["axes.facecolor"], mpl.rcParams["svg.hashsalt"]) == before
