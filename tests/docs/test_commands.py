"""Every command in README and docs: one that the programs of this repository understand, on files that are there.

What a command does is tested where its function is; here its words are. Commands on a run's settings are carried out.
"""

import re
import shlex
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fewshot.cli import app
from fewshot.config import load

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "config/README.md")] + sorted((ROOT / "docs").rglob("*.md"))
PROGRAMS = ("make", "snakemake", "fewshot", "mlflow", "dvc", "scripts/gpu_run.sh", "pytest")


def commands(page: Path) -> list[str]:
    """Lines of code blocks, and words between backticks, that start with one of the programs; without remarks."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("    ")]
    lines += re.findall(r"`([^`\n]+)`", page.read_text())
    found = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    found = [re.sub(r"^(taskset -c \S+ |([A-Z_]+=\S+ )+)", "", line) for line in found]
    return [line for line in found if line.split(" ")[0] in PROGRAMS and " " in line]


ALL = sorted({(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in commands(page)})


def test_there_are_commands_of_every_program():
    assert len(ALL) > 25
    assert {line.split(" ")[0] for _, line in ALL} >= {"make", "snakemake", "fewshot", "mlflow", "dvc"}


@pytest.mark.parametrize(("page", "line"), ALL, ids=[f"{page}: {line}" for page, line in ALL])
def test_a_command_is_understood(page, line):
    program, *words = shlex.split(re.sub(r" > \S+$", "", re.sub(r"<[^>]*>", "SOME", line)))
    made = re.findall(r"^New file `(.+)`:$", (ROOT / page).read_text(), re.MULTILINE)  # by who follows the page
    CHECKS[program](words)
    for word in words:
        for path in re.findall(r"(?:config|tests|profiles)/[\w./-]+", word):
            assert "SOME" in path or path in made or (ROOT / path).exists(), path


def test_the_readmes_trial_is_a_short_run(tmp_path):
    (block,) = re.findall(
        r"^New file `config/runs/trial.yaml`:\n\n((?:    .*\n)+)", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "config" / "runs" / "trial.yaml").write_text(textwrap.dedent(block))
    config = load(tmp_path / "config" / "runs" / "trial.yaml")
    assert {network.training.iterations for network in config.stage1.networks.values()} == {200}
    assert (config.run, config.evaluation.tasks) == ("trial", 200)


def understood_by_fewshot(words: list[str]) -> None:
    group = typer.main.get_command(app)
    if words == ["--help"]:
        assert CliRunner().invoke(app, words).exit_code == 0
        return
    name, *rest = words
    assert name in group.commands, name
    if not rest:
        return  # only named
    group.commands[name].make_context(name, list(rest))  # raises on an option that is not there
    if name == "settings" and (ROOT / rest[0]).exists():
        assert CliRunner().invoke(app, [name, str(ROOT / rest[0])]).exit_code == 0


def understood_by_snakemake(words: list[str]) -> None:
    from snakemake.cli import get_argument_parser

    get_argument_parser().parse_args(words)


def understood_by_make(words: list[str]) -> None:
    targets = [word for word in words if "=" not in word]
    done = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert targets
    assert done.returncode == 0, done.stderr


def understood_by_others(*known: str):
    def check(words: list[str]) -> None:
        assert words[0] in known or words[0].startswith(("config/", "tests/", "-"))

    return check


CHECKS = {
    "fewshot": understood_by_fewshot,
    "snakemake": understood_by_snakemake,
    "make": understood_by_make,
    # Carried out by other tests: tests/browser/test_mlflow_ui.py, tests/integration/test_demo.py, test_gpu_run.py.
    "mlflow": understood_by_others("ui"),
    "dvc": understood_by_others("repro", "add", "push", "metrics", "plots", "status"),
    "scripts/gpu_run.sh": understood_by_others("RUN"),
    "pytest": understood_by_others(),
}
