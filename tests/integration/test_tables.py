"""The run files of paper 000's tables from end to end: every job of each, on drawn images and with trainings of two steps."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from fewshot.cli import app
from fewshot.config import load
from fewshot.plan import Plan

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "config" / "runs"
TABLES = {
    "000_table1_networks": 2 * 2 * 3,
    "000_table2_poolings": 2 * 4 * 3,
    "000_table3_implants": 4 * 3,
    "000_table4_methods": 3 * 3 + 2,
    "000_table5_fc100": 2 * 3 + 2,
}
"""Run file -> measured cells of the paper's table."""

pytestmark = pytest.mark.slow


def test_every_table_has_a_run_file_and_a_short_one():
    assert sorted(path.stem for path in RUNS.glob("000_table*.yaml") if "_cpu" not in path.stem) == sorted(TABLES)
    for name in TABLES:
        assert (RUNS / ("fc100_cpu.yaml" if "fc100" in name else f"{name}_cpu.yaml")).is_file()


def folder_of(path: Path) -> Path:
    """A working folder with what a run reads besides its file."""
    (path / "config").mkdir()
    shutil.copy(ROOT / "config" / "published.csv", path / "config")
    return path


def shortened(folder: Path, name: str) -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(f"extends: [{RUNS / name}.yaml, {Path(__file__).with_name('tiny_tables.yaml')}]\nrun: {name}\n")
    return file


def ran(file: Path) -> Plan:
    done = CliRunner().invoke(app, ["run", str(file), "--threads", "1"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return Plan(load(file))


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    return folder_of(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def run(here) -> Callable[[str], Plan]:
    """Run a table's file, shortened, once; its plan."""
    return cache(lambda name: ran(shortened(here, name)))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_measured_cell_by_cell(here, run, monkeypatch, name):
    monkeypatch.chdir(here)
    plan = run(name)
    summary = pd.read_csv(plan.results / "summary.csv")
    assert len(summary) == TABLES[name]
    assert summary["accuracy"].between(0, 100).all()
    assert (plan.results / "figures" / "activation_maps.png").exists() == (name == "000_table2_poolings")


def test_the_tables_of_one_data_set_share_their_networks_and_implants(here, run, monkeypatch):
    monkeypatch.chdir(here)
    plans = [run(name) for name in list(TABLES)[:4]]
    (store,) = {plan.resources for plan in plans}
    trained = sorted(path.name.rsplit("-", 1)[0] for path in (store / "networks").iterdir())
    assert trained == ["c128f-dense", "c128f-gap", "resnet12-dense", "resnet12-gap", "resnet12-wide"]
    adapted = [path.parent.name.rsplit("-", 1)[0] for path in (store / "networks").glob("*/seed0/adapted/*/*-5shot-*")]
    assert sorted(adapted) == ["implants", "implants-gap-dense", "implants-gmp-dense", "implants-gmp-gmp"]


def test_after_table_1_table_2_trains_nothing_again(tmp_path, monkeypatch):
    """As Snakemake plans it."""
    monkeypatch.chdir(folder_of(tmp_path))
    ran(shortened(tmp_path, "000_table1_networks"))
    second = shortened(tmp_path, "000_table2_poolings")
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(second), "--dry-run",
        "--workflow-profile", "none", "results_only",
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    planned = {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", done.stdout + done.stderr, re.MULTILINE)}
    report = {"assemble": 1, "draw_figures": 1, "draw_activation_maps": 1, "write_report": 1, "results_only": 1}
    assert planned == {"evaluate": 2, **report, "total": 2 + len(report)}
