"""The arrows of the pipeline: from a plan's job to its files. The command line and the Snakemake adapters call only these.

Each takes its paths from the plan, reads what the arrows before it wrote, and writes its outputs atomically.
"""

from __future__ import annotations

import logging
from dataclasses import asdict

from fewshot import activation_maps, adaptation, episodes, evaluation, features, plots, provenance, report, training
from fewshot.checkpoint import load_network
from fewshot.config import content_hash
from fewshot.data.prepare import prepare as prepare_store
from fewshot.data.store import Rows, open_store
from fewshot.device import select_device
from fewshot.files import replacing_folder, write_json
from fewshot.plan import AS_TRAINED, AdaptationJob, EpisodeJob, EvaluationJob, NetworkJob, Plan

logger = logging.getLogger(__name__)


def prepare(plan: Plan, *, workers: int | None = None) -> None:
    """Archive -> image store."""
    prepare_store(plan.config.dataset, plan.store_dir, workers=workers)


def draw_episodes(plan: Plan, job: EpisodeJob) -> None:
    """Image store -> episode file."""
    episodes.save(episodes.draw(open_store(plan.store_dir), job), plan.episodes_path(job))


def train(plan: Plan, job: NetworkJob, *, threads: int | None = None) -> None:
    """Image store -> trained network (stage 1)."""
    device = select_device(plan.config.device, threads)
    training.train(open_store(plan.store_dir), job, plan.network_dir(job), device)


def extract(plan: Plan, job: NetworkJob, *, threads: int | None = None) -> None:
    """Trained network -> features of the evaluated classes and of the held-out base images."""
    device = select_device(plan.config.device, threads)
    store = open_store(plan.store_dir)
    network, info = load_network(plan.network_dir(job), device)
    parts: list[Rows] = [plan.config.evaluation.part]
    if len(store.rows("held_out")):
        parts.append("held_out")
    features.extract(network, info, store, parts, plan.features_dir(job))


def adapt(plan: Plan, job: AdaptationJob, *, threads: int | None = None) -> None:
    """Trained network and tasks -> adapted features (stage 2)."""
    device = select_device(plan.config.device, threads)
    store = open_store(plan.store_dir)
    network, info = load_network(plan.network_dir(job.network), device)
    tasks = episodes.load(plan.episodes_path(job.episodes), store)
    adaptation.adapt(network, info["sha256"], store, tasks, job, plan.adapted_dir(job))


def evaluate(plan: Plan, job: EvaluationJob, *, threads: int | None = None) -> None:
    """Features and tasks -> accuracy of every task, one parquet file a setting, and settings.json."""
    device = select_device(plan.config.device, threads)
    store = open_store(plan.store_dir)
    network, info = load_network(plan.network_dir(job.network), device)
    table = features.load(plan.features_dir(job.network), info["sha256"])
    evaluator = evaluation.Evaluator(table, device, evaluation.class_weights(network, store.labels[table.rows]))
    hashes, records = {}, []
    with replacing_folder(plan.evaluation_dir(job)) as folder:
        for setting in job.settings:
            tasks = episodes.load(plan.episodes_path(plan.episodes(setting.shot)), store)
            hashes[setting.shot] = tasks.hash
            added, scale = None, network.scale
            if job.adaptation != AS_TRAINED:
                stage2 = plan.adaptation(job.network, job.adaptation, plan.episodes(setting.shot).key)
                added = adaptation.load_adapted(plan.adapted_dir(stage2), info["sha256"], tasks)
                scale = stage2.settings.scale
            scale = plan.config.evaluation.scale or scale
            accuracies = evaluator.accuracies(
                tasks, setting.support_pooling, setting.query_pooling, scale, setting.populations, setting.tasks, added
            )
            evaluation.save_accuracies(folder / f"{setting.key}.parquet", accuracies)
            for population, values in accuracies.items():
                mean, half = evaluation.interval(values)
                logger.info("%s, %s: %.2f ± %.2f %% over %d tasks", setting.key, population, mean, half, len(values))
            identity = {
                "job": plan.identity(job, setting),
                "data": store.data_hash,
                "episodes": tasks.hash,
                "scale": scale,
            }
            records.append({"key": setting.key, **asdict(setting), "scale": scale, "run_key": content_hash(identity)[:16]})
        write_json(
            folder / "settings.json",
            {
                "format": 1, "run": plan.config.run, "dataset": plan.config.dataset.name, "network": job.network.name,
                "network_key": job.network.key, "seed": job.network.seed, "adaptation": job.adaptation,
                "way": plan.config.evaluation.way, "queries": plan.config.evaluation.queries,
                "part": plan.config.evaluation.part,
                "episodes": hashes, "data_hash": store.data_hash, "model_sha256": info["sha256"],
                "device": provenance.device_words(device), "git_revision": provenance.git_revision(),
                "versions": provenance.versions(), "settings": records,
            },
        )  # fmt: skip


def assemble(plan: Plan) -> None:
    """Task results -> summary.csv, paired.csv, metrics.json, tables."""
    report.assemble(plan)


def draw_figures(plan: Plan) -> None:
    """Task results and training curves -> figures."""
    plots.draw_figures(plan)


def draw_activation_maps(plan: Plan) -> None:
    """Two networks and the images -> class activation maps (figure 3 of paper 000)."""
    activation_maps.draw_activation_maps(plan)
