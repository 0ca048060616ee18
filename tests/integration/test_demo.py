"""The pipeline from drawn images to report, MLflow and DVC, in a copy of the project, on a run of seconds.

One `dvc repro` makes everything; the tests look at what it left, and at what a change would run again.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def call(self, *command: str, ok: bool = True) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}", "DVC_NO_ANALYTICS": "1"}
        environment["PYTHONPATH"] = str(self.folder / "src")
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=900, check=False
        )
        assert (done.returncode == 0) == ok, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
        return done.stdout + done.stderr

    def planned(self) -> dict[str, int]:
        """Jobs a rule that Snakemake would run now."""
        text = self.call("snakemake", "--cores", "2", "--dry-run", "--quiet", "progress")
        if "Nothing to be done" in text:
            return {}
        rows = [line.split() for line in text.split("Job stats:")[1].splitlines()[3:]]
        counts = {}
        for row in rows:
            if len(row) != 2:
                break
            counts[row[0]] = int(row[1])
        return {rule: count for rule, count in counts.items() if rule not in ("total", "all")}

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(name) for name in listed.stdout.splitlines()]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    for name in tracked_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    config = yaml.safe_load((ROOT / "tests/integration/tiny.yaml").read_text()) | {"run": "demo"}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    project = Project(folder)
    project.call("git", "init", "--quiet")
    project.call("git", "add", "--all")
    project.call("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--message", "copy")
    project.call("dvc", "repro")
    return project


def test_the_run_leaves_what_people_look_at(project):
    results = project.folder / "results/demo"
    summary = pd.read_csv(results / "summary.csv")
    assert list(summary.columns[:6]) == ["run", "dataset", "method", "backbone", "stage1", "stage2"]
    assert len(summary) == 2 * 3 + 2 + 1
    assert summary["accuracy"].between(0, 100).all()
    assert summary["run_key"].notna().all()
    assert (results / "report.html").stat().st_size > 100_000
    figures = {path.name for path in (results / "figures").iterdir()}
    assert {"training_curves.svg", "accuracy_by_shot.svg", "paired_gains.svg", "activation_maps.png"} <= figures
    assert any((results / "tables").glob("*.html"))


def test_nothing_runs_twice(project):
    assert project.planned() == {}
    assert "up to date" in project.call("dvc", "status")
    assert "didn't change" in project.call("dvc", "repro") or "up to date" in project.call("dvc", "repro")


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
    assert len(recorded)


def test_tracking_again_updates_and_never_doubles(project):
    before = sqlite3.connect(project.folder / "mlflow.db").execute("select count(*) from runs").fetchone()
    project.call("snakemake", "--cores", "2", "--forcerun", "track", "--", "track_all")
    after = sqlite3.connect(project.folder / "mlflow.db").execute("select count(*) from runs").fetchone()
    assert after == before


def test_a_comment_in_the_config_runs_nothing(project):
    path = project.folder / "config/config.yaml"
    path.write_text(path.read_text() + "# a remark\n")
    assert project.planned() == {}


def edit(project: Project, module: str) -> str:
    """Change what a module does (a new name at its end) and return its old text."""
    path = project.folder / "src/fewshot" / module
    text = path.read_text()
    path.write_text(text + "\nEDITED = 1\n")
    return text


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("methods/implanting.py", {"adapt"}),
        ("report/plots.py", {"draw_figures"}),
        ("tracking.py", {"init_tracking", "track"}),
    ],
)
def test_an_edited_module_runs_its_own_jobs_and_no_more(project, module, expected):
    old = edit(project, module)
    try:
        planned = set(project.planned())
    finally:
        (project.folder / "src/fewshot" / module).write_text(old)
    assert expected <= planned
    downstream = {"evaluate", "assemble", "draw_figures", "track", "draw_activation_maps"}
    assert planned <= expected | (downstream if "adapt" in expected else set())
    if "adapt" in expected:
        assert "train" not in planned
    assert project.planned() == {}


def test_a_docstring_is_no_change(project):
    path = project.folder / "src/fewshot/evaluation.py"
    old = path.read_text()
    path.write_text(old.replace('"""Episodic evaluation', '"""Evaluation, episodic', 1))
    assert old != path.read_text()
    assert project.planned() == {}
    path.write_text(old)


def test_the_same_seed_gives_the_same_summary_byte_for_byte(project):
    before = project.read("results/demo/summary.csv")
    shutil.rmtree(project.folder / "resources")
    shutil.rmtree(project.folder / "results")
    project.call("snakemake", "--cores", "2", "results_only")
    assert project.read("results/demo/summary.csv") == before


def test_a_mistake_in_the_config_is_one_line(project):
    path = project.folder / "config/config.yaml"
    old = path.read_text()
    path.write_text(old.replace("run: demo", "run: demo\nlearning_rate: 1"))
    text = project.call("snakemake", "--cores", "1", "--dry-run", ok=False)
    path.write_text(old)
    assert "learning_rate: unknown key" in text
    assert "Traceback" not in text
