"""Where the results of a job lie: made here, or carried here from another machine (`fewshot.transfer`).

What was carried here has a folder of its own beside the place of what is made here, which no rule of the workflow makes anew.
It counts as long as the network that it is of is the one that is here.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from fewshot.errors import DataError
from fewshot.files import read_json
from fewshot.plan import AdaptationJob, EvaluationJob, NetworkJob, Plan


def beside(folder: Path) -> Path:
    """The folder for what was carried here, beside that of what is made here."""
    return folder.with_name(f"{folder.name}.taken")


def is_taken(plan: Plan, job: EvaluationJob) -> bool:
    """Whether the results of a job came from another machine, for the present settings and the network that is here.

    Raises:
        DataError: a record is damaged.
    """
    record, model = beside(plan.evaluation_dir(job)) / "settings.json", plan.network_dir(job.network) / "model.json"
    return record.exists() and model.exists() and read_json(record).get("model_sha256") == read_json(model).get("sha256")


def evaluation_folder(plan: Plan, job: EvaluationJob) -> Path:
    """Where the results of a job lie, made here or carried here from another machine; errors: see `is_taken`."""
    made = plan.evaluation_dir(job)
    return beside(made) if is_taken(plan, job) else made


def adaptation_folder(plan: Plan, job: AdaptationJob) -> Path:
    """Where the record of an adaptation lies: carried here where the results on it were; errors: see `is_taken`."""
    made = plan.adapted_dir(job)
    return beside(made) if is_taken(plan, plan.evaluation(job.network, job.name)) else made


def require_kept(plan: Plan, trained: Collection[NetworkJob]) -> None:
    """Refuse to train networks again whose results were carried here: these would be of others than the run then has.

    Raises:
        DataError: there are such results.
    """
    for job in plan.evaluations:
        if job.network in trained and is_taken(plan, job):
            raise DataError(
                f"{evaluation_folder(plan, job)}: results carried here, of network {job.network.name}, which is to be trained "
                "again; delete that folder to test the new network, or `fewshot take` the archive of the old one again"
            )
