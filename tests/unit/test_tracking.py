"""Tracking: what reaches MLflow from a run's files, once, however often a job is tracked."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from fewshot import tracking
from fewshot.config import parse
from fewshot.errors import DataError
from fewshot.files import write_record
from fewshot.plan import Plan
from fewshot.records import adaptation_record, curve, flattened, network_run_key, training_record

CONFIG = {
    "run": "small",
    "title": "A run",
    "notes": ["Drawn."],
    "dataset": {"name": "glyphs"},
    "stage1": {"networks": {"dense": {"backbone": {"name": "resnet12"}, "classifier": {"pooling": "dense"}}}},
    "stage2": {"implants": {"method": "implanting"}},
    "evaluation": {
        "shots": [5],
        "tests": [
            {"networks": ["dense"], "poolings": ["gap/dense"], "populations": ["novel", "base"]},
            {"networks": ["dense"], "adaptation": "implants"},
        ],
    },
}
ORIGIN = {"git_revision": "abc", "device": "CPU", "versions": {"torch": "2"}}


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A finished run's small files, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    plan = Plan(parse(CONFIG))
    (network,) = plan.networks
    folder = plan.network_dir(network)
    model = {
        "network": network.settings.as_dict(), "name": "dense", "seed": 0, "image_size": 32, "data_hash": "d", "iteration": 4,
        "validation": {"accuracy": 50.0, "ci95": 1.0, "iteration": 4}, "parameters": 10, "seconds": 2.5, **ORIGIN,
    }  # fmt: skip
    folder.mkdir(parents=True)
    lines = [{"iteration": step, "loss": 1 / step, "accuracy": 10.0 * step} for step in (1, 2, 3, 4)]
    lines.append({"iteration": 4, "validation_accuracy": 50.0, "validation_ci95": 1.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_record(folder / "model.json", model, ("metrics.jsonl",))
    (adaptation,) = plan.adaptations
    adapted = plan.adapted_dir(adaptation)
    told = {"settings": {"width": 16}, "tasks": 3, "seconds": 1.0, "loss_first": 2.0, "loss_last": 1.0, **ORIGIN}
    adapted.mkdir(parents=True)
    (adapted / "metrics.jsonl").write_text('{"epoch": 1, "loss": 2.0, "support_accuracy": 40.0}\n')
    write_record(adapted / "adapt.json", told, ("metrics.jsonl",))
    for job in plan.evaluations:
        folder = plan.evaluation_dir(job)
        rows = []
        for setting in job.settings:
            rows.append({"key": setting.key, "shot": setting.shot, "run_key": f"{job.adaptation}-{setting.key}"})
            columns = {"task": range(4), **{name: [10.0, 20.0, 30.0, 40.0] for name in setting.populations}}
            folder.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(columns).to_parquet(folder / f"{setting.key}.parquet")
        settings = {
            "dataset": "glyphs", "network_key": network.key, "seed": 0, "adaptation": job.adaptation, "way": 5, "queries": 30,
            "data_hash": "d", "settings": rows, **ORIGIN,
        }  # fmt: skip
        write_record(folder / "settings.json", settings, [f"{setting.key}.parquet" for setting in job.settings])
    return plan


def _client():
    """Of the working directory's database, as `mlflow ui` opens it there."""
    from mlflow import MlflowClient

    assert Path("mlflow.db").exists()
    return MlflowClient(tracking_uri=f"sqlite:///{Path('mlflow.db').resolve()}")


def _runs():
    client = _client()
    experiment = client.get_experiment_by_name(tracking.experiment_name())
    return client, {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_a_run_is_mirrored_once_and_replaced_only_where_its_files_changed(plan, edit_record):
    (network,) = plan.networks
    parent = tracking.init(plan)
    first = tracking.track(plan, network)
    client, runs = _runs()
    train, adapt = "train dense seed0", "adapt dense implants 5shot seed0"
    as_trained, implants = "evaluate dense as-trained 5shot-gap-dense seed0", "evaluate dense implants 5shot-gap-gap seed0"
    assert set(runs) == {"small", train, adapt, as_trained, implants}
    assert json.loads(tracking.tracked_path(plan, network).read_text())["runs"] == first
    assert json.loads(tracking.flag_path(plan).read_text())["parent"] == parent

    run = runs[train]
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 1000 * run.data.metrics["seconds"], "of the training"
    assert run.data.params["network.classifier.pooling"] == "dense"
    assert run.data.metrics["kept_validation_accuracy"] == 50.0
    assert [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, "accuracy")] == [
        (1, 10.0), (2, 20.0), (3, 30.0), (4, 40.0)
    ]  # fmt: skip
    tags = run.data.tags
    assert tags["git_revision"] == "abc"
    assert tags["data_hash"] == "d"
    assert tags["mlflow.parentRunId"] == parent
    assert len(tags["config_hash"]) == len(tags["run_key"]) == 64
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"model.json", "metrics.jsonl"}
    assert runs[as_trained].data.tags["run_key"] == "as-trained-5shot-gap-dense"
    assert runs[as_trained].data.metrics["base_accuracy"] == 25.0
    assert runs[as_trained].data.metrics["novel_ci95"] == pytest.approx(3.18244631 * 12.9099445 / 2)

    assert tracking.init(plan) == parent
    assert tracking.track(plan, network) == first

    settings = plan.evaluation_dir(plan.evaluations[0]) / "settings.json"
    edit_record(settings, git_revision="def")
    second = tracking.track(plan, network)
    assert {name for name in first if first[name] != second[name]} == {as_trained}
    _, runs = _runs()
    assert len(runs) == 5
    assert runs[as_trained].data.tags["git_revision"] == "def"


def test_two_names_of_one_setting_are_two_runs(plan, edit_record):
    (network,) = plan.networks
    for job in plan.evaluations:  # what determines a result is the same, under two names
        record = json.loads((plan.evaluation_dir(job) / "settings.json").read_text())
        rows = [{**row, "run_key": "the same"} for row in record["settings"]]
        edit_record(plan.evaluation_dir(job) / "settings.json", settings=rows)
    first = tracking.track(plan, network)
    assert len(set(first.values())) == len(first)
    assert set(_runs()[1]) >= set(first)
    assert tracking.track(plan, network) == first


def test_a_tracking_that_was_cut_off_is_made_again(plan):
    (network,) = plan.networks
    first = tracking.track(plan, network)  # without init: the parent is made on the way
    _client().delete_tag(first["train dense seed0"], tracking.CONTENT)
    second = tracking.track(plan, network)
    assert second["train dense seed0"] != first["train dense seed0"]
    assert len(_runs()[1]) == 5


def test_the_tracking_uri_of_the_environment_is_honoured_and_its_password_is_not_told(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example.org:5000/mlflow")
    assert tracking.tracking_uri() == "https://me:secret@example.org:5000/mlflow"
    assert tracking.public_uri() == "https://example.org:5000/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking.public_uri() == tracking.DEFAULT_URI == "sqlite:///mlflow.db"


def test_flattened():
    nested = {"a": {"b": {"c": 0.1}, "d": [1, 2]}, "e": None, "f": "text", "g": {}}
    assert flattened(nested) == {"a.b.c": "0.1", "a.d": "[1, 2]", "e": "null", "f": "text", "g": "{}"}


def test_the_key_of_a_training_depends_on_settings_data_seed_and_teacher_alone():
    (job,) = Plan(parse(CONFIG)).networks
    assert network_run_key(job, "d") == network_run_key(replace(job, name="other"), "d")
    other = job.settings.model_copy(update={"embedding": 8})
    jobs = [job, replace(job, settings=other), replace(job, seed=1), replace(job, teacher=job)]
    assert len({network_run_key(job, "d") for job in jobs} | {network_run_key(job, "e")}) == 5


def test_a_setting_that_a_later_version_adds_changes_no_key(plan, monkeypatch):
    """Else every training would be mirrored a second time after an upgrade."""
    (network,), (adaptation,) = plan.networks, plan.adaptations

    def keys():
        return training_record(plan, network).run_key, adaptation_record(plan, adaptation).run_key

    before = keys()

    class Later(type(network.settings)):
        added = network.settings.added | {"later"}
        later: int = 0

    class LaterImplants(type(adaptation.settings)):
        added = adaptation.settings.added | {"later"}
        later: int = 0

    network = replace(network, settings=Later.model_validate(network.settings.as_dict()))
    settings = LaterImplants.model_validate(adaptation.settings.as_dict())
    adaptation = replace(adaptation, network=network, settings=settings)
    monkeypatch.setattr("fewshot.records.adaptation_folder", lambda plan, job: plan.adapted_dir(plan.adaptations[0]))
    assert keys() == before
    network = replace(network, settings=network.settings.model_copy(update={"later": 1}))
    assert keys()[0] != before[0]


def test_checkouts_that_share_a_server_have_an_experiment_each(plan, monkeypatch, edit_record):
    (network,) = plan.networks
    first = tracking.track(plan, network)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    edit_record(plan.network_dir(network) / "model.json", seconds=3.0)  # as another checkout has trained it
    second = tracking.track(plan, network)
    assert not set(first.values()) & set(second.values())
    assert set(_runs()[1]) == {"small", *second}
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    assert {name: run.info.run_id for name, run in _runs()[1].items() if name != "small"} == first
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "")
    assert tracking.experiment_name() == "fewshot"


@pytest.mark.parametrize("how", ["deleted", "of a database that is no more"])
def test_a_parent_that_is_not_there_any_more_is_made_again(plan, how):
    (network,) = plan.networks
    tracking.track(plan, network)
    flag = json.loads(tracking.flag_path(plan).read_text())
    if how == "deleted":
        _client().delete_run(flag["parent"])
    else:
        tracking.flag_path(plan).write_text(json.dumps(flag | {"parent": "0" * 32}))
    tracking.track(plan, network)
    parent = json.loads(tracking.flag_path(plan).read_text())["parent"]
    client, runs = _runs()
    assert client.get_run(parent).info.lifecycle_stage == "active"
    assert runs.pop("small").info.run_id == parent
    assert len(runs) == 4
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent}


def test_a_deleted_experiment_is_one_line_that_says_how_to_restore_it(plan):
    tracking.init(plan)
    client = _client()
    number = client.get_experiment_by_name("fewshot").experiment_id
    client.delete_experiment(number)
    for write in (tracking.init, lambda plan: tracking.track(plan, plan.networks[0])):
        with pytest.raises(
            DataError, match=rf"'fewshot' was deleted; `mlflow experiments restore --experiment-id {number}` brings"
        ):
            write(plan)


@pytest.mark.parametrize("text", ["{", '{"loss": 1}\n', "[1]\n", None])
def test_a_damaged_curve_is_one_clear_line(tmp_path, text):
    path = tmp_path / "metrics.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=r"metrics\.jsonl: missing or damaged"):
        list(curve(path, "iteration"))


def test_a_damaged_table_is_one_clear_line(plan, edit_record):
    job = plan.evaluations[0]
    (plan.evaluation_dir(job) / f"{job.settings[0].key}.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"its hash is not the one in settings\.json"):
        tracking.track(plan, job.network)
    edit_record(plan.evaluation_dir(job) / "settings.json")
    with pytest.raises(DataError, match=r"not a table of per-task results") as error:
        tracking.track(plan, job.network)
    assert "\n" not in str(error.value)


def test_name_and_password_of_a_server_are_in_no_address_that_mlflow_is_given(monkeypatch):
    import mlflow

    given = []

    class Client:
        def __init__(self, tracking_uri):
            given.append(tracking_uri)

    monkeypatch.setattr(mlflow, "MlflowClient", Client)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:p%40ss@example.org:5000/mlflow")
    tracking._client()
    assert given == ["https://example.org:5000/mlflow"]
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("me", "p@ss")


def test_a_database_that_is_none_is_one_line(plan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("mlflow.db").write_bytes(b"no database " * 1000)
    with pytest.raises(DataError, match=r"sqlite:///mlflow\.db: file is not a database; move a damaged mlflow\.db away"):
        tracking.init(plan)
