"""What the integration tests share: copies of the project on a run of seconds, and quick starts of its commands."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.integration.world import World, small_plan

ROOT = Path(__file__).parents[2]


class Project:
    """A copy of the project in a folder of its own."""

    def __init__(self, folder: Path, plan: Callable[..., subprocess.CompletedProcess[str]]) -> None:
        self.folder, self._plan = folder, plan
        self.environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        self.environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1",
            "PYTHONPATH": str(folder / "src"),
        }  # fmt: skip

    def at(self, folder: Path) -> "Project":
        """Another one, in a folder that someone else fills."""
        return Project(folder, self._plan)

    def call(self, *command: str, ok: bool = True, **environment: str) -> str:
        """What a command says; `ok`: it must succeed, otherwise fail."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert (done.returncode == 0) == ok, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
        return done.stdout + done.stderr

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """A command in a process group of its own, its words in `<folder>/started.log`."""
        with (self.folder / "started.log").open("a") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment | environment,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs a rule that Snakemake would run now."""
        asked = ("--dry-run", "--quiet", "host", "--cores", "2", *arguments)
        done = self._plan(self.folder, *asked, environment=self.environment)
        assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
        return self.told(done.stdout + done.stderr)

    @staticmethod
    def told(said: str) -> dict[str, int]:
        """Jobs a rule, final targets left out, as Snakemake tells at its start; none where it has nothing to do."""
        if "Job stats:" not in said:
            assert "Nothing to be done" in said
            return {}
        table = said[said.index("Job stats:") :].split("\n\n", maxsplit=1)[0]
        counts = {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}
        assert counts.pop("total") == sum(counts.values()) > 0
        return {rule: count for rule, count in counts.items() if rule not in ("all", "results_only", "track_all")}

    @contextmanager
    def edited(self, name: str, change: Callable[[str], str]) -> Iterator[None]:
        """A file changed, and changed back at the end."""
        path = self.folder / name
        old = path.read_text()
        assert change(old) != old
        path.write_text(change(old))
        try:
            yield
        finally:
            path.write_text(old)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def commit(self) -> None:
        """A repository of its own with everything in it."""
        self.call("git", "init", "--quiet")
        self.call("git", "add", "--all")
        self.call("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "--message", "copy")


@pytest.fixture(scope="session")
def tiny() -> dict:
    """The run of seconds, as read from tiny.yaml."""
    return yaml.safe_load((ROOT / "tests/integration/tiny.yaml").read_text())


@pytest.fixture(scope="session")
def copy_project(tiny, plan_with_snakemake) -> Callable[..., Project]:
    """The files of the project, those not yet committed included, with the run of seconds for its default."""

    def copy(folder: Path, **changes) -> Project:
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        for name in sorted(listed.stdout.splitlines()):
            if not (ROOT / name).is_file():  # deleted, and not yet committed
                continue
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        (folder / "config/config.yaml").write_text(yaml.safe_dump(tiny | {"run": "demo"} | changes, sort_keys=False))
        return Project(folder, plan_with_snakemake)

    return copy


@pytest.fixture(scope="module")
def starter(new_starter):
    """For every command of `fewshot`."""
    fewshot = "cli task_results features training data.prepare data.sources.glyphs report.assembly report.plots"
    return new_starter(*(f"fewshot.{name}" for name in fewshot.split()), "seaborn", "torch._dynamo")


@pytest.fixture(scope="module")
def world(starter, tiny, tmp_path_factory) -> World:
    """An undisturbed run, to be disturbed."""
    return World(starter, small_plan(tiny), tmp_path_factory.mktemp("world"))
