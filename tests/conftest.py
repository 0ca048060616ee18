"""What all tests share."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.fixture(autouse=True)
def denormal_numbers():
    """A job computes without denormal numbers (`select_device`); those after it in the process, hypothesis first, want them."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


class Command:
    """A program that is running, or has ended."""

    def __init__(self, server: subprocess.Popen[str], log: Path) -> None:
        self.log, self.started, self.status, self.seconds = log, time.monotonic(), None, 0.0
        self.pid = int(server.stdout.readline())
        self._waiter = threading.Thread(target=self._wait, args=(server,), daemon=True)
        self._waiter.start()

    def _wait(self, server: subprocess.Popen[str]) -> None:
        self.status = int(server.stdout.readline())
        self.seconds = time.monotonic() - self.started

    def wait(self, seconds: float = 300) -> "Command":
        self._waiter.join(seconds)
        if self.status is None:
            self.kill()  # else its status would be taken for that of the next program
            raise AssertionError(f"not done after {seconds} s; ended")
        return self

    @property
    def running(self) -> bool:
        return self.status is None

    def kill(self) -> "Command":
        """SIGKILL, to the program and its workers."""
        for kill in (os.killpg, os.kill):  # in its first moment it leads no group yet
            with suppress(ProcessLookupError):  # it has just ended
                kill(self.pid, signal.SIGKILL)
        self._waiter.join()
        return self

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")


class Starter:
    """Starts programs quickly, one at a time: see `starter.py`, whose modules are imported already."""

    def __init__(self, *preloaded: str) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"} | {"OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(TESTS / "integration"), environment.get("PYTHONPATH", "")])
        command = [sys.executable, str(TESTS / "starter.py"), *preloaded]
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.server.stdout.readline() == "ready\n"

    def start(self, folder: Path, *arguments: str, log: Path | None = None) -> Command:
        """`fewshot <arguments>`, or `track <config>`; its words in `log`, by default beside the folder."""
        log = log or folder.parent / f"{folder.name}.log"
        program, own = ("track", arguments[1:]) if arguments[0] == "track" else ("fewshot", arguments)
        return self.ask(program, folder, own, log, log)

    def ask(
        self,
        program: str,
        folder: Path,
        arguments: tuple[str, ...],
        out: Path,
        err: Path,
        environment: dict[str, str] | None = None,
    ) -> Command:
        """One of the programs of `starter.py`, in an environment of its own or in that of the tests."""
        for path in (out, err):
            path.unlink(missing_ok=True)
        request = {"program": program, "folder": str(folder), "arguments": arguments, "environment": environment}
        self.server.stdin.write(json.dumps(request | {"out": str(out), "err": str(err)}) + "\n")
        self.server.stdin.flush()
        return Command(self.server, out)

    def run(self, folder: Path, *arguments: str) -> Command:
        return self.start(folder, *arguments).wait()

    def close(self) -> None:
        self.server.stdin.close()
        self.server.wait(30)


@pytest.fixture(scope="module")
def new_starter() -> Iterator[Callable[..., Starter]]:
    """Make a starter that has imported some modules; it ends with the test module."""
    made: list[Starter] = []

    def make(*preloaded: str) -> Starter:
        made.append(Starter(*preloaded))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def plan_with_snakemake(tmp_path_factory) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Ask Snakemake what it would do: (folder, *arguments, environment) -> what `snakemake <arguments>` says there.

    Of the real program, only for what runs no job. The package under test is imported anew for each, from `PYTHONPATH` first.
    """
    said = tmp_path_factory.mktemp("plans")
    out, err = said / "out", said / "err"
    starters: list[Starter] = []

    def ask(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        assert {"--dry-run", "--lint", "--rulegraph"} & set(arguments), "this only plans"
        if not starters:
            starters.append(Starter("snakemake.cli", "pydantic", "yaml", "numpy"))
        done = starters[0].ask("snakemake", folder, arguments, out, err, environment or dict(os.environ)).wait()
        return subprocess.CompletedProcess(["snakemake", *arguments], done.status, out.read_text(), err.read_text())

    yield ask
    for one in starters:
        one.close()
