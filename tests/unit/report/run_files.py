"""What run files do otherwise than the papers of their tables, by the settings alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from fewshot.config import NetworkSettings, load
from fewshot.data.splits import published_split
from fewshot.plan import EvaluationJob, Plan
from fewshot.report.deviations import deviations
from fewshot.report.setting import Facts

RUNS = Path(__file__).parents[3] / "config" / "runs"
CLASSES = {
    name: tuple(sum(1 for _, its in published_split(name) if its == part) * turns for part in ("base", "test"))
    for name, turns in (("miniimagenet", 1), ("omniglot", 4))
}
CLASSES["cub"] = (100, 100)
"""Data set -> its base and test classes; of Omniglot, in four rotations; of CUB, its halves."""


def facts(plan: Plan, job: EvaluationJob) -> Facts:
    """Of the first setting of a job, without the run file's own sentences."""
    config = plan.config
    images = {"omniglot": 20, "cub": 30}.get(config.dataset.name, 600)
    held_out = round(images * config.dataset.held_out) if config.dataset.name != "cub" else 0
    classes = CLASSES.get(config.dataset.name, (0, 0))
    return Facts(
        config.dataset.name, config.dataset.image_size or 84, (images - held_out,) * 2, (held_out,) * 2, classes,
        job.network.settings, config.stage2.get(job.adaptation), job.settings[0].tasks, config.evaluation.queries,
        part=config.evaluation.part,
    )  # fmt: skip


def automatic(run: str, name: str, of: str = "as-trained", **changed: Any) -> list[str]:
    """Deviations of a network and an adaptation in a run file, changed."""
    plan = Plan(load(RUNS / f"{run}.yaml"))
    job = next(job for job in plan.evaluations if (job.network.name, job.adaptation) == (name, of))
    return deviations(replace(facts(plan, job), **changed))


def changed_in(run: str, name: str, adaptation: str, **changed: Any) -> list[str]:
    """Sentences that a change of a run file's network brings."""
    settings = load(RUNS / f"{run}.yaml").stage1.networks[name].model_dump()
    of_network = {key: settings[key] | changed.pop(key, {}) for key in ("backbone", "classifier")}
    other = NetworkSettings.model_validate({**settings, **of_network, "training": {**settings["training"], **changed}})
    usual = automatic(run, name, adaptation)
    return [text for text in automatic(run, name, adaptation, network=other) if text not in usual]
