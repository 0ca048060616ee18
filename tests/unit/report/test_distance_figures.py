"""A run of networks trained on tasks, from drawn images to its tables and figures."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fewshot.config import NetworkSettings, parse
from fewshot.drawings import drawings
from fewshot.errors import DataError
from fewshot.plan import Plan
from fewshot.report import drawing
from fewshot.report.assembly import assemble
from fewshot.report.distance_figures import draw_distance_figures, draw_sweep, histogram_table, sweep_table
from fewshot.report.page import write_report
from fewshot.report.plots import draw_figures


def network(training=None, **distance):
    objective = {"kind": "episodic", "distance": distance or {"name": "squared_euclidean"}}
    return {
        "backbone": {"name": "conv64", "widths": [4, 4, 8, 8], "last_pool": False},
        "classifier": {"kind": "none", "pooling": "flatten"},
        "training": {"objective": objective} | (training or {}),
    }


def leaky(s, r, **training):
    return network(training, name="leaky_squared_euclidean", s=s, r=r)


CONFIG = {
    "run": "tasks",
    "device": "cpu",
    "dataset": {"name": "glyphs", "classes": 20, "images_per_class": 20, "image_size": 16, "held_out": 0},
    "stage1": {
        "training": {
            "iterations": 4, "log_every": 2, "optimizer": {"name": "adam", "lr": 0.001, "weight_decay": 0},
            "objective": {"kind": "episodic", "way": 5, "shot": 1, "queries": 3, "histograms": [0, 2]},
            "validation": {"every": 2, "way": 3, "shot": 1, "queries": 5, "tasks": 10},
        },
        "networks": {"plain": network(), "leak": leaky(0.0, 0.01), "further": leaky(4.0, 0.01), "steeper": leaky(4.0, 0.1)},
    },
    "evaluation": {
        "way": 3, "shots": [1], "queries": 5, "tasks": 20,
        "tests": [{"networks": ["plain", "leak", "further", "steeper"], "poolings": ["flatten/flatten"]}],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, run_stages):
    plan = Plan(parse(CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        yield run_stages(plan)


def test_the_run_ends_in_tables_and_figures(run, pytestconfig):
    published = pytestconfig.rootpath / "config" / "published.csv"
    assert "draw_distance_figures" in drawings(run)
    assemble(run, published)
    draw_figures(run, published)
    draw_distance_figures(run, published)
    summary = pd.read_csv(run.results / "summary.csv")
    assert summary["stage1"].tolist() == ["squared_euclidean", *["leaky_squared_euclidean"] * 3]
    assert set(summary["support_pooling"]) == set(summary["query_pooling"]) == {"flatten"}
    assert summary["method"].str.startswith("ProtoNet").all()
    paired = pd.read_csv(run.results / "paired.csv")
    assert len(paired) == 6
    gains = pd.read_csv(run.results / "figures" / "paired_gains.csv")
    assert set(gains["comparison"]) == {"leaky over plain distance"}
    differences = paired[paired["first_network"] == "plain"]["difference"]
    assert sorted(gains["difference"]) == pytest.approx(sorted(differences), abs=1e-4)
    assert len(gains) == 3
    sweep = pd.read_csv(run.results / "figures" / "leak_sweep.csv")
    assert list(zip(sweep["s"], sweep["r"], strict=True)) == [(0, 0.01), (4, 0.01), (4, 0.1)]
    for network, accuracy in zip(sweep["network"], sweep["accuracy"], strict=True):
        job = next(job for job in run.evaluations if job.network.name == network)
        tasks = pd.read_parquet(run.evaluation_dir(job) / "1shot-flatten-flatten.parquet")
        assert accuracy == pytest.approx(tasks["novel"].mean(), abs=1e-4)
    write_report(run, published)
    page = (run.results / "report.html").read_text()
    assert "Gradients and distances" in page
    for name in ("distance_histograms", "leak_sweep"):
        assert (run.results / "figures" / f"{name}.svg").read_text().startswith("<?xml")


def rows_of(**networks):
    """Rows of a run that tests networks at one shot: all that the sweep looks at."""
    rows = []
    for name, data in networks.items():
        settings = NetworkSettings.model_validate(data)
        place = SimpleNamespace(network=SimpleNamespace(name=name, settings=settings), evaluated=SimpleNamespace(shot=1))
        rows.append(SimpleNamespace(place=(name, "", "", ""), record=place, accuracy=50.0 + len(rows), ci95=1.0))
    return rows


@pytest.mark.parametrize(
    "other",
    [
        leaky(4.0, 0.01, iterations=7),
        leaky(4.0, 0.01) | {"backbone": {"name": "conv64", "widths": [4, 4, 8, 8]}},
        leaky(4.0, 0.1),
        leaky(0.0, 0.01),
        network(),
    ],
    ids=["trained longer", "another backbone", "s and r", "the same leak", "no leak"],
)
def test_without_networks_that_differ_in_the_leak_alone_there_is_no_sweep(other):
    assert sweep_table(rows_of(one=leaky(0.0, 0.01), other=other)).empty


def test_every_sweep_has_a_line_of_its_own():
    long = {"iterations": 7}
    rows = rows_of(
        plain=network(), short=leaky(0.0, 0.01), further=leaky(4.0, 0.01), steeper=leaky(4.0, 0.1),
        long=leaky(0.0, 0.01, **long), longer=leaky(4.0, 0.01, **long), alone=leaky(4.0, 0.01, iterations=9),
    )  # fmt: skip
    sweep = sweep_table(rows)
    assert list(zip(sweep["sweep"], sweep["network"], strict=True)) == [
        (1, "short"), (1, "further"), (1, "steeper"), (2, "long"), (2, "longer")
    ]  # fmt: skip
    with drawing.style():
        over_s, over_r = draw_sweep(sweep, "").axes
    shown = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in (over_s, over_r)]
    assert shown == [["r = 0.01, 1-shot, short ...", "r = 0.01, 1-shot, long ..."], ["s = 4, 1-shot, further ..."]]
    drawn = [line.lines[0].get_xydata().tolist() for line in over_s.containers]
    assert drawn == [[[0, 51], [4, 52]], [[0, 54], [4, 55]]]


def test_histograms_have_every_query_and_prototype(run):
    table = histogram_table(run)
    assert set(table["network"]) == {"plain", "leak", "further", "steeper"}
    assert set(table["iteration"]) == {0, 2}
    sums = table.groupby(["network", "iteration", "measure"])["count"].sum()
    assert set(sums) == {5 * 3 * 5}
    gradients = table[table["measure"] == "log_gradient"]
    np.testing.assert_allclose([gradients["low"].min(), gradients["high"].max()], [np.log(1e-5), np.log(1 + 1e-5)])


def test_the_leak_makes_distances_small_from_the_start(run):
    table = histogram_table(run)
    first = table[(table["iteration"] == 0) & (table["measure"] == "distance")]
    highest = first.groupby("network")["high"].max()
    assert highest["leak"] == pytest.approx(0.01 * highest["plain"], rel=1e-4)


def test_a_damaged_histogram_is_refused(run):
    path = run.network_dir(run.networks[0]) / "metrics.jsonl"
    whole = path.read_text()
    lines = [json.loads(line) for line in whole.splitlines()]
    del next(line for line in lines if "distance" in line)["distance"]["counts"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    try:
        with pytest.raises(DataError, match="a histogram of distance is damaged; train the network again"):
            histogram_table(run)
    finally:
        path.write_text(whole)
