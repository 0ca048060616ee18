"""Means and intervals by hand, and input that is missing or damaged."""

import json
import math
import statistics
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from fewshot.errors import DataError
from fewshot.plan import Plan
from fewshot.report.published import Published, load_published
from fewshot.report.results import (
    make_rows,
    mean_interval,
    method_labels,
    paired,
    read_lines,
    read_settings,
    read_store,
    seed_interval,
    t_quantile,
)

Make = Callable[..., Plan]


def test_interval_by_hand() -> None:
    mean, ci95 = mean_interval(np.array([40.0, 60.0, 80.0, 60.0]))
    assert mean == 60
    assert ci95 == pytest.approx(1.96 * math.sqrt(800 / 3) / 2)  # squares 400 + 0 + 400 + 0 over n - 1 = 3


def test_one_task_has_no_interval() -> None:
    assert math.isnan(mean_interval(np.array([50.0]))[1])


def test_paired_difference_is_a_loop_over_the_common_tasks() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0, 100, 30), rng.uniform(0, 100, 20)
    differences = [float(second[i] - first[i]) for i in range(20)]
    result = paired(first, second)
    assert result.tasks == 20
    assert result.difference == pytest.approx(statistics.mean(differences))
    assert result.ci95 == pytest.approx(1.96 * statistics.stdev(differences) / math.sqrt(20))
    assert result.excludes_zero == (abs(statistics.mean(differences)) > result.ci95)


def test_equal_settings_do_not_exclude_zero() -> None:
    same = np.array([10.0, 20.0])
    assert not paired(same, same).excludes_zero
    assert paired(same, same + 5).excludes_zero


def test_interval_over_seeds() -> None:
    mean, ci95 = seed_interval([50.0, 52.0, 54.0])
    assert mean == 52
    assert ci95 == pytest.approx(4.3027 * 2 / math.sqrt(3))
    assert seed_interval([50.0]) == (50.0, None)


def test_t_quantiles() -> None:
    assert t_quantile(1) == 12.7062
    assert t_quantile(31) == pytest.approx(2.0395, abs=2e-4)
    assert t_quantile(100_000) == pytest.approx(1.96, abs=1e-3)


def test_store_counts(made_run: Make) -> None:
    record = read_store(made_run())
    assert (record.trained_images, record.held_out_images) == ((5, 5), (1, 1))
    assert record.notes == ("archive hash not checked",)


def test_settings_that_would_read_alike_are_told_apart(made_run: Make) -> None:
    dense = {"backbone": {"name": "resnet12"}, "classifier": {"pooling": "dense"}}
    plan = made_run(
        stage1={"networks": {"one": dense, "two": {**dense, "training": {"iterations": 5}}}},
        stage2={"plain": {"method": "implanting"}, "slow": {"method": "implanting", "lr": 1e-4}},
        evaluation={
            "shots": [5], "tasks": 10, "queries": 3,
            "tests": [{"networks": ["one", "two"]}, *({"networks": ["one"], "adaptation": name} for name in ("plain", "slow"))],
        },
        activation_maps=None,
    )  # fmt: skip
    assert method_labels(read_settings(plan)) == {
        ("one", "as-trained"): "DC [one]", ("two", "as-trained"): "DC [two]",
        ("one", "plain"): "DC + IMP [plain]", ("one", "slow"): "DC + IMP [slow]",
    }  # fmt: skip


def test_numbers_on_validation_classes_have_no_published_counterpart(made_run: Make) -> None:
    plan = made_run()
    numbers = Published(load_published())
    rows = make_rows(plan, read_settings(plan), read_store(plan), numbers)
    assert sum(row.published is not None for row in rows) == 5
    chosen = Plan(plan.config.model_copy(update={"evaluation": plan.config.evaluation.model_copy(update={"part": "val"})}))
    rows = make_rows(chosen, read_settings(chosen), read_store(chosen), numbers)
    assert all(row.published is None for row in rows)
    assert "tasks drawn from the validation classes instead of the test classes" in rows[0].deviations


def _corrupt(plan: Plan, what: str) -> None:
    folder = plan.evaluation_dir(plan.evaluations[0])
    parquet = folder / f"{plan.evaluations[0].settings[0].key}.parquet"
    table = pd.read_parquet(parquet)
    if what == "no settings":
        (folder / "settings.json").unlink()
    elif what == "no json":
        (folder / "settings.json").write_text("{")
    elif what == "no run key":
        info = json.loads((folder / "settings.json").read_text())
        del info["settings"][0]["run_key"]
        (folder / "settings.json").write_text(json.dumps(info))
    elif what == "no setting":
        info = json.loads((folder / "settings.json").read_text())
        (folder / "settings.json").write_text(json.dumps({**info, "settings": info["settings"][1:]}))
    elif what == "no parquet":
        parquet.unlink()
    elif what == "not parquet":
        parquet.write_bytes(b"nothing")
    elif what == "no column":
        table.drop(columns="novel").to_parquet(parquet)
    elif what == "fewer tasks":
        table.iloc[:-1].to_parquet(parquet)
    elif what == "not percent":
        table.assign(novel=table["novel"] * 100).to_parquet(parquet)
    elif what == "no network":
        (plan.network_dir(plan.evaluations[0].network) / "model.json").unlink()
    else:
        (plan.network_dir(plan.evaluations[0].network) / "model.json").write_text("{}")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("no settings", "settings.json: missing"),
        ("no json", "settings.json: damaged"),
        ("no run key", "settings.json: damaged"),
        ("no setting", "has no setting 1shot-gap-gap"),
        ("no parquet", "1shot-gap-gap.parquet: missing"),
        ("not parquet", "not a readable parquet file"),
        ("no column", "has no column novel"),
        ("fewer tasks", "holds 39 tasks, not the first 40"),
        ("not percent", "not all percent"),
        ("no network", "model.json: missing"),
        ("other network", "no network settings"),
    ],
)
def test_damaged_input_is_one_line(made_run: Make, what: str, words: str) -> None:
    plan = made_run()
    _corrupt(plan, what)
    with pytest.raises(DataError, match=words) as caught:
        read_settings(plan)
    assert "\n" not in str(caught.value)


def test_metrics_lines(made_run: Make) -> None:
    plan = made_run()
    path = plan.network_dir(plan.networks[0]) / "metrics.jsonl"
    assert {"iteration", "loss", "validation_accuracy"} <= set(read_lines(path).columns)
    path.write_text("{")
    with pytest.raises(DataError, match="damaged"):
        read_lines(path)
    path.write_text("")
    assert read_lines(path).empty
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        read_lines(path)
