"""MLflow's own server over HTTP, and what is asked of a mirror of a run."""

import contextlib
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

from fewshot import tracking

SECRET = "-".join(("Xq7", "not", "to", "be", "told"))
"""A password, in pieces here: copies of the project hold this file."""


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
    """The MLflow runs of a run, by name; each is there once, and no other."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(tracking.experiment_name())
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    assert {one.data.tags.get("fewshot.run") for one in found} == {run}
    runs = {one.info.run_name: one for one in found}
    assert len(runs) == len(found), "doubled"
    assert len({one.data.tags["run_key"] for one in found}) == len(found), "doubled"
    return client, runs
