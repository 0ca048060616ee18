"""Faults of the pipeline under Snakemake: killed whole, a job killed for its memory, a second pipeline; GPUs to hand out."""

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from fewshot.config import parse
from fewshot.plan import Plan

pytestmark = pytest.mark.slow

TABLE = "results/demo/summary.csv"


@pytest.fixture
def settings(tiny):
    """Two trainings and nothing after their evaluation; the state of a training is saved at every iteration."""
    data = yaml.safe_load(yaml.safe_dump(tiny)) | {"run": "demo"}
    for name in ("stage2", "activation_maps"):
        data.pop(name)
    data["stage1"]["training"] |= {"iterations": 40, "save_every": 0.001}
    data["stage1"]["training"]["validation"]["every"] = 20
    data["evaluation"]["tests"] = data["evaluation"]["tests"][:2]
    data["evaluation"]["shots"] = [2]
    return data


def project_of(copy_project, folder, settings):
    project = copy_project(folder)
    (project.folder / "config/config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return project


def jobs(folder: Path, rule: str) -> list[int]:
    """Processes in a folder that run a rule's script."""
    found, words = [], re.compile(rf"/tmp\w+\.{rule}\.py".encode())
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cwd").readlink() == folder:
                found += [int(process.name)] * bool(words.search((process / "cmdline").read_bytes()))
        except OSError:  # it has just ended
            continue
    return found


def until(condition: Callable[[], object], process, seconds: float = 600) -> object:
    """What a condition gives once it holds, while a pipeline runs."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_a_pipeline_killed_and_disturbed_in_every_way_ends_as_one_left_alone(copy_project, starter, settings, tmp_path):
    command = ("snakemake", "--cores", "1", TABLE)
    project = project_of(copy_project, tmp_path / "project", settings)

    # A training is killed, as the kernel does for its memory: the other one goes on, and the run says which failed.
    first = project.start(*command)
    for job in until(lambda: jobs(project.folder, "train"), first):
        os.kill(job, signal.SIGKILL)
    # Meanwhile a second pipeline in the same folder is refused.
    first.send_signal(signal.SIGSTOP)
    assert "--unlock" in project.call(*command, ok=False)
    first.send_signal(signal.SIGCONT)
    assert first.wait(600) != 0
    assert "train.py' died with <Signals.SIGKILL" in project.read("started.log")
    plan = Plan(parse(settings))
    trained = {job.name for job in plan.networks if (project.folder / plan.network_dir(job) / "model.json").exists()}
    assert len(trained) == 1
    (left,) = (job for job in plan.networks if job.name not in trained)
    evaluated = {job.network.name for job in plan.evaluations if (project.folder / plan.evaluation_dir(job)).exists()}
    assert evaluated == trained, "the others go on, to their end"

    # Everything is killed, Snakemake too, while the training has a state: Snakemake's lock stays, and says what to do.
    missing = project.folder / plan.network_dir(left)
    state = missing.with_name(missing.name + ".state")
    state.unlink(missing_ok=True)
    second = project.start(*command)
    until(lambda: state.exists() or (missing / "model.json").exists(), second)
    os.killpg(second.pid, signal.SIGKILL)
    second.wait()
    assert "--unlock" in project.call(*command, ok=False)
    project.call("snakemake", "--unlock")
    project.call(*command)
    assert project.planned(TABLE) == {}

    alone = tmp_path / "alone"
    (alone / "config").mkdir(parents=True)
    for name in ("config/published.csv", "config/config.yaml"):
        (alone / name).write_text(project.read(name))
    done = starter.run(alone, "run", "config/config.yaml", "--threads", "1")
    assert done.status == 0, done.said
    assert (alone / TABLE).read_text() == project.read(TABLE)
    made = [path for name in ("resources", "results") for path in (project.folder / name).rglob("*")]
    assert [path for path in made if path.suffix in (".tmp", ".partial", ".lock", ".state")] == []


AT_THE_END = """
import atexit, os, re, sys, time
from pathlib import Path

def wait():
    Path("ended", str(os.getpid())).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    while not Path("go").exists():
        time.sleep(0.05)

if re.search(r"[.]train[.]py", sys.orig_argv[-1]):
    atexit.register(wait)
"""
"""Python reads this file, sitecustomize.py, at every start: a training then waits at its end, with its GPU in its hands."""


def test_every_job_on_one_machine_has_a_gpu_of_its_own(copy_project, settings, tmp_path):
    """Two pretended devices, three trainings, cores for all of them."""
    settings["stage1"]["networks"]["gmp"] = settings["stage1"]["networks"]["gap"] | {"classifier": {"pooling": "gmp"}}
    settings["evaluation"]["tests"][0]["networks"] = ["gap", "gmp"]
    project = project_of(copy_project, tmp_path / "project", settings | {"device": "auto"})
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks/sitecustomize.py").write_text(AT_THE_END)
    ended, trainings = project.folder / "ended", len(Plan(parse(settings)).networks)
    ended.mkdir()
    resources = ("--resources", "gpu=2", "--set-threads", "train=1", "--cores", "8")
    process = project.start(
        "snakemake", *resources, "--until", "train", CUDA_VISIBLE_DEVICES="0,1", TMPDIR=str(tmp_path),
        PYTHONPATH=os.pathsep.join([str(tmp_path / "hooks"), project.environment["PYTHONPATH"]]),
    )  # fmt: skip
    try:
        until(lambda: len(list(ended.iterdir())) == 2, process)
        assert len(jobs(project.folder, "train")) == 2, "two of three, while both are at work"
        assert {path.read_text() for path in ended.iterdir()} == {"0", "1"}
        (project.folder / "go").touch()
        assert process.wait(600) == 0, project.read("started.log")[-4000:]
    finally:
        (project.folder / "go").touch()
        process.wait(600)
    logs = [path.read_text() for path in (project.folder / "logs/train").rglob("*.log")]
    assert len(logs) == trainings == 3
    assert all(len(re.findall(r"GPU of this job: [01]$", text, re.MULTILINE)) == 1 for text in logs)
    assert not any("sharing" in text for text in logs)
