"""`scripts/gpu_run.sh` as on a machine that has PyTorch alone, and the way of its results into the pipeline."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from fewshot.config import load
from fewshot.plan import Plan

ROOT = Path(__file__).parents[2]


@pytest.fixture
def away(tmp_path):
    """A checkout elsewhere."""
    folder = tmp_path / "away"
    folder.mkdir()
    for name in ("src", "config", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "scripts").mkdir()
    (folder / "scripts/gpu_run.sh").write_bytes((ROOT / "scripts/gpu_run.sh").read_bytes())
    return folder


def gpu_run(away, config, seconds, **more):
    environment = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "CPU": "1", **more}
    command = ["bash", "scripts/gpu_run.sh", str(config), "packed", str(seconds)]
    return subprocess.run(command, cwd=away, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize(
    ("hidden", "named"),
    [(("safetensors", "typer"), r"safetensors>=[\d.]+, typer>=[\d.]+"), (("pydantic_core",), "pydantic_core")],
)
def test_packages_that_are_missing_are_said_in_one_line(away, tmp_path, hidden, named):
    """Hidden is what the project names, and what a package of those needs."""
    there = tmp_path / "packages"
    there.mkdir()
    for path in Path(np.__file__).parents[1].iterdir():
        if not path.name.startswith(hidden) and path.suffix != ".pth":
            (there / path.name).symlink_to(path)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    done = gpu_run(away, "config/config.yaml", 60, PYTHON=str(python), PYTHONPATH=str(there))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"error: \S+ lacks {named}; bring the wheels \(docs/gpu\.md\)\n", done.stderr)
    assert not (away / "packed").exists(), "nothing was begun"


@pytest.mark.slow
def test_without_a_gpu_it_is_said_before_anything_is_begun(away):
    done = gpu_run(away, "config/config.yaml", 60, CPU="", CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: PyTorch \S+ finds no GPU that it can use; set CPU=1 to do without\n", done.stderr)
    assert not (away / "packed").exists(), "nothing was begun"


@pytest.mark.slow
def test_parts_that_come_later_are_joined_to_the_archive(away):
    """And of a run that cannot begin, only the reason is said."""
    parts, archive = away / "data/parts", away / "data/raw/some.tar"
    parts.mkdir(parents=True)
    for number in range(3):
        (parts / f"some.tar.part-0{number}").write_bytes(b"%d" % number * 10)
        done = gpu_run(away, "no.yaml", 60)
        assert done.returncode == 1
        assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error"], done.stderr
        assert archive.read_bytes() == b"".join(b"%d" % one * 10 for one in range(number + 1))


@pytest.mark.slow
def test_a_run_in_several_calls_is_taken_up_by_the_pipeline(away, tmp_path):
    data = yaml.safe_load((ROOT / "tests/integration/tiny.yaml").read_text())
    data["stage1"]["training"] |= {
        "iterations": 4000,
        "validation": {"every": 2000, "way": 2, "shot": 2, "queries": 2, "tasks": 10},
    }
    config = away / "run.yaml"
    config.write_text(yaml.safe_dump(data))
    for _ in range(10):  # on a busy machine the first calls may not get to the training
        first = gpu_run(away, config, 15)
        assert first.returncode == 75, first.stderr
        if "the state is saved" in first.stderr:
            break
    assert "the state is saved" in first.stderr
    data["stage1"]["training"]["iterations"] = 60
    config.write_text(yaml.safe_dump(data | {"run": "short"}))
    large = away / "packed/large/some.tar.gz"
    large.parent.mkdir(parents=True)
    large.write_bytes(os.urandom(1 << 20) * 16)
    content, stale = large.read_bytes(), large.with_name("some.tar.gz.part-07")
    stale.write_text("of an earlier call")
    done = gpu_run(away, config, 200)
    assert done.returncode == 0, done.stderr
    parts = sorted(large.parent.iterdir())
    assert [path.name for path in parts] == ["some.tar.gz.part-00", "some.tar.gz.part-01"]
    assert b"".join(path.read_bytes() for path in parts) == content
    assert not (away / "results").joinpath("short", "report.html").exists(), "made at home"
    packed = sorted((away / "packed/short").iterdir())
    assert {path.name for path in packed} == {"network-gap-seed0.tar.gz", "network-dense-seed0.tar.gz", "results.tar.gz"}
    assert max(path.stat().st_size for path in packed) < 16 << 20

    home = tmp_path / "home"
    home.mkdir()
    for name in ("config", "profiles"):
        (home / name).symlink_to(ROOT / name)
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}

    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )

    assert call("fewshot", "prepare", str(config)).returncode == 0
    taken = call("fewshot", "take", *map(str, packed))
    assert taken.returncode == 0, taken.stderr
    snakemake = ("snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(config), "--cores", "1")
    planned = call(*snakemake, "--dry-run", "results_only")
    jobs = dict(re.findall(r"^(\w+)\s+(\d+)$", planned.stdout + planned.stderr, re.MULTILINE))
    assert set(jobs) == {"assemble", "draw_figures", "draw_activation_maps", "write_report", "results_only", "total"}, (
        planned.stdout
    )
    made = call(*snakemake, "--until", "assemble")
    assert made.returncode == 0, made.stdout + made.stderr
    plan = Plan(load(config))
    assert (home / plan.results / "summary.csv").read_text().count("\n") == 1 + 3 * 2 + 2 + 1
