import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewshot import extension, predictions, records, stages
from fewshot.config import parse
from fewshot.errors import DataError, NotFiniteError
from fewshot.methods.base import Task
from fewshot.plan import Plan
from fewshot.report import low_shot_drawing
from fewshot.report.assembly import assemble
from fewshot.report.low_shot_figures import draw_low_shot_figures
from fewshot.report.page import write_report
from fewshot.report.plots import draw_figures

FINETUNING = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.01}}
CONFIG = {
    "run": "extended",
    "device": "cpu",
    "dataset": {"name": "glyphs", "classes": 20, "images_per_class": 20, "image_size": 16, "held_out": 0.25},
    "stage1": {
        "training": {"iterations": 5, "batch_size": 16, "optimizer": {"lr": 0.05}, "validation": {"every": 0, "keep": "last"}},
        "networks": {"small": {"backbone": {"name": "c128f", "widths": [4, 4, 8, 8]}}},
    },
    "stage2": {"tuned": {"method": "imprinting", "finetuning": FINETUNING}, "plain": {"method": "imprinting"}},
    "evaluation": {
        "way": "all", "queries": "all", "shots": [1, 2], "tasks": 3,
        "tests": [
            {"networks": ["small"], "adaptation": "tuned", "populations": ["novel", "novel_in_all", "all"], "shots": [2]},
            {"networks": ["small"], "adaptation": "plain", "populations": ["novel", "all", "base_in_all"]},
        ],
    },
}  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch, run_stages):
    """A run in a folder of its own, up to features."""
    plan = Plan(parse(CONFIG))
    monkeypatch.chdir(tmp_path)
    return run_stages(plan, last="extract")


def test_from_exemplars_to_a_row_of_the_summary(run, pytestconfig):
    for job in run.adaptations:
        stages.extend(run, job, threads=1)
    for evaluation in run.evaluations:
        stages.evaluate(run, evaluation, threads=1)
    tuned = run.adaptations[0]
    folder = run.adapted_dir(tuned)
    assert sorted(path.name for path in folder.iterdir()) == ["adapt.json", "metrics.jsonl", "predictions.npy"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "no state is left"
    table = pd.read_parquet(run.evaluation_dir(run.evaluations[0]) / "2shot-gap-gap.parquet")
    assert len(table) == 3
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    for name in ("novel", "novel_in_all", "all"):
        assert lines[-1][name] == pytest.approx(table[name].mean())
        assert f"{name}_class_mean" in table
    assert json.loads((folder / "adapt.json").read_text())["precision"] == "float32"
    found = [json.loads((run.evaluation_dir(one) / "settings.json").read_text())["adapted_in"] for one in run.evaluations]
    assert found == [{"2": "float32"}, {}], "fine-tuned, and imprinted alone"
    published = pytestconfig.rootpath / "config" / "published.csv"
    assemble(run, published)
    summary = pd.read_csv(run.results / "summary.csv")
    assert set(summary["population"]) == {"novel", "novel_in_all", "all", "base_in_all"}
    assert set(summary["queries"]) == {"all"}
    assert (summary["way"] == (pd.read_csv(run.store_dir / "classes.csv")["part"] == "test").sum()).all()


def test_carried_home_the_predictions_make_the_same_figures(run, run_stages, tmp_path_factory, monkeypatch, pytestconfig):
    published = pytestconfig.rootpath / "config" / "published.csv"
    for job in run.adaptations:
        stages.extend(run, job, threads=1)
    for evaluation in run.evaluations:
        stages.evaluate(run, evaluation, threads=1)
    draw_low_shot_figures(run, published)
    figures = run.results.resolve() / "figures"
    archives = [path.resolve() for path in stages.pack(run, Path("packed"))]
    monkeypatch.chdir(tmp_path_factory.mktemp("home"))
    run_stages(run, last="episodes")
    stages.take(archives)
    draw_low_shot_figures(run, published)
    for name in ("finetuning_curves", "low_shot_accuracy", "exemplars"):
        assert (run.results / "figures" / f"{name}.csv").read_text() == (figures / f"{name}.csv").read_text()


def test_the_figures_show_what_the_files_say(run, pytestconfig):
    """Figures 3 to 7 from a run's own files: their tables against the evaluation and the predictions."""
    for job in run.adaptations:
        stages.extend(run, job, threads=1)
    for evaluation in run.evaluations:
        stages.evaluate(run, evaluation, threads=1)
    draw_low_shot_figures(run, pytestconfig.rootpath / "config" / "published.csv")
    folder = run.results / "figures"
    for name in ("finetuning_curves", "low_shot_accuracy", "embedding_size"):
        assert (folder / f"{name}.svg").stat().st_size > 1000
    assert (folder / "exemplars.png").stat().st_size > 1000
    curves = pd.read_csv(folder / "finetuning_curves.csv")
    accuracies = pd.read_csv(folder / "low_shot_accuracy.csv")
    last = curves[(curves["epoch"] == 2) & (curves["population"] == "all")]["accuracy"].item()
    tuned = accuracies[(accuracies["adaptation"] == "tuned") & (accuracies["population"] == "all")]
    assert last == pytest.approx(tuned["accuracy"].item(), abs=1e-3)
    classes = pd.read_csv(folder / "exemplars.csv")
    assert classes["recall"].is_monotonic_decreasing
    assert set(classes["class"]) == set(pd.read_csv(run.store_dir / "classes.csv").query("part == 'test'")["name"])


MAPPED = {
    "stage2": {
        "more": {"method": "activation_to_parameter", "iterations": 3},
        "mapped": {"method": "activation_to_parameter", "iterations": 2},
        "plain": {"method": "imprinting"},
    },
    "evaluation": {
        "way": "all", "queries": "all", "shots": [1, 2], "tasks": 3,
        "tests": [
            {"networks": ["small"], "adaptation": "mapped", "populations": ["novel_in_all", "all"]},
            {"networks": ["small"], "adaptation": "more", "populations": ["novel_in_all", "all"]},
            {"networks": ["small"], "adaptation": "plain", "populations": ["novel_in_all"]},
        ],
    },
}  # fmt: skip


def reported(plan, published):
    """Everything that is drawn and written of a run with all novel classes at once."""
    assemble(plan, published)
    draw_figures(plan, published)
    draw_low_shot_figures(plan, published)
    write_report(plan, published)
    return (plan.results / "report.html").read_text()


def test_methods_that_paper_001_does_not_have_stand_behind_its_own(tmp_path, monkeypatch, run_stages, pytestconfig):
    monkeypatch.chdir(tmp_path)
    plan = run_stages(Plan(parse(CONFIG | MAPPED)))
    page = reported(plan, pytestconfig.rootpath / "config" / "published.csv")
    methods = ["Imprinting", "GAP + Act2Param [mapped]", "GAP + Act2Param [more]"]
    table = pd.read_csv(plan.results / "tables" / "low_shot_novel_in_all.csv")
    assert table["method"].tolist() == methods
    assert all(method in page for method in methods)
    accuracies = pd.read_csv(plan.results / "figures" / "low_shot_accuracy.csv")
    assert set(accuracies["method"]) == set(methods)


@pytest.mark.parametrize("pooling", ["gap", "gmp"])
def test_every_population_has_its_table_and_its_panel(tmp_path, monkeypatch, run_stages, pytestconfig, pooling):
    small = CONFIG["stage1"]["networks"]["small"] | {"classifier": {"pooling": pooling}}
    test = {"networks": ["small"], "adaptation": "plain", "populations": ["base", "both"]}
    stage1 = CONFIG["stage1"] | {"networks": {"small": small}}
    plan = Plan(parse(CONFIG | {"stage1": stage1, "evaluation": CONFIG["evaluation"] | {"tests": [test]}}))
    monkeypatch.chdir(tmp_path)
    run_stages(plan)
    page = reported(plan, pytestconfig.rootpath / "config" / "published.csv")
    for population, title in (("base", "Base classes alone"), ("both", "Base and novel classes")):
        assert len(pd.read_csv(plan.results / "tables" / f"low_shot_{population}.csv")) == 1
        assert title in page
    assert set(pd.read_csv(plan.results / "summary.csv")["query_pooling"]) == {pooling}


@pytest.mark.parametrize(("save_every", "done"), [(0.0, [0, 1, 1, 2]), (60.0, [0, 1, 0, 1, 2])])
def test_a_killed_job_goes_on_to_the_same_bytes(run, monkeypatch, save_every, done):
    monkeypatch.setattr(extension, "SAVE_EVERY", save_every)
    job = run.adaptations[0]
    stages.extend(run, job, threads=1)
    folder = run.adapted_dir(job)
    whole = (folder / "predictions.npy").read_bytes()
    curve = (folder / "metrics.jsonl").read_text()
    for path in folder.iterdir():
        path.unlink()
    predicted, calls = extension._predicted, []

    def killed(method, task, training):
        calls.append(task.number)
        if calls == [0, 1]:
            raise KeyboardInterrupt
        return predicted(method, task, training)

    monkeypatch.setattr(extension, "_predicted", killed)
    with pytest.raises(KeyboardInterrupt):
        stages.extend(run, job, threads=1)
    assert not folder.exists() or not list(folder.iterdir())
    stages.extend(run, job, threads=1)
    assert calls == done
    assert (folder / "predictions.npy").read_bytes() == whole
    assert (folder / "metrics.jsonl").read_text() == curve


def test_a_state_gives_back_what_it_was_given(tmp_path):
    """Several tasks a file, each curve once; a method that learns once for all tasks is not prepared where all are done."""
    state = extension._State(tmp_path / "out", "identity")
    curves = [[{"epoch": 1, "loss": 0.5}], [{"epoch": 1, "loss": 0.5}], [{"epoch": 1, "loss": 0.25}]]
    dones = [(np.full((4, 2), number, dtype=np.int32), curve, number / 8) for number, curve in enumerate(curves)]
    for number, done in enumerate(dones):
        if number == 2:
            state.training(number).write_text("of a training within the task")
        state.save(number, *done)
    assert [path.name for path in state.folder.glob("*.npz")] == ["0.npz"], "a training that ended is worth a file"
    assert not state.training(2).exists()
    again = extension._State(tmp_path / "out", "identity")
    for number, (said, curve, seconds) in enumerate(dones):
        found = again.load(number)
        np.testing.assert_array_equal(found[0], said)
        assert found[1:] == (curve, seconds)
    assert again.load(3) is None


def test_a_state_of_other_code_or_settings_is_refused(run, monkeypatch):
    job = run.adaptations[0]
    state = run.adapted_dir(job).with_name(run.adapted_dir(job).name + ".state")
    state.mkdir(parents=True)
    (state / "identity").write_text("another")
    (state / "0.training").write_text("of hours")
    with pytest.raises(DataError, match="delete it to start anew"):
        stages.extend(run, job, threads=1)
    (state / "0.training").unlink()
    stages.extend(run, job, threads=1)  # of a method that failed before its first task nothing is left to lose
    assert not state.exists()


@pytest.mark.parametrize("killed", [False, True])
def test_seconds_count_what_a_method_prepares(run, monkeypatch, killed):
    """Each time it is prepared: `joint_training` and mappings train there, not in the tasks."""
    job, prepare, predicted, calls = run.adaptations[1], extension.prepare, extension._predicted, []
    clock = iter(range(1_000_000))
    passed = [0.0]
    monkeypatch.setattr(extension.time, "monotonic", lambda: passed[0] + next(clock) * 1e-6)

    def slow(ground, settings):
        passed[0] += 100
        return prepare(ground, settings)

    def cut_off(method, task, training):
        calls.append(task.number)
        if killed and calls == [0, 1]:
            raise KeyboardInterrupt
        return predicted(method, task, training)

    monkeypatch.setattr(extension, "prepare", slow)
    monkeypatch.setattr(extension, "_predicted", cut_off)
    if killed:
        with pytest.raises(KeyboardInterrupt):
            stages.extend(run, job, threads=1)
    stages.extend(run, job, threads=1)
    record = json.loads((run.adapted_dir(job) / "adapt.json").read_text())
    assert record["seconds"] == pytest.approx(100 * (1 + killed), abs=1)


def test_one_draw_has_no_interval_anywhere(tmp_path, monkeypatch, run_stages, pytestconfig, caplog):
    monkeypatch.chdir(tmp_path)
    test = {"networks": ["small"], "adaptation": "tuned", "populations": ["novel", "all"], "shots": [2], "tasks": 1}
    config = parse(CONFIG | {"evaluation": CONFIG["evaluation"] | {"tasks": 2, "tests": [test]}})
    with caplog.at_level("INFO"):
        plan = run_stages(Plan(config))
    page = reported(plan, pytestconfig.rootpath / "config" / "published.csv")
    assert "± 0.00" not in page + caplog.text
    (evaluation,) = records.evaluation_records(plan, plan.evaluations[0])
    assert "novel_accuracy" in {name for name, _, _ in evaluation.metrics}
    assert not any(name.endswith("ci95") for name, _, _ in evaluation.metrics)
    assert pd.read_csv(plan.results / "figures" / "finetuning_curves.csv")["ci95"].isna().all()


def test_predictions_of_other_tasks_or_damaged_ones_are_refused(run):
    job = run.adaptations[1]
    stages.extend(run, job, threads=1)
    folder = run.adapted_dir(job)
    record = json.loads((folder / "adapt.json").read_text())

    class Other:
        hash = "other"

    with pytest.raises(DataError, match="another network or other tasks"):
        predictions.load(folder, record["network_sha256"], Other())
    values = np.load(folder / "predictions.npy")
    np.save(folder / "predictions.npy", values[:1])
    with pytest.raises(DataError, match="damaged"):
        stages.evaluate(run, run.evaluations[1], threads=1)


def test_two_settings_of_one_method_are_two_lines(tmp_path, monkeypatch, run_stages, pytestconfig):
    monkeypatch.chdir(tmp_path)
    slower = {"method": "imprinting", "finetuning": FINETUNING | {"optimizer": {"lr": 0.001}}}
    test = {"networks": ["small", "wider"], "populations": ["all"], "shots": [2]}
    stage1 = CONFIG["stage1"] | {
        "networks": {
            "small": {"backbone": {"name": "c128f", "widths": [4, 4, 8, 8]}},
            "wider": {"backbone": {"name": "c128f", "widths": [4, 4, 8, 8]}, "embedding": 16},
        }
    }
    tests = [test | {"adaptation": name} for name in ("tuned", "slower", "plain")]
    changed = {
        "stage1": stage1,
        "stage2": CONFIG["stage2"] | {"slower": slower},
        "evaluation": CONFIG["evaluation"] | {"tests": tests},
    }
    plan = run_stages(Plan(parse(CONFIG | changed)))
    seen = {}
    for name in ("finetuning_curves", "accuracy_by_exemplars", "accuracy_by_embedding"):
        draw = getattr(low_shot_drawing, name)
        monkeypatch.setattr(low_shot_drawing, name, lambda table, title, n=name, d=draw: seen.setdefault(n, d(table, title)))
    draw_low_shot_figures(plan, pytestconfig.rootpath / "config" / "published.csv")
    labels = {name: sorted(text.get_text() for text in figure.legends[0].get_texts()) for name, figure in seen.items()}
    both = ["Imprinting + FT [small, slower]", "Imprinting + FT [small, tuned]"]
    both += [label.replace("small", "wider") for label in both]
    assert labels["finetuning_curves"] == both
    assert labels["accuracy_by_exemplars"] == sorted([*both, "Imprinting [small]", "Imprinting [wider]"])
    assert labels["accuracy_by_embedding"] == [
        "imprinting, n = 2", "imprinting-ft [slower], n = 2", "imprinting-ft [tuned], n = 2"
    ]  # fmt: skip
    for figure in seen.values():
        assert all(len(set(line.get_xdata())) == len(line.get_xdata()) for ax in figure.axes for line in ax.lines)


def test_a_curve_that_all_tasks_share_has_no_interval_over_them():
    points = [{"epoch": 1, "loss": 2.0, "training_accuracy": 40.0}, {"epoch": 2, "loss": 1.0, "training_accuracy": 60.0}]
    assert extension._means([points, [dict(point) for point in points]]) == points
    other = [{**point, "training_accuracy": point["training_accuracy"] + 10} for point in points]
    assert [line["training_accuracy_ci95"] > 0 for line in extension._means([points, other])] == [True, True]


def test_one_task_of_another_curve_is_enough_for_an_interval():
    points = [{"epoch": 1, "loss": 2.0, "training_accuracy": 40.0}]
    other = [{**points[0], "training_accuracy": 50.0}]
    assert all("training_accuracy_ci95" in extension._means(curves)[0] for curves in ([points, points, other], [other, points]))


def test_places_that_are_filled_up_are_not_predicted():
    task = Task(0, np.array([[1], [2]]), np.array([5, -1, 6, 7]), np.array([0, 0, 1, 1]), np.array([9]))

    def method(seen, state):
        assert (seen.query.tolist(), seen.classes.tolist(), seen.base.tolist()) == ([5, 6, 7], [0, 1, 1], [9])
        return np.arange(8, dtype=np.int32).reshape(4, 2), []

    values, _ = extension._predicted(method, task, Path("state"))
    assert values.tolist() == [[0, 1], [-1, -1], [2, 3], [4, 5], [6, 7]]
    with pytest.raises(ValueError, match=r"predictions of shape \(3, 2\); \(4, 2\) are asked for"):
        extension._predicted(lambda seen, state: (np.zeros((3, 2), dtype=np.int32), []), task, Path("state"))


def test_scores_that_are_not_numbers_stop_the_job_and_say_whose_they_are(run, monkeypatch):
    """The largest of none is some class: such a method would have an accuracy."""
    job = run.adaptations[0]

    def failing(method, task, training):
        raise NotFiniteError("scores that are not numbers")

    monkeypatch.setattr(extension, "_predicted", failing)
    with pytest.raises(NotFiniteError, match=f"adaptation {job.name}, task 0: scores .*; look at stage2.{job.name}"):
        stages.extend(run, job, threads=1)
    assert not (run.adapted_dir(job) / "adapt.json").exists()
