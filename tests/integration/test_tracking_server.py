"""MLflow's own server over HTTP, and its SQLite file: many writers, a server that is down, passwords that nobody is told."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
import yaml

from fewshot import tracking
from fewshot.config import parse
from fewshot.files import read_record, write_record
from fewshot.plan import Plan

pytestmark = pytest.mark.slow

SECRET = "-".join(("Xq7", "not", "to", "be", "told"))  # in pieces: the copied project holds this file
JOBS = """
import os, signal, sys
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store, pandas, pyarrow.parquet, requests
from fewshot import evaluation, tracking
from fewshot.config import load
from fewshot.plan import Plan
plan = Plan(load(Path("run.yaml")))
def child(work, *arguments):
    number = os.fork()
    if number == 0:
        status = 1
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
for line in sys.stdin:
    os.environ["MLFLOW_TRACKING_URI"], work, *last = line.split()
    first = plan.networks[0]
    children = {
        "init": lambda: [child(tracking.init)],
        "first": lambda: [child(tracking.track, first)],
        "all": lambda: [child(tracking.track, job) for job in plan.networks],
        "killed": lambda: [child(killed, first, int(last[0]))],
    }[work]()
    print(sum(os.waitpid(number, 0)[1] != 0 for number in children), flush=True)
"""
"""Reads a URI and what to do: the parent; one network; all at once, a process each; one, killed (SIGKILL) at its n-th word to
MLflow. Says how many processes failed."""


class Server:
    """`mlflow server` with MLflow's own choice of host, its database and artifacts in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.process = folder, None
        self.reserved = socket.socket()
        while True:  # below the ports that the kernel gives away by itself
            self.port = random.randrange(20000, 30000)
            with contextlib.suppress(OSError):
                self.reserved.bind(("127.0.0.1", self.port))
                return

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.reserved.close()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        command = [
            sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.folder}/server.db",
            "--artifacts-destination", str(self.folder / "artifacts"),
        ]  # fmt: skip
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.address}/health", timeout=30):
                return
            time.sleep(0.2)
        raise AssertionError("MLflow's server does not answer")

    def stop(self) -> None:
        self.reserved.close()
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def listens_at(self) -> set[str]:
        """Addresses, as the kernel writes them, at which the server's port is open."""
        tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6") if Path(f"/proc/net/{name}").exists()]
        return set(re.findall(rf"^ *\d+: ([0-9A-F]+):{self.port:04X} [0-9A-F:]+ 0A ", "".join(tables), re.MULTILINE))


def mirrored(uri: str, run: str):
    """The MLflow runs of a run, by name; each is there once."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    found = client.search_runs([experiment.experiment_id], f"tags.`fewshot.run` = '{run}'", max_results=1000)
    runs = {one.info.run_name: one for one in found}
    assert len(runs) == len(found), "doubled"
    assert len({one.data.tags["run_key"] for one in found}) == len(found), "doubled"
    return client, runs


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Down; the first test starts it."""
    server = Server(tmp_path_factory.mktemp("mlflow") / "server")
    yield server
    server.stop()


def test_a_server_that_is_down_harms_no_result_and_is_caught_up_with(server, copy_project, starter, tmp_path):
    """The server's address holds a password; nothing that is written or said may tell it."""
    project = copy_project(tmp_path / "project")
    settings = yaml.safe_load(project.read("config/config.yaml"))
    for name in ("stage2", "activation_maps"):
        settings.pop(name)
    settings["evaluation"]["tests"] = settings["evaluation"]["tests"][:1]
    (project.folder / "config/config.yaml").write_text(yaml.safe_dump(settings))
    done = starter.run(project.folder, "run", "config/config.yaml", "--threads", "1")
    assert done.status == 0, done.said

    def results():
        return {path: path.read_bytes() for path in (project.folder / "results/demo").rglob("*") if path.is_file()}

    made = results()
    secrets = {
        "MLFLOW_TRACKING_URI": f"http://me:{SECRET}@127.0.0.1:{server.port}", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }  # fmt: skip
    said = project.call("snakemake", "--cores", "2", ok=False, **secrets)
    lines = {line.strip() for line in said.splitlines() if line.strip().startswith("error: ")}
    assert len(lines) == 1, said
    assert lines.pop().startswith(f"error: MLflow at {server.address}: ")
    assert "Traceback" not in said
    assert results() == made

    server.start()
    secrets.pop("MLFLOW_HTTP_REQUEST_MAX_RETRIES")  # a busy machine may well be slow to answer
    said += project.call("snakemake", "--cores", "2", "track_all", **secrets)
    assert "Nothing to be done" in project.call("snakemake", "--cores", "2", "track_all", **secrets)
    assert {path: content for path, content in results().items() if path in made} == made
    _, runs = mirrored(server.address, "demo")
    assert set(pd.read_csv(project.folder / "results/demo/summary.csv")["run_key"]) <= {
        run.data.tags["run_key"] for run in runs.values()
    }

    said += project.call("snakemake", "--report", "provenance.html", **secrets)
    assert SECRET not in said
    written = [path for place in (project.folder, server.folder) for path in place.rglob("*") if path.is_file()]
    assert project.folder / "provenance.html" in written
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []


def test_the_server_listens_on_loopback_where_nobody_says_otherwise(server):
    assert server.listens_at() == {"0100007F"}


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


def test_twelve_jobs_that_finish_together_lose_nothing_and_reruns_update(server, twelve, do):
    folder, plan = twelve
    uri = server.address
    assert do(uri, "init") == 0, (folder / "said").read_text()
    assert do(uri, "all") == 0, (folder / "said").read_text()
    client, runs = mirrored(uri, "twelve")
    assert len(runs) == 1 + 12 + 12
    parent = runs.pop("twelve").info.run_id
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
