"""A server of MLflow that is down, listens, and holds a password that nobody is told."""

import pandas as pd
import pytest
import yaml

from tests.integration.mlflow_server import SECRET, Server, mirrored

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Down; the first test starts it."""
    server = Server(tmp_path_factory.mktemp("mlflow") / "server")
    yield server
    server.stop()


def test_a_server_that_is_down_harms_no_result_and_is_caught_up_with(server, copy_project, starter, tmp_path):
    """The server's address holds a password, or the environment does; nothing that is written or said may tell it."""
    project = copy_project(tmp_path / "project")
    settings = yaml.safe_load(project.read("config/config.yaml"))
    for name in ("stage2", "activation_maps"):
        settings.pop(name)
    settings["evaluation"]["tests"] = settings["evaluation"]["tests"][:1]
    (project.folder / "config/config.yaml").write_text(yaml.safe_dump(settings))
    done = starter.run(project.folder, "run", "config/config.yaml", "--threads", "1")
    assert done.status == 0, done.said
    project.call("snakemake", "--cores", "2", "results_only")  # its own tables, which the line below is not to touch

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
    # Now beside the address, and with MLflow's own patience: a busy machine may well be slow to answer.
    secrets.pop("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    secrets |= {
        "MLFLOW_TRACKING_URI": server.address, "MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": SECRET,
    }  # fmt: skip
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
