"""A run whose jobs are made up: the files that the report reads, without training or testing anything."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fewshot.config import parse
from fewshot.data.store import open_store, write_store
from fewshot.files import write_record
from fewshot.plan import EvaluationJob, NetworkJob, Plan
from fewshot.report.published import load_published

PUBLISHED = Path(__file__).parents[3] / "config" / "published.csv"

CONFIG: dict[str, Any] = {
    "run": "made",
    "title": "A made-up run",
    "notes": ["No number here was <measured>."],
    "deviations": ["numbers made up"],
    "device": "cpu",
    "dataset": {"name": "fc100"},
    "stage1": {
        "training": {"iterations": 600, "batch_size": 64},
        "networks": {
            "small-gap": {"backbone": {"name": "c128f"}, "classifier": {"pooling": "gap"}},
            "r12-gap": {"backbone": {"name": "resnet12"}, "classifier": {"pooling": "gap"}},
            "r12-dense": {"backbone": {"name": "resnet12"}, "classifier": {"pooling": "dense"}},
        },
    },
    "stage2": {"implants": {"method": "implanting"}},
    "evaluation": {
        "shots": [1, 5],
        "tasks": 40,
        "queries": 3,
        "tests": [
            {"networks": ["small-gap", "r12-gap"], "poolings": ["gap/gap"]},
            {"networks": ["r12-dense"], "poolings": ["gap/dense", "gmp/gmp"]},
            {"networks": ["r12-gap"], "poolings": ["gap/gap"], "populations": ["novel", "base", "both"], "shots": [5]},
            {"networks": ["r12-dense"], "poolings": ["gap/dense"], "populations": ["novel", "base", "both"], "shots": [5]},
            {"networks": ["r12-dense"], "adaptation": "implants", "poolings": ["gap/dense"], "shots": [5], "tasks": 20},
        ],
    },
    "activation_maps": {"networks": ["r12-gap", "r12-dense"]},
}


def accuracies(job: EvaluationJob, key: str, population: str, shot: int, tasks: int, queries: int) -> np.ndarray:
    """Percent of each task: how hard the task is, the same for all settings, and a part of the setting's own."""
    hard = np.random.default_rng(shot).normal(0, 6, 10_000)[:tasks]
    name = f"{job.network.name}{job.adaptation}{key}{population}{job.network.seed}"
    own = np.random.default_rng(zlib.crc32(name.encode())).normal(0, 3, 10_000)[:tasks]
    level = 40 + 4 * shot - (12 if population == "both" else 0) + 4 * ("dense" in name) + 3 * (job.adaptation == "implants")
    step = 100 / (5 * queries)
    return np.clip(np.round((level + hard + own) / step) * step, 0, 100)


def write_network(folder: Path, job: NetworkJob, data_hash: str) -> None:
    folder.mkdir(parents=True)
    info = {
        "format": 1, "network": job.settings.as_dict(), "name": job.name, "seed": job.seed, "iteration": 400,
        "iterations": job.settings.training.iterations, "kept": "best", "parameters": 8_000_000, "precision": "float32",
        "validation": {"accuracy": 51.25, "ci95": 0.5, "iteration": 400}, "device": "CPU (made up, 2 cores)", "seconds": 61.7,
        "classes": ["ape", "bee"], "git_revision": f"of-{job.name}", "data_hash": data_hash,
        "sha256": f"weights-of-{job.key}-{job.seed}",
    }  # fmt: skip
    rng = np.random.default_rng(zlib.crc32(job.name.encode()))
    lines: list[dict[str, float]] = []
    for i in range(50, 601, 50):
        loss = 4 * np.exp(-i / 300) + rng.uniform(0, 0.2)
        lines.append(
            {
                "iteration": i,
                "loss": loss,
                "accuracy": 100 - 20 * loss,
                "lr": 0.1,
                "scale": 10 + i / 100,
                "images_per_second": 900,
            }
        )
        if i % 200 == 0:
            lines.append({"iteration": i, "validation_accuracy": 40 + i / 50 + rng.uniform(0, 4), "validation_ci95": 0.8})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_record(folder / "model.json", info, ("metrics.jsonl",))


def write_evaluation(plan: Plan, job: EvaluationJob, data_hash: str) -> None:
    folder = plan.evaluation_dir(job)
    folder.mkdir(parents=True)
    queries = plan.config.evaluation.queries
    records = []
    for setting in job.settings:
        columns = {
            name: accuracies(job, setting.key, name, setting.shot, setting.tasks, queries) for name in setting.populations
        }
        pd.DataFrame({"task": np.arange(setting.tasks), **columns}).to_parquet(folder / f"{setting.key}.parquet", index=False)
        records.append(
            {
                "key": setting.key, "identity": plan.identity(job, setting),
                "run_key": f"key-{job.network.name}-{job.adaptation}-{setting.key}-{job.network.seed}",
            }
        )  # fmt: skip
    info = {
        "format": 1, "run": plan.config.run, "way": plan.config.evaluation.way, "queries": queries, "settings": records,
        "episodes": {str(shot): f"tasks-of-{shot}" for shot in job.shots}, "data_hash": data_hash,
        "network_key": job.network.key, "model_sha256": f"weights-of-{job.network.key}-{job.network.seed}",
    }  # fmt: skip
    write_record(folder / "settings.json", info, [f"{setting.key}.parquet" for setting in job.settings])


def write_images(plan: Plan) -> str:
    """4 base classes of 6 images, one of them held out; 2 validation classes of 4; 6 test classes of 12. Returns their hash."""
    labels = np.repeat(np.arange(12), [6] * 4 + [4] * 2 + [12] * 6)
    held_out = np.zeros(len(labels), dtype=bool)
    held_out[[0, 6, 12, 18]] = True
    size = plan.config.dataset.image_size
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (12, 1, 1, 3))[labels]
    images = np.clip(colours + rng.integers(-40, 40, (len(labels), size, size, 3)), 0, 255).astype(np.uint8)
    write_store(
        plan.store_dir, dataset=plan.config.dataset.name, settings={}, labels=labels, held_out=held_out, images=[images],
        classes=[(f"class{i}", "base" if i < 4 else "val" if i < 6 else "test") for i in range(12)],
        files=[f"image{i}.png" for i in range(len(labels))], image_size=size, notes=["archive hash not checked"],
    )  # fmt: skip
    return open_store(plan.store_dir).data_hash


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    """The published numbers."""
    return load_published(PUBLISHED)


@pytest.fixture(scope="session")
def own(table: pd.DataFrame) -> pd.DataFrame:
    """Those of paper 000's own methods."""
    return table[(table["paper"] == "000") & (table["stage1"] != "")]


@pytest.fixture
def made_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """Call it with changes to CONFIG's top-level keys: the plan, with all files in the working directory."""

    def make(**changes: Any) -> Plan:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "config").mkdir(exist_ok=True)
        (tmp_path / "config" / "published.csv").write_bytes(PUBLISHED.read_bytes())
        plan = Plan(parse({**CONFIG, **changes}))
        data_hash = write_images(plan)
        for network in plan.networks:
            write_network(plan.network_dir(network), network, data_hash)
        for evaluation in plan.evaluations:
            write_evaluation(plan, evaluation, data_hash)
        for adaptation in plan.adaptations:
            told = {"seconds": 12.25, "device": "CPU (made up, 2 cores)", "threads": 2}
            write_record(plan.adapted_dir(adaptation) / "adapt.json", told)
        return plan

    return make
