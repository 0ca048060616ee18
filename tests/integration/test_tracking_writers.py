"""Jobs that write into MLflow at the same moment, over HTTP and into an SQLite file, and jobs that are killed while they do."""

import json
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from fewshot import tracking
from fewshot.config import parse
from fewshot.files import read_record, write_record
from fewshot.plan import Plan
from tests.integration.mlflow_server import SECRET, Server, mirrored

pytestmark = pytest.mark.slow

JOBS = """
import os, signal, sys
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store, pandas, pyarrow.parquet, requests
from fewshot import evaluation, tracking
from fewshot.config import load
from fewshot.plan import Plan
plan = Plan(load(Path("run.yaml")))
def child(work, *arguments, gate=None):
    number = os.fork()
    if number == 0:
        status = 1
        if gate:
            os.close(gate[1])
            os.read(gate[0], 1)  # until the parent has closed its end
        os.dup2(2, 1)  # MLflow prints the address of a run
        try:
            work(plan, *arguments)
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    return number
def killed(plan, job, last):
    calls = 0
    def counted(method):
        def call(*arguments, **named):
            nonlocal calls
            calls += 1
            if calls == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*arguments, **named)
        return call
    for name in ("create_run", "delete_run", "log_batch", "log_artifact", "set_terminated"):
        setattr(mlflow.MlflowClient, name, counted(getattr(mlflow.MlflowClient, name)))
    tracking.track(plan, job)
def together(work):
    gate = os.pipe()
    numbers = [child(work, job, gate=gate) for job in plan.networks]
    os.close(gate[1])
    os.close(gate[0])
    return numbers
for line in sys.stdin:
    os.environ["MLFLOW_TRACKING_URI"], work, *last = line.split()
    first = plan.networks[0]
    children = {
        "init": lambda: [child(tracking.init)],
        "first": lambda: [child(tracking.track, first)],
        "all": lambda: together(tracking.track),
        "killed": lambda: [child(killed, first, int(last[0]))],
    }[work]()
    print(sum(os.waitpid(number, 0)[1] != 0 for number in children), flush=True)
"""
"""Reads a URI and what to do: the parent; one network; all at the same moment, a process each; one, killed (SIGKILL) at its
n-th word to MLflow. Says how many processes failed."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("mlflow") / "server")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def twelve(tmp_path):
    """The small files of twelve finished trainings and evaluations."""
    data = {
        "run": "twelve", "dataset": {"name": "glyphs"}, "seeds": list(range(12)),
        "stage1": {"networks": {"gap": {"backbone": {"name": "c128f"}}}},
        "evaluation": {"shots": [1], "tasks": 4, "tests": [{"networks": ["gap"]}]},
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(data))
    plan = Plan(parse(data))
    origin = {"git_revision": "abc", "device": "CPU", "versions": {"torch": "2"}}
    for network, job in zip(plan.networks, plan.evaluations, strict=True):
        place = tmp_path / plan.network_dir(network)
        place.mkdir(parents=True)
        lines = [f'{{"iteration": {step}, "loss": {1 / step}}}\n' for step in range(1, 200)]
        (place / "metrics.jsonl").write_text("".join(lines))
        model = {
            "network": network.settings.as_dict(), "seed": network.seed, "image_size": 32, "data_hash": "d", "iteration": 199,
            "parameters": 10, "seconds": 2.5, **origin,
        }  # fmt: skip
        write_record(place / "model.json", model, ("metrics.jsonl",))
        place = tmp_path / plan.evaluation_dir(job)
        place.mkdir(parents=True)
        (setting,) = job.settings
        accuracies = [10.0, 20.0, 30.0, 40.0 + network.seed]
        pd.DataFrame({"task": range(4), "novel": accuracies}).to_parquet(place / f"{setting.key}.parquet")
        told = {
            "dataset": "glyphs", "network_key": network.key, "seed": network.seed, "adaptation": job.adaptation, "way": 5,
            "queries": 30, "data_hash": "d", "settings": [{"key": setting.key, "run_key": f"key{network.seed}"}], **origin,
        }  # fmt: skip
        write_record(place / "settings.json", told, (f"{setting.key}.parquet",))
    return tmp_path, plan


@pytest.fixture
def do(twelve):
    """`do(uri, work)`: how many of the processes failed; they start quickly, for MLflow is imported once."""
    folder, _ = twelve
    with (folder / "said").open("w") as words:
        jobs = subprocess.Popen(
            [sys.executable, "-c", JOBS], cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words
        )

    def do(uri, work):
        jobs.stdin.write(f"{uri} {work}\n")
        jobs.stdin.flush()
        return int(jobs.stdout.readline())

    yield do
    jobs.stdin.close()
    jobs.wait(60)


@pytest.fixture(params=["server", "sqlite"])
def uri(request, server, twelve):
    """Where twelve write at once: over HTTP, or into one file, which the profiles' one writer at a time spares it."""
    if request.param == "sqlite":
        return f"sqlite:///{twelve[0]}/mlflow.db"
    return server.address.replace("//", f"//me:{SECRET}@")


def test_twelve_jobs_that_finish_together_lose_nothing_and_reruns_update(server, uri, twelve, do):
    folder, plan = twelve
    assert do(uri, "init") == 0, (folder / "said").read_text()
    assert do(uri, "all") == 0, (folder / "said").read_text()
    client, runs = mirrored(uri, "twelve")
    assert len(runs) == 1 + 12 + 12
    parent = runs.pop("twelve").info.run_id
    spans = [(run.info.start_time, run.info.end_time) for run in runs.values()]
    assert max(sum(start <= moment < end for start, end in spans) for moment, _ in spans) > 2, "one after the other"
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for seed in range(12):
        trained, tested = runs[f"train gap seed{seed}"], runs[f"evaluate gap as-trained 1shot-gap-gap seed{seed}"]
        assert len(client.get_metric_history(trained.info.run_id, "loss")) == 199
        assert {item.path for item in client.list_artifacts(trained.info.run_id)} == {"model.json", "metrics.jsonl"}
        assert tested.data.metrics["novel_accuracy"] == pytest.approx(25 + seed / 4)
        assert tested.data.tags["run_key"] == f"key{seed}"

    changed = folder / plan.network_dir(plan.networks[3]) / "model.json"
    record = read_record(changed)
    named = record.pop("files")
    write_record(changed, record | {"seconds": 9.5}, tuple(named))
    assert do(uri, "init") == 0
    assert do(uri, "all") == 0, (folder / "said").read_text()
    _, again = mirrored(uri, "twelve")
    assert again.pop("twelve").info.run_id == parent
    assert set(again) == set(runs)
    assert {name for name in runs if again[name].info.run_id != runs[name].info.run_id} == {"train gap seed3"}
    assert again["train gap seed3"].data.metrics["seconds"] == 9.5
    told = [json.loads((folder / tracking.tracked_path(plan, job)).read_text())["runs"] for job in plan.networks]
    assert {name: run for one in told for name, run in one.items()} == {name: run.info.run_id for name, run in again.items()}
    written = [path for place in (folder, server.folder) for path in place.rglob("*") if path.is_file()]
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []


def test_tracking_killed_between_any_two_words_to_mlflow_is_made_good(twelve, do):
    folder, _ = twelve

    def told(name):
        uri = f"sqlite:///{folder}/{name}.db"
        client, runs = mirrored(uri, "twelve")
        return {
            run.info.run_name: (
                run.info.status, run.data.params, run.data.metrics,
                {key: value for key, value in run.data.tags.items() if not key.startswith(("mlflow.", "fewshot.content"))},
                [len(client.get_metric_history(run.info.run_id, metric)) for metric in sorted(run.data.metrics)],
                sorted(item.path for item in client.list_artifacts(run.info.run_id)),
            )
            for run in runs.values()
        }  # fmt: skip

    for name in ("killed", "alone"):
        assert do(f"sqlite:///{folder}/{name}.db", "init") == 0, (folder / "said").read_text()
    moments = 0
    while do(f"sqlite:///{folder}/killed.db", f"killed {moments + 1}"):  # each goes on from what the one before left
        moments += 1
    assert moments > 5
    for name in ("killed", "alone"):
        assert do(f"sqlite:///{folder}/{name}.db", "first") == 0, (folder / "said").read_text()
    assert told("killed") == told("alone")
    assert len(told("alone")) == 1 + 2
