import json

import numpy as np
import pytest

from fewshot import stages
from fewshot.config import parse
from fewshot.data.store import open_store
from fewshot.files import write_record
from fewshot.plan import Plan

TINY = {
    "run": "tiny",
    "dataset": {"name": "glyphs", "classes": 20, "images_per_class": 20, "image_size": 16},
    "stage1": {
        "training": {
            "iterations": 6, "batch_size": 8, "log_every": 2, "optimizer": {"lr": 0.05},
            "validation": {"every": 3, "way": 3, "shot": 2, "queries": 5, "tasks": 20},
        },
        "networks": {
            "c128f-gap": {"backbone": {"name": "c128f", "widths": [4, 4, 8, 8]}},
            "resnet12-dense": {
                "backbone": {"name": "resnet12", "widths": [4, 4, 8, 8]}, "classifier": {"pooling": "dense"},
            },
        },
    },
    "stage2": {"implants": {"method": "implanting", "width": 2, "epochs": 3}},
    "evaluation": {
        "way": 3, "shots": [1, 2], "queries": 5, "tasks": 30,
        "tests": [
            {"networks": ["c128f-gap"], "populations": ["novel", "base", "both"]},
            {"networks": ["resnet12-dense"], "poolings": ["gap/dense"]},
            {"networks": ["resnet12-dense"], "adaptation": "implants", "shots": [2], "tasks": 10, "poolings": ["gap/dense"]},
        ],
    },
}  # fmt: skip
"""A whole run on drawn images, seconds long."""


@pytest.fixture(scope="session")
def tiny_config():
    return parse(TINY)


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory, tiny_config):
    from fewshot.data.prepare import prepare

    out = tmp_path_factory.mktemp("store") / "tiny" / "images"
    prepare(tiny_config.dataset, out, workers=1, progress=False)
    return open_store(out)


@pytest.fixture
def tiny_plan(tiny_config):
    return Plan(tiny_config)


@pytest.fixture(scope="session")
def run_stages():
    """`run_stages(plan)`: all jobs of a run, or those of the stages `first` to `last`, in the working folder."""
    arrows = {"features": stages.adapt, "classifier": stages.extend}
    jobs = {
        "prepare": lambda plan: stages.prepare(plan, workers=1),
        "episodes": lambda plan: [stages.draw_episodes(plan, plan.episodes(shot)) for shot in plan.config.evaluation.shots],
        "train": lambda plan: [stages.train(plan, job, threads=1) for job in plan.networks],
        "extract": lambda plan: [
            stages.extract(plan, job, part, threads=1) for job in plan.networks for part in plan.feature_parts(job)
        ],
        "adapt": lambda plan: [arrows[job.settings.gives](plan, job, threads=1) for job in plan.adaptations],
        "evaluate": lambda plan: [stages.evaluate(plan, job, threads=1) for job in plan.evaluations],
    }

    def run(plan, last="evaluate", first="prepare"):
        stages_ = list(jobs)
        for stage in stages_[stages_.index(first) : stages_.index(last) + 1]:
            jobs[stage](plan)
        return plan

    return run


@pytest.fixture
def edit_record():
    """`edit_record(path, key=value)`: a record as its writer would have written it, sealed anew with the files as they are."""

    def edit(path, **values):
        record = json.loads(path.read_text())
        files = record.pop("files")
        record.pop("seal")
        write_record(path, record | values, list(files))

    return edit


@pytest.fixture
def rng():
    return np.random.default_rng(0)
