"""Whether what a job made is of what is there now: images, network, code. The command line makes anew what is not.

Snakemake keeps notes of its own on the jobs that it ran, and compares those; here the records of the outputs are compared,
whoever made them. What a record of an earlier version does not tell counts as unchanged, and so do results that were carried
here from another machine. A network of other code alone is kept, with a word about it: its training may have taken days.

Reasons are words to be said after "is": `of other images`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fewshot import job_code
from fewshot.files import read_json
from fewshot.plan import AdaptationJob, EpisodeJob, FeaturePart, NetworkJob, Plan
from fewshot.provenance import archives_as_known, folder_hashes, pretrained_hash
from fewshot.taken import is_taken

logger = logging.getLogger(__name__)
OTHER_CODE = "made by other code"


def store_outdated(plan: Plan) -> str | None:
    """Why the image store is to be made again, or None. Where images or archives are gone, it is kept."""
    settings = plan.config.dataset
    origin = read_json(plan.store_dir / "meta.json").get("origin", {})
    if not origin or not all(path.exists() for path in settings.paths):
        return None
    if origin.get("folders") != folder_hashes(settings) or not archives_as_known(settings, plan.store_dir):
        return "of other images"
    return None if origin.get("code") == job_code.preparation(settings) else OTHER_CODE


def episodes_outdated(plan: Plan, job: EpisodeJob) -> str | None:
    """Why tasks are to be drawn again, or None."""
    from fewshot import episodes

    meta = episodes.load(plan.episodes_path(job)).meta
    why = _other(meta, "data_hash", _data_hash(plan), "drawn on other images")
    return why or _other(meta, "code", job_code.episodes(), "drawn by other code")


def network_outdated(plan: Plan, job: NetworkJob) -> str | None:
    """Why a network is to be trained again, or None. One of other code is kept and named in the log."""
    path = plan.network_dir(job) / "model.json"
    record = read_json(path)
    why = _other(record, "data_hash", _data_hash(plan), "trained on other images")
    if job.teacher is not None and record.get("teacher"):
        teacher = read_json(plan.network_dir(job.teacher) / "model.json")
        why = why or _other(record["teacher"], "sha256", teacher.get("sha256"), "the student of another teacher")
    weights = pretrained_hash(job.settings)
    if weights is not None:
        why = why or _other(record, "weights_sha256", weights, "trained from other weights")
    if why is None and _other(record, "code", job_code.training(job.settings), OTHER_CODE):
        logger.warning("%s: %s than the present; `fewshot train --force` trains it again", path, OTHER_CODE)
    return why


def features_outdated(plan: Plan, job: NetworkJob, part: FeaturePart) -> str | None:
    """Why a network's features are to be computed again, or None."""
    record = read_json(plan.features_dir(job, part) / "features.json")
    return _other(record, "network_sha256", _sha256(plan, job), "of another network") or _other(
        record, "code", job_code.extraction(job.settings, part.views), OTHER_CODE
    )


def adaptation_outdated(plan: Plan, job: AdaptationJob) -> str | None:
    """Why a stage-2 method is to be applied again, or None."""
    if is_taken(plan, plan.evaluation(job.network, job.name)):
        return None
    record = read_json(plan.adapted_dir(job) / "adapt.json")
    code = job_code.adaptation(job) if job.settings.gives == "features" else job_code.extension(job)
    why = _other(record, "network_sha256", _sha256(plan, job.network), "of another network")
    return why or _other(record, "code", code, OTHER_CODE)


def _other(record: dict[str, Any], name: str, now: object, words: str) -> str | None:
    """The words, where a record tells of something else than there is now."""
    return words if now is not None and record.get(name) not in (None, now) else None


def _data_hash(plan: Plan) -> object:
    return _known(plan.store_dir / "meta.json", "data_hash")


def _sha256(plan: Plan, job: NetworkJob) -> object:
    return _known(plan.network_dir(job) / "model.json", "sha256")


def _known(path: Path, name: str) -> object:
    return read_json(path).get(name) if path.exists() else None
