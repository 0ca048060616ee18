"""The pipeline as DVC's stage on a real Slurm of one node with two pretended GPUs; `.ci/slurm start` starts one."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from fewshot.config import parse
from fewshot.plan import Plan

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

ON_THIS_CLUSTER = {
    "slurm-no-account": True, "slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 2,
    "seconds-between-status-checks": 2, "latency-wait": 30,
    "set-threads": ["prepare=2", "train=1", "adapt=1", "extract=1"],
}  # fmt: skip
"""What a cluster without accounting, on a machine of two cores, has in its profile."""

TOO_LITTLE = 600
"""Megabytes for the adaptation: less than torch and Snakemake take, and more than half of it."""
THREADS = {"prepare": ["--workers", "2"], "episodes": [], "assemble": []}
"""Of the stages, where it is not one: another number rounds otherwise."""


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module")
def cluster() -> None:
    if shutil.which("sinfo") is None:
        pytest.skip("no Slurm here; .ci/slurm start")
    try:
        state = ask("sinfo", "--noheader", "--format", "%t %G")
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("Slurm's controller does not answer; .ci/slurm start")
    if state.split() != ["idle", "gpu:2"]:
        pytest.skip(f"not the pretended cluster of .ci/slurm, or busy: {state}")


def settings(tiny: dict) -> dict:
    """Three trainings, of a length that lets two run side by side; one adaptation, four evaluations."""
    data = yaml.safe_load(yaml.safe_dump(tiny)) | {"run": "demo", "device": "auto"}
    data.pop("activation_maps")
    training = data["stage1"]["training"]
    training |= {"iterations": 60, "save_every": 0.2, "log_every": 20}
    training["validation"]["every"] = 30
    data["stage1"]["networks"]["gmp"] = data["stage1"]["networks"]["gap"] | {"classifier": {"pooling": "gmp"}}
    data["evaluation"]["shots"] = [1, 2]
    data["evaluation"]["tests"][0]["networks"] = ["gap", "gmp"]
    return data


class Watch:
    """What Slurm says of the jobs while they run; those of an earlier run are left out."""

    def __init__(self) -> None:
        self.earlier = set(re.findall(r"JobId=\d+ ", ask("scontrol", "show", "job", "--oneliner")))
        self.most_training, self.devices = 0, set()
        self.comments: dict[str, str] = {}  # Slurm's number -> the rules of a submission
        self.memory: dict[str, str] = {}  # Slurm's number -> what it asked for

    def look(self) -> dict[str, str]:
        """Running trainings: Slurm's number -> GPU. No GPU is ever held twice."""
        held, training = [], {}
        for text in ask("scontrol", "show", "job", "--details", "--oneliner").splitlines():
            if any(text.startswith(job) for job in self.earlier):
                continue
            if job := re.search(r"JobId=(\d+) .*Comment=(\S+)", text):
                self.comments[job[1]] = job[2]
                self.memory[job[1]] = re.search(r"[ ,]mem=(\w+)", text)[1]
            if "JobState=RUNNING" not in text or not (gpu := re.search(r"GRES=gpu:1\(IDX:(\d)\)", text)):
                continue
            held.append(gpu[1])
            if re.search(r"Comment=\S*train", text):
                training[re.search(r"JobId=(\d+)", text)[1]] = gpu[1]
        assert len(held) == len(set(held)) <= 2, f"GPUs held: {held}"
        self.most_training = max(self.most_training, len(training))
        self.devices |= set(training.values())
        return training


def end(process: subprocess.Popen, folder: Path) -> None:
    """Whatever is left of a pipeline that did not get to its end, and of the jobs that were ended here."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        subprocess.run(["scancel", "--user", str(os.getuid())], check=True)
    # Slurm ends the processes that it knows of; the inner Snakemake of a cancelled job may have left them, and wait for ever.
    for left in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in left.info["cmdline"] or ()):
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()


def moments(process: subprocess.Popen, watch: Watch) -> Iterator[dict[str, str]]:
    """The running trainings, asked twice a second until the pipeline ends."""
    deadline = time.monotonic() + 2400
    while process.poll() is None:
        assert time.monotonic() < deadline
        yield watch.look()
        time.sleep(0.5)


def test_the_pipeline_on_slurm_survives_a_cancelled_a_requeued_and_a_job_killed_for_its_memory(
    request, cluster, copy_project, starter, tiny, tmp_path
):
    project = copy_project(tmp_path / "project", **settings(tiny))
    (project.folder / "config/config.yaml").write_text(yaml.safe_dump(settings(tiny), sort_keys=False))
    profile = project.folder / "profiles/slurm/config.yaml"
    profile.write_text(yaml.safe_dump(yaml.safe_load(profile.read_text()) | ON_THIS_CLUSTER))
    rules = project.folder / "workflow/rules/stage2.smk"
    rules.write_text(rules.read_text().replace("growing(16000)", f"growing({TOO_LITTLE})", 1))
    project.commit()
    plan = Plan(parse(settings(tiny)))
    states = {project.folder / (str(plan.network_dir(job)) + ".state") for job in plan.networks}

    watch, harmed = Watch(), {}
    process = project.start("dvc", "repro", PROFILE="profiles/slurm")
    request.addfinalizer(lambda: end(process, project.folder))
    for training in moments(process, watch):
        saved = sum(state.exists() for state in states)
        for job in set(training) - set(harmed):
            if len(harmed) < 2 and saved >= 1:
                how = ["scancel"] if not harmed else ["scontrol", "requeue"]
                harmed[job] = how[-1]
                subprocess.run([*how, job], check=True)
                break
    said = project.read("started.log")
    assert process.returncode == 0, said[-8000:]
    assert sorted(harmed.values()) == ["requeue", "scancel"]
    assert watch.most_training == 2
    assert watch.devices == {"0", "1"}
    # Short jobs went together: two draws of tasks in one submission, tables and figures in another.
    grouped = sorted(name for name in watch.comments.values() if name.startswith(("rule_draw_", "rule_results_")))
    assert grouped == ["rule_draw_draw_episodes", "rule_results_assemble_draw_figures"]
    # All went out once, but the cancelled training (the requeued one keeps its number) and the adaptation, which Slurm killed
    # for its memory and gave twice as much.
    again = [name for name, count in Counter(watch.comments.values()).items() if count > 1]
    cancelled = next(watch.comments[job] for job, how in harmed.items() if how == "scancel")
    (adaptation,) = set(again) - {cancelled}
    assert adaptation.startswith("rule_adapt_")
    first, second = sorted((job for job, name in watch.comments.items() if name == adaptation), key=int)
    assert (watch.memory[first], watch.memory[second]) == (f"{TOO_LITTLE}M", f"{2 * TOO_LITTLE}M")
    (log,) = (project.folder / ".snakemake/slurm_logs").rglob(f"{first}.log")
    assert re.search(rf"StepId={first}\.\d exceeded memory limit \(\d+ > {TOO_LITTLE << 20}\), being killed", log.read_text())
    logs = "".join(path.read_text() for path in (project.folder / "logs/train").rglob("*.log"))
    assert set(re.findall(r"GPU of this job: (\S+)", logs)) <= {"0", "1"}
    assert logs.count("GPU of this job: ") == 3
    assert "up to date" in project.call("dvc", "status")

    undisturbed = tmp_path / "undisturbed"
    (undisturbed / "config").mkdir(parents=True)
    shutil.copy(project.folder / "config/published.csv", undisturbed / "config")
    shutil.copy(project.folder / "config/config.yaml", undisturbed / "run.yaml")
    for stage in ("prepare", "episodes", "train", "extract", "adapt", "evaluate", "assemble"):
        done = starter.run(undisturbed, stage, "run.yaml", *THREADS.get(stage, ["--threads", "1"]))
        assert done.status == 0, done.said
    assert (undisturbed / "results/demo/summary.csv").read_text() == project.read("results/demo/summary.csv")
    for job in plan.networks:
        file = plan.network_dir(job) / "model.safetensors"
        assert (undisturbed / file).read_bytes() == (project.folder / file).read_bytes()
