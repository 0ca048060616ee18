"""The results of an evaluation job: the accuracy of every task in every setting, and what was evaluated on what.

Folder: one parquet file a setting (`<setting key>.parquet`: a row a task, a column a population, percent) and settings.json.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fewshot import job_code, nearest_prototype, predictions, provenance
from fewshot.accuracies import save
from fewshot.adapted import load_adapted
from fewshot.config import AS_TRAINED, content_hash
from fewshot.data.store import Store
from fewshot.episodes import Episodes
from fewshot.episodes import load as load_episodes
from fewshot.errors import DataError
from fewshot.evaluation import Accuracies, Evaluator, class_weights
from fewshot.features import Features
from fewshot.files import file_hash, read_json, read_record, write_record
from fewshot.intervals import in_words, interval
from fewshot.locks import replacing_folder
from fewshot.models.network import Network
from fewshot.plan import AdaptationJob, EvaluatedSetting, EvaluationJob, Plan
from fewshot.taken import adaptation_folder, evaluation_folder, is_taken

logger = logging.getLogger(__name__)
FORMAT = 1


def evaluate(plan: Plan, job: EvaluationJob, store: Store, network: Network, info: dict[str, Any], features: Features) -> None:
    """Evaluate all settings of a job and write their folder.

    Args:
        plan: gives the paths of episodes and adapted features, and of the output.
        job: which settings.
        store: images and classes.
        network: on the device to compute on.
        info: its model.json.
        features: of the network.
    """
    device = network.mean.device
    evaluator = Evaluator(features, device, class_weights(network, store.labels[features.rows]))
    hashes: dict[int, str] = {}
    records = []
    place = plan.evaluation_dir(job)
    with replacing_folder(place) as folder:
        for setting in job.settings:
            episodes = load_episodes(plan.episodes_path(plan.episodes(setting.shot)), store)
            hashes[setting.shot] = episodes.hash
            # The scale belongs to the test, not to the adaptation, so that a gain by adaptation is never one by another scale.
            scale = plan.config.evaluation.scale or network.test_scale
            accuracies = _accuracies(plan, job, setting, store, info["sha256"], episodes, evaluator, scale)
            save(folder / f"{setting.key}.parquet", accuracies)
            for population in setting.populations:
                values = accuracies[population]
                mean, half = interval(values)
                over = "task" if len(values) == 1 else "tasks"
                logger.info("%s, %s: %s over %d %s", setting.key, population, in_words(mean, half), len(values), over)
            records.append(_record(plan, job, setting, store, episodes, scale))
        write_record(
            folder / "settings.json",
            {
                "format": FORMAT, "run": plan.config.run, "dataset": plan.config.dataset.name, "network": job.network.name,
                "network_key": job.network.key, "seed": job.network.seed, "adaptation": job.adaptation,
                "way": episodes.support.shape[1], "queries": plan.config.evaluation.queries,
                "part": plan.config.evaluation.part, "episodes": hashes, "data_hash": store.data_hash,
                "model_sha256": info["sha256"], "features": _features(plan, job), "adapted": _adapted(plan, job),
                "adapted_in": _adapted_in(plan, job),
                "device": provenance.device_words(device),
                "code": job_code.evaluation(),
                "git_revision": provenance.git_revision(), "versions": provenance.versions(), "settings": records,
            },
            [f"{setting.key}.parquet" for setting in job.settings],
        )  # fmt: skip
    for other in place.parent.glob(f"seed{job.network.seed}-*"):  # of other settings, or carried here
        if other != place:
            shutil.rmtree(other)


def _accuracies(
    plan: Plan,
    job: EvaluationJob,
    setting: EvaluatedSetting,
    store: Store,
    sha256: str,
    episodes: Episodes,
    evaluator: Evaluator,
    scale: float,
) -> Accuracies:
    """Of a network as trained or with adapted features, by the evaluator; of one trained on tasks, by the nearest prototype;
    of an extended classifier, from its predictions."""
    added = None
    if job.adaptation != AS_TRAINED:
        stage2 = plan.adaptation(job.network, job.adaptation, plan.episodes(setting.shot).key)
        folder = plan.adapted_dir(stage2)
        if stage2.settings.gives == "classifier":
            said = predictions.load(folder, sha256, episodes)
            return predictions.accuracies(episodes, said, store.labels, store.num_base, setting.populations, setting.tasks)
        added = load_adapted(folder, sha256, episodes)
    distance = job.network.settings.distance
    if distance is not None:
        features, device = replace(evaluator.features, values=evaluator.values), evaluator.device  # read once for all settings
        return nearest_prototype.accuracies(features, episodes, setting.support_pooling, distance, device, setting.tasks)
    poolings = setting.support_pooling, setting.query_pooling
    return evaluator.accuracies(episodes, *poolings, scale, setting.populations, setting.tasks, added)


def _record(
    plan: Plan, job: EvaluationJob, setting: EvaluatedSetting, store: Store, episodes: Episodes, scale: float
) -> dict[str, Any]:
    identity = plan.identity(job, setting)
    origin = {"job": identity, "data": store.data_hash, "episodes": episodes.hash, "scale": scale}
    run_key = content_hash(origin)[:16]
    return {"key": setting.key, **asdict(setting), "scale": scale, "run_key": run_key, "identity": identity}


def _adaptations(plan: Plan, job: EvaluationJob) -> list[AdaptationJob]:
    return [one for one in plan.adaptations if (one.network, one.name) == (job.network, job.adaptation)]


def _adapted(plan: Plan, job: EvaluationJob, folder: Callable[[Plan, AdaptationJob], Path] = Plan.adapted_dir) -> list[str]:
    """Hashes of the records of what stage 2 made for a job, as far as they are here."""
    records = [folder(plan, one) / "adapt.json" for one in _adaptations(plan, job)]
    return [file_hash(path) for path in records if path.exists()]


def _adapted_in(plan: Plan, job: EvaluationJob) -> dict[int, str]:
    """Number of shots -> in what precision stage 2 trained backbones; of what trained none, nothing."""
    records = {one.episodes.shot: plan.adapted_dir(one) / "adapt.json" for one in _adaptations(plan, job)}
    found = {shot: read_json(path).get("precision") for shot, path in records.items() if path.exists()}
    return {shot: precision for shot, precision in found.items() if precision}


def _features(plan: Plan, job: EvaluationJob) -> str | None:
    """Hash of the network's features as their record has it; None: there is none."""
    record = plan.features_dir(job.network) / "features.json"
    return read_json(record).get("files", {}).get("features.npy") if record.exists() else None


def is_current(plan: Plan, job: EvaluationJob) -> bool:
    """Whether there are results of these very settings on the network, features and adaptation that are there, by this code.

    Those of an earlier version do not tell their code, and those that were carried here may be of another: both count.
    """
    folder = evaluation_folder(plan, job)
    try:
        record = read_record(folder / "settings.json", [f"{setting.key}.parquet" for setting in job.settings])
    except DataError:
        return False
    model = read_record(plan.network_dir(job.network) / "model.json")
    if not is_taken(plan, job):
        now = {"code": job_code.evaluation(), "features": _features(plan, job)}
        if any(value is not None and record.get(name) not in (None, value) for name, value in now.items()):
            return False
    wanted = [json.loads(json.dumps(plan.identity(job, setting))) for setting in job.settings]
    return (
        record.get("model_sha256") == model.get("sha256")
        and record.get("data_hash") == model.get("data_hash")
        and set(_adapted(plan, job, adaptation_folder)) <= set(record.get("adapted", []))
        and [setting.get("identity") for setting in record.get("settings", [])] == wanted
    )
