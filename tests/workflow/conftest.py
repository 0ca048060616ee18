"""The project as Snakemake sees it, and one way to ask it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLANS = {"--dry-run", "--lint"}


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def snakemake(tmp_path_factory, plan_with_snakemake) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Snakemake on the project in an empty working directory, where nothing of an earlier run is there to be reused.

    `path`: a folder of programs that go before those of PATH.
    """
    folder = tmp_path_factory.mktemp("work")
    for name in ("config", "profiles"):
        (folder / name).symlink_to(ROOT / name)

    def call(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        arguments = ("--snakefile", str(ROOT / "Snakefile"), *arguments)
        environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        if path is not None:
            environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
        if PLANS & set(arguments):
            return plan_with_snakemake(folder, *arguments, environment=environment)
        command = [sys.executable, "-m", "snakemake", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=900, env=environment)

    return call
