"""The pipeline from drawn images to report, MLflow and DVC, in a copy of the project, on a run of seconds.

One `dvc repro` makes everything; the tests look at what it left, and at what a change would run again.
"""

import json
import re
import sqlite3

import pandas as pd
import pytest

from fewshot.config import load
from fewshot.plan import Plan

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(copy_project, tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("project"))
    project.commit()
    project.call("dvc", "repro")
    return project


def test_the_run_leaves_what_people_look_at(project):
    results = project.folder / "results/demo"
    summary = pd.read_csv(results / "summary.csv")
    assert list(summary.columns[:6]) == ["run", "dataset", "method", "backbone", "stage1", "stage2"]
    assert len(summary) == 2 * 3 + 2 + 1
    assert len(results.joinpath("seeds.csv").read_text().splitlines()) == 1, "one seed: the header alone"
    assert summary["accuracy"].between(0, 100).all()
    assert summary["run_key"].notna().all()
    assert "</html>" in results.joinpath("report.html").read_text()
    figures = {path.name for path in (results / "figures").iterdir()}
    assert {
        "training_curves.svg",
        "accuracy_by_shot.svg",
        "paired_gains.svg",
        "activation_maps.png",
        "map_statistics.svg",
    } <= figures
    assert any((results / "tables").glob("*.html"))


def test_nothing_runs_twice(project):
    assert project.planned() == {}
    assert "up to date" in project.call("dvc", "status")
    assert "Stage 'demo' didn't change, skipping" in project.call("dvc", "repro")


def test_a_template_is_code(project):
    with project.edited("src/fewshot/report/templates/report.css", lambda text: text + "p { margin: 0; }\n"):
        assert {"assemble", "write_report"} <= set(project.planned()) <= {"assemble", "write_report", "draw_figures"}


def test_snakemake_makes_its_own_report_too(project):
    project.call("snakemake", "--report", "provenance.html")
    assert (project.folder / "provenance.html").stat().st_size > 100_000


def test_the_times_of_the_report_are_those_that_snakemake_measured(project):
    page = project.read("results/demo/report.html")
    assert "jobs left no time" not in page
    plan = Plan(load(project.folder / "config" / "config.yaml"))
    jobs = 1 + 2 * len(plan.networks) + len(plan.adaptations) + len(plan.evaluations)
    assert re.search(rf"\b{jobs} jobs with a known time", page)


def test_dvc_reads_the_metrics_and_the_plots(project):
    shown = json.loads(project.call("dvc", "metrics", "show", "--json").splitlines()[0])
    values = shown[""]["data"]["results/demo/metrics.json"]["data"]
    assert values["gap"]["as-trained"]
    assert "training_curves" in project.call("dvc", "plots", "show", "--json")


def test_mlflow_holds_one_run_a_job_under_a_parent(project):
    with sqlite3.connect(project.folder / "mlflow.db") as database:
        tags = pd.read_sql("select * from tags", database)
        metrics = pd.read_sql("select * from metrics", database)
    parents = tags[tags["key"] == "mlflow.parentRunId"]
    keys = tags[tags["key"] == "run_key"]["value"]
    assert len(set(parents["value"])) == 1
    assert keys.is_unique
    assert len(parents) >= 2 + 1 + 3, "two trainings, one adaptation, three evaluations"
    assert {"loss", "validation_accuracy"} <= set(metrics["key"])
    recorded = pd.read_csv(project.folder / "results/demo/summary.csv")["run_key"]
    assert set(recorded) <= set(keys)


def test_tracking_again_updates_and_never_doubles(project):
    before = sqlite3.connect(project.folder / "mlflow.db").execute("select count(*) from runs").fetchone()
    project.call("snakemake", "--cores", "2", "--forcerun", "track", "--", "track_all")
    after = sqlite3.connect(project.folder / "mlflow.db").execute("select count(*) from runs").fetchone()
    assert after == before


def test_a_comment_in_the_config_runs_nothing(project):
    with project.edited("config/config.yaml", lambda text: text + "# a remark\n"):
        assert project.planned() == {}


def test_a_changed_setting_of_the_implants_trains_nothing(project):
    with project.edited("config/config.yaml", lambda text: text.replace("epochs: 2", "epochs: 3")):
        planned = project.planned()
    report = {"assemble": 1, "draw_figures": 1, "write_report": 1, "init_tracking": 1, "track": 2}
    assert planned == {"adapt": 1, "evaluate": 1, **report}  # the two evaluations as trained stay


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        # what the implants do reaches their evaluation as files, and the two evaluations as trained not at all
        ("methods/implanting.py", {"adapt": 1, "evaluate": 1, "assemble": 1, "draw_figures": 1, "write_report": 1, "track": 1}),
        ("report/plots.py", {"draw_figures": 1, "write_report": 1}),
        ("report/graph.py", {"write_report": 1}),
        ("tracking.py", {"init_tracking": 1, "track": 2}),
    ],
)
def test_an_edited_module_runs_its_own_jobs_and_no_more(project, module, expected):
    with project.edited(f"src/fewshot/{module}", lambda text: text + "\nEDITED = 1\n"):
        assert project.planned() == expected
    assert project.planned() == {}


def test_a_module_that_only_the_stages_import_counts_too(project):
    with project.edited("src/fewshot/device.py", lambda text: text + "\nEDITED = 1\n"):
        planned = project.planned()
    assert {"train", "extract", "adapt", "evaluate", "draw_activation_maps"} <= set(planned)
    assert not {"prepare", "draw_episodes"} & set(planned)


def test_a_docstring_is_no_change(project):
    change = ('"""Episodic evaluation', '"""Evaluation, episodic', 1)
    with project.edited("src/fewshot/evaluation.py", lambda text: text.replace(*change)):
        assert project.planned() == {}


def test_the_same_seed_gives_the_same_summary_byte_for_byte(project, copy_project, tmp_path):
    again = copy_project(tmp_path)
    # As many cores as dvc repro has: trainings share them, and another number of threads rounds otherwise.
    again.call("snakemake", "--cores", "all", "results_only")
    assert again.read("results/demo/summary.csv") == project.read("results/demo/summary.csv")


def test_a_mistake_in_the_config_is_one_line(project):
    with project.edited("config/config.yaml", lambda text: text.replace("run: demo", "run: demo\nlearning_rate: 1")):
        text = project.call("snakemake", "--cores", "1", "--dry-run", ok=False)
    assert "learning_rate: unknown key" in text
    assert "Traceback" not in text
