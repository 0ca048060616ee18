"""What all tests share."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def denormal_numbers():
    """A job computes without denormal numbers (`select_device`); those after it in the process, hypothesis first, want them."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def plan_with_snakemake(tmp_path_factory) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Ask Snakemake what it would do: (folder, *arguments, environment) -> what `snakemake <arguments>` says there.

    Of the real program, from a process that has imported it already; only for what runs no job (see `planner.py`).
    """
    said = tmp_path_factory.mktemp("plans")
    files = {"out": said / "out", "err": said / "err"}
    server: subprocess.Popen[str] | None = None

    def ask(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        nonlocal server
        assert {"--dry-run", "--lint", "--rulegraph"} & set(arguments), "this only plans"
        if server is None:
            command = [sys.executable, str(ROOT / "tests" / "planner.py")]
            server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert server.stdout.readline() == "ready\n"
        request = {"folder": str(folder), "arguments": arguments, "environment": environment or dict(os.environ)}
        server.stdin.write(json.dumps(request | {name: str(path) for name, path in files.items()}) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(["snakemake", *arguments], status, *(path.read_text() for path in files.values()))

    yield ask
    if server is not None:
        server.stdin.close()
        server.wait(30)
