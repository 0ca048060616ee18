import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from fewshot.cli import app
from fewshot.locks import state_path
from fewshot.plan import Plan

runner = CliRunner()
ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path, monkeypatch, tiny_config):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny_config.as_dict()))
    Path("config").mkdir()
    shutil.copy(ROOT / "config/published.csv", "config")
    return tmp_path


def test_help_names_the_arrows():
    out = runner.invoke(app, ["--help"]).output
    for command in ("prepare", "episodes", "train", "extract", "adapt", "evaluate", "assemble", "run", "schema"):
        assert command in out


def test_the_help_of_run_names_its_arrows_in_order():
    words = runner.invoke(app, ["run", "--help"]).output
    names = ("prepare", "episodes", "train", "extract", "adapt", "evaluate", "assemble")
    assert re.findall(rf"\b({'|'.join(names)})\b", words)[: len(names)] == list(names)


def test_a_run_ends_where_it_is_asked_to(here, tiny_plan: Plan):
    assert runner.invoke(app, ["run", "tiny.yaml", "--until", "evaluate"], catch_exceptions=False).exit_code == 0
    assert all((tiny_plan.evaluation_dir(job) / "settings.json").exists() for job in tiny_plan.evaluations)
    assert not (tiny_plan.results / "summary.csv").exists()
    assert runner.invoke(app, ["run", "tiny.yaml", "--until", "report"]).exit_code == 2


def test_the_whole_run_without_snakemake(here, tiny_plan: Plan):
    result = runner.invoke(app, ["run", "tiny.yaml", "--threads", "1"], catch_exceptions=False)
    assert result.exit_code == 0
    for job in tiny_plan.evaluations:
        record = json.loads((tiny_plan.evaluation_dir(job) / "settings.json").read_text())
        for setting in record["settings"]:
            table = pd.read_parquet(tiny_plan.evaluation_dir(job) / f"{setting['key']}.parquet")
            assert len(table) == setting["tasks"]
            assert set(table.columns) == {"task", *setting["populations"]}
    summary = pd.read_csv(tiny_plan.results / "summary.csv")
    assert len(summary) == 2 * 3 + 2 + 1
    assert summary.loc[summary["population"] == "novel", "run_key"].is_unique
    before = {path: path.stat().st_mtime_ns for path in tiny_plan.resources.rglob("*") if path.is_file()}
    network, adapted = tiny_plan.network_dir(tiny_plan.networks[0]), tiny_plan.adapted_dir(tiny_plan.adaptations[0])
    state_path(network).write_text("left by a kill at the very end")
    state_path(adapted).mkdir()
    (state_path(adapted) / "progress.json").write_text("the same")
    for left in (state_path(network), state_path(adapted) / "progress.json", state_path(adapted)):
        os.utime(left, (1, 1))  # older than the output
    assert runner.invoke(app, ["run", "tiny.yaml"], catch_exceptions=False).exit_code == 0
    after = {path: path.stat().st_mtime_ns for path in tiny_plan.resources.rglob("*") if path.is_file()}
    assert after == before, "a second call keeps what is there, and removes what a kill left"


def test_a_changed_setting_is_never_answered_with_old_results(here, tiny_plan: Plan):
    assert runner.invoke(app, ["run", "tiny.yaml", "--threads", "1"], catch_exceptions=False).exit_code == 0
    before = pd.read_csv(tiny_plan.results / "summary.csv")
    config = yaml.safe_load(Path("tiny.yaml").read_text())
    config["stage1"]["training"]["iterations"] = 12  # in the shared settings, which the networks' own hide
    for network in config["stage1"]["networks"].values():
        network["training"]["iterations"] = 12
    Path("tiny.yaml").write_text(yaml.safe_dump(config))
    assert runner.invoke(app, ["run", "tiny.yaml", "--threads", "1"], catch_exceptions=False).exit_code == 0
    after = pd.read_csv(tiny_plan.results / "summary.csv")
    assert not set(after["run_key"]) & set(before["run_key"])
    assert not before["accuracy"].equals(after["accuracy"])


def test_mistakes_are_one_line(here, capfd):
    assert runner.invoke(app, ["train", "missing.yaml"]).exit_code == 1
    assert runner.invoke(app, ["train", "tiny.yaml"]).exit_code == 1  # no store yet
    assert runner.invoke(app, ["train", "tiny.yaml", "--network", "vgg"]).exit_code == 1


def test_what_the_end_of_a_run_wants_is_asked_for_at_its_start(here):
    Path("config/published.csv").rename(here / "elsewhere.csv")
    done = runner.invoke(app, ["run", "tiny.yaml"], catch_exceptions=False)
    assert done.exit_code == 1
    assert "config/published.csv: missing; run from the project's root" in done.stderr
    assert not Path("resources").exists()


def test_weights_that_are_not_there_are_said_before_anything_is_made(here, tiny_config):
    weighed = tiny_config.as_dict()
    weighed["stage1"]["networks"]["c128f-gap"]["backbone"] = {"name": "resnet18", "weights": "nowhere.pth"}
    Path("weighed.yaml").write_text(yaml.safe_dump(weighed))
    done = runner.invoke(app, ["run", "weighed.yaml"], catch_exceptions=False)
    assert done.exit_code == 1
    assert "error: nowhere.pth: no such file of weights; bring it" in done.stderr
    assert not Path("resources").exists()


@pytest.mark.parametrize("dataset", [{"name": "folder", "folder": "photos"}, {"name": "fc100"}])
def test_images_that_are_not_there_leave_nothing(here, tiny_config, capfd, dataset):
    Path("own.yaml").write_text(yaml.safe_dump(tiny_config.as_dict() | {"dataset": dataset}))
    before = sorted(here.rglob("*"))
    done = runner.invoke(app, ["run", "own.yaml"])
    assert done.exit_code == 1
    assert re.search("no such folder|archive missing", done.output + capfd.readouterr().err)
    assert sorted(here.rglob("*")) == before
