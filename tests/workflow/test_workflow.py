"""The workflow as a whole: which jobs a config plans, and what a user's mistake says. Each call costs seconds: few of them."""

import os
import re
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from snakemake.utils import available_cpu_count

from fewshot.config import load
from fewshot.plan import Plan

ROOT = Path(__file__).parents[2]
RUNS = sorted(path.stem for path in (ROOT / "config" / "runs").glob("*.yaml"))


def _planned(output: str) -> dict[str, int]:
    """Jobs by rule, from the table of a dry run."""
    table = output[output.index("Job stats:") :].split("\n\n", maxsplit=1)[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}


def _jobs_of(rule: str, done: subprocess.CompletedProcess[str]) -> int:
    """How many jobs of a rule a dry run plans."""
    assert done.returncode == 0, done.stdout + done.stderr
    return _planned(done.stdout + done.stderr).get(rule, 0)


def _expected(plan: Plan) -> dict[str, int]:
    mapped = [job for job in plan.adaptations if job.settings.method == "activation_to_parameter"]
    learners = {job.network for job in mapped}
    views = {(job.network, job.settings.views) for job in mapped if job.settings.views}  # once for all shots
    jobs = {
        "prepare": 1, "draw_episodes": len({shot for job in plan.evaluations for shot in job.shots}),
        "train": len(plan.networks), "extract": len({job.network for job in plan.evaluations}) + len(learners) + len(views),
        "adapt": sum(job.settings.gives == "features" for job in plan.adaptations),
        "extend": sum(job.settings.gives == "classifier" for job in plan.adaptations),
        "draw_low_shot_figures": int(plan.config.evaluation.way == "all"),
        "evaluate": len(plan.evaluations), "assemble": 1, "draw_figures": 1, "write_report": 1,
        "draw_activation_maps": int(plan.config.activation_maps is not None),
        "draw_class_vectors": int(plan.config.class_vectors is not None),
        "draw_distance_figures": int(any(job.settings.training.objective.kind == "episodic" for job in plan.networks)),
        "init_tracking": 1, "track": len(plan.networks), "all": 1,
    }  # fmt: skip
    return {**{name: count for name, count in jobs.items() if count}, "total": sum(jobs.values())}


def test_the_demo_plans_every_job_once(snakemake, root):
    done = snakemake("--dry-run", "--quiet", "host")  # lists every job's files
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = _planned(done.stdout + done.stderr)
    assert jobs == _expected(Plan(load(root / "config" / "config.yaml")))
    assert jobs == {
        "prepare": 1, "draw_episodes": 3, "train": 4, "extract": 4, "adapt": 2, "evaluate": 5, "assemble": 1, "draw_figures": 1,
        "draw_activation_maps": 1, "write_report": 1, "init_tracking": 1, "track": 4, "all": 1, "total": 29,
    }  # fmt: skip
    written = re.findall(r"^\s+output: (.+)$", done.stdout + done.stderr, re.MULTILINE)
    files = Counter(file for line in written for file in line.split(", "))
    assert len(files) > 29
    assert max(files.values()) == 1


@pytest.mark.parametrize("run", RUNS)
def test_a_run_file_takes_the_place_of_the_demo(snakemake, root, run):
    file = root / "config" / "runs" / f"{run}.yaml"
    done = snakemake("--dry-run", "--configfile", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert _planned(done.stdout + done.stderr) == _expected(Plan(load(file)))
    assert "demo" not in done.stdout + done.stderr


def test_a_changed_folder_makes_the_store_again_and_a_missing_one_does_not(snakemake, root, tmp_path):
    """Prepares drawn images; then the archives' stand-in, a folder, is changed, and then taken away."""
    images = tmp_path / "images"
    for name in map(str, range(10)):
        (images / name).mkdir(parents=True)
        for number in range(6):
            Image.fromarray(np.full((16, 16, 3), number, np.uint8)).save(images / name / f"{number}.png")
    file = str(root / "config" / "runs" / "folder.yaml")
    run = ("--configfile", file, "--config", f"dataset={{name: folder, folder: {images}, image_size: 16}}")
    quietly = ("--until", "prepare", "--quiet", "host", "--cores", "1", *run)
    done = snakemake(*quietly)
    assert done.returncode == 0, done.stdout + done.stderr

    def planned():
        return _jobs_of("prepare", snakemake("--dry-run", *quietly))

    assert planned() == 0
    (images / "0" / "0.png").write_bytes((images / "0" / "1.png").read_bytes())
    os.utime(images / "0" / "0.png", (0, 0))  # older than the store, and another file all the same
    assert planned() == 1
    images.rename(tmp_path / "elsewhere")
    assert planned() == 0
    (tmp_path / "elsewhere").rename(images)
    assert planned() == 1
    done = snakemake("--touch", *quietly)  # "they are the same" (config/README.md)
    assert done.returncode == 0, done.stdout + done.stderr
    assert planned() == 0


def test_a_missing_archive_is_said_before_any_job_starts(snakemake, root, tmp_path):
    run = ("--cores", "1", "--configfile", str(root / "config" / "runs" / "fc100_cpu.yaml"))
    missing = f"dataset={{raw: {tmp_path}}}"
    done = snakemake(*run, "--config", missing)
    said = (done.stdout + done.stderr).splitlines()
    assert done.returncode != 0
    named = [number for number, line in enumerate(said) if "archive missing; get CIFAR-100, python version" in line]
    assert len(named) == 1, said
    assert said[named[0]].startswith(f"{tmp_path}/cifar-100-python.tar.gz: ")
    assert not [line for line in said if re.search(r"^(rule|localrule) |Traceback|Error in rule", line)]
    assert snakemake(*run, "--dry-run", "--config", missing).returncode == 0


def test_a_replaced_file_of_weights_trains_its_network_again_and_no_other(snakemake, tmp_path):
    torch, torchvision = pytest.importorskip("torch"), pytest.importorskip("torchvision")
    weights = tmp_path / "weights.pth"
    run = tmp_path / "run.yaml"
    run.write_text(
        f"""
run: weighed
dataset: {{name: glyphs, classes: 10, images_per_class: 6, image_size: 32}}
stage1:
  training: {{iterations: 1, batch_size: 2, validation: {{every: 0, keep: last}}}}
  networks:
    own: {{backbone: {{name: resnet18, weights: {weights}}}}}
    plain: {{backbone: {{name: c128f, widths: [2, 2, 2, 2]}}}}
evaluation: {{way: 2, shots: [1], queries: 2, tasks: 2, tests: [{{networks: [own, plain]}}]}}
"""
    )
    quietly = ("--until", "train", "--quiet", "host", "--cores", "2", "--configfile", str(run))
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    done = snakemake(*quietly)
    assert done.returncode == 0, done.stdout + done.stderr

    def planned():
        return _jobs_of("train", snakemake("--dry-run", *quietly))

    assert planned() == 0
    os.utime(weights)
    assert planned() == 0
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    assert planned() == 1
    weights.rename(tmp_path / "elsewhere.pth")
    assert planned() == 0
    done = snakemake(*quietly, "--config", "seeds=[1]")  # which is not trained yet
    assert done.returncode != 0
    assert f"{weights}: no such file of weights; bring it" in done.stdout + done.stderr
    assert not re.search(r"^(rule|localrule) |Traceback|Error in rule", done.stdout + done.stderr, re.MULTILINE)


def test_what_a_file_extends_lies_under_it_and_single_keys_over_it(snakemake, root, tmp_path):
    file = tmp_path / "mine.yaml"
    runs = root / "config" / "runs"
    file.write_text(f"extends: [{runs}/000_table4_methods.yaml, {root}/config/lengths/cpu.yaml]\nrun: mine\nseeds: [3]\n")
    done = snakemake("--dry-run", "--quiet", "host", "--configfile", str(file), "--config", "seeds=[3,4]")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "results/mine/evaluations/resnet12-dense/implants/seed4" in said
    assert "5shot-30queries-200tasks" in said
    assert _planned(said)["train"] == 3 * 2
    file.write_text("extends: nothing.yaml\nrun: mine\n")
    done = snakemake("--dry-run", "--configfile", str(file))
    assert done.returncode != 0
    assert re.search(r"mine\.yaml: extends \S+nothing\.yaml, which is no file; name one beside it", done.stdout + done.stderr)


def test_without_tracking_no_mlflow_job_is_planned(snakemake):
    done = snakemake("--dry-run", "results_only", "--config", "seeds=[0,1]")
    jobs = _planned(done.stdout + done.stderr)
    assert jobs["train"] == 8  # a key given alone is laid over the demo
    assert "track" not in jobs
    assert "init_tracking" not in jobs


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--config", "evaluatoin={}"],
            r"config/config\.yaml and --config: evaluatoin: unknown key; evaluation is meant\? config/README\.md lists the",
        ),
        (["results/other/summary.csv"], r"no run 'other' in this config; its run is demo"),
        (
            ["results/demo/evaluations/c128f-gap/implants/seed0-0123456789"],
            r"run demo does not evaluate c128f-gap/implants; it has .*resnet12-dense/implants",
        ),
        (
            ["resources/{store}/networks/resnet50-0123456789/seed0/model.json"],
            r"no network 'resnet50-0123456789' with seed 0 in run demo; it has c128f-gap-\w{10} \(seed 0\), ",
        ),
        (
            ["resources/{store}/episodes/test-20way.npz"],
            r"no episodes 'test-20way' in run demo; it has test-5way-1shot-",
        ),
        (
            ["resources/{store}/networks/{network}/seed0/features-val/features.npy"],
            r"no features of part 'val' of c128f-gap in run demo; it has test",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_what_there_is(snakemake, root, arguments, line):
    plan = Plan(load(root / "config" / "config.yaml"))
    names = {"{store}": plan.store, "{network}": plan.networks[0].key}
    for name, value in names.items():
        arguments = [argument.replace(name, value) for argument in arguments]
    done = snakemake("--dry-run", *arguments)
    assert done.returncode != 0
    said = [text for text in (done.stdout + done.stderr).splitlines() if re.search(line, text)]
    assert len(said) == 1, done.stdout + done.stderr


def test_the_default_profile_is_found_and_caps_what_exists_once(snakemake, root):
    done = snakemake("--dry-run", "--quiet", "host", "--config", "device=cuda")
    assert "profiles/default" in done.stdout + done.stderr
    assert "gpu=1" in done.stdout + done.stderr
    profile = (root / "profiles" / "default" / "config.yaml").read_text()
    assert re.search(r"^resources:\n  gpu: 1\n  mlflow: 1", profile, re.MULTILINE)


def _threads_to_prepare(done: subprocess.CompletedProcess[str]) -> int:
    """Of a dry run; where Snakemake names none it is one."""
    job = (done.stdout + done.stderr).split("rule prepare:\n")[1].split("\n\n")[0]
    named = re.search(r"^ +threads: (\d+)$", job, re.MULTILINE)
    return int(named[1]) if named else 1


def test_the_default_profile_gives_all_cores_and_the_command_line_less(snakemake):
    quietly = ("--dry-run", "--quiet", "host", "--until", "prepare")
    assert _threads_to_prepare(snakemake(*quietly)) == min(64, available_cpu_count())
    assert _threads_to_prepare(snakemake(*quietly, "--cores", "3")) == 3


def test_the_slurm_profile_plans_the_same_jobs(snakemake, root):
    """With a number of cores, for a dry run without one counts with a single core; the profile of the cluster bounds none."""
    done = snakemake("--dry-run", "--quiet", "host", "--cores", "64", "--workflow-profile", str(root / "profiles" / "slurm"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert _planned(done.stdout + done.stderr)["total"] == 29
    assert _threads_to_prepare(done) == 16


CONDA = """#!/bin/sh
case "$*" in
  "info --json") echo '{"conda_prefix": "/nowhere", "platform": "linux-64"}' ;;
  "--version") echo "conda 25.1.0" ;;
  *channel_priority*) echo '{"get": {"channel_priority": "strict"}}' ;;
  *) echo "unexpected: $*" >&2; exit 1 ;;
esac
"""


def test_every_job_that_runs_code_has_a_conda_environment(snakemake, tmp_path):
    """What Snakemake plans where conda is: a stand-in answers its questions about the installation."""
    (tmp_path / "conda").write_text(CONDA)
    (tmp_path / "conda").chmod(0o755)
    done = snakemake("--dry-run", "--software-deployment-method", "conda", path=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    created = set(re.findall(r"(\w+\.yaml) will be created", said))
    assert created == {"core.yaml", "tracking.yaml"}


def test_the_rules_are_clean(snakemake):
    done = snakemake("--lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sections_of_the_front_door_are_in_order(root):
    lines = (root / "Snakefile").read_text().splitlines()
    assert len(lines) < 60
    included = [lines.index(f'include: "workflow/rules/{name}.smk"') for name in (
        "common", "files", "parameters", "data", "stage1", "stage2", "evaluate", "report", "tracking"
    )]  # fmt: skip
    assert all(before < after for before, after in pairwise(included))
