"""MLflow as a mirror of what a run's files say: the only module that imports mlflow, and only inside its functions.

Under one parent per <run> lie one MLflow run for each training, each adaptation and each evaluated setting, with the
tag `run_key`. Tracking a job again finds the run that has its key, and replaces it only where the job's files have
changed, so nothing doubles. An evaluated setting's key is the `run_key` of its rows in summary.csv. Nothing in the
pipeline reads MLflow.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from fewshot.config import content_hash
from fewshot.errors import DataError
from fewshot.files import read_json, write_json
from fewshot.plan import NetworkJob, Plan
from fewshot.records import Record, adaptation_record, evaluation_records, training_record

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_EXPERIMENT = "fewshot"
DEFAULT_URI = "sqlite:///mlflow.db"
CONTENT = "fewshot.content"
"""Tag: hash of the files, parameters and metrics that the MLflow run mirrors."""
T = TypeVar("T")
P = ParamSpec("P")

logger = logging.getLogger(__name__)


# --- where -----------------------------------------------------------------------------------------------------------


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI where it is set, else the SQLite file of the working directory, which `mlflow ui` finds."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def experiment_name() -> str:
    """MLFLOW_EXPERIMENT_NAME where it is set: on a server that checkouts share, each wants one of its own.

    In one experiment they would take the same job's runs for their own, and replace one another's.
    """
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT


def public_uri() -> str:
    """The tracking URI without user name and password, for files and reports."""
    parts = urlsplit(tracking_uri())
    if "@" not in parts.netloc:
        return tracking_uri()
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def flag_path(plan: Plan) -> Path:
    """Written when the tracking database is ready for the run."""
    return plan.results / "tracking" / "initialised.json"


def tracked_path(plan: Plan, job: NetworkJob) -> Path:
    """Names the MLflow runs of one network and seed."""
    return plan.results / "tracking" / job.name / f"seed{job.seed}.json"


def _in_one_line(function: Callable[P, T]) -> Callable[P, T]:
    """What MLflow, its server or its database refuses is a user's to mend, and is told without passwords."""

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return function(*args, **kwargs)
        except SQLAlchemyError as error:
            words = " ".join(str(getattr(error, "orig", None) or error).split())
            cure = "move a damaged mlflow.db away and run `snakemake track_all --forcerun init_tracking`"
            raise DataError(f"MLflow at {public_uri()}: {words[:200]}; {cure}") from None
        except MlflowException as error:
            words = " ".join(str(error).split()).replace(tracking_uri(), public_uri())
            for secret in (urlsplit(tracking_uri()).password, os.environ.get("MLFLOW_TRACKING_PASSWORD")):
                words = words.replace(secret, "...") if secret else words
            cure = "see MLFLOW_TRACKING_URI, and run `snakemake track_all` when it answers"
            raise DataError(f"MLflow at {public_uri()}: {words[:400]}; {cure}") from None

    return checked


# --- the two jobs ----------------------------------------------------------------------------------------------------


@_in_one_line
def init(plan: Plan) -> str:
    """Make the database with its tables, the experiment and the parent of the run, in one place before anyone writes.

    Returns:
        The MLflow id of the parent; `flag_path(plan)` holds it too.

    Raises:
        DataError: MLflow does not answer, or the experiment was deleted there.
    """
    client = _client()
    config = plan.config
    words = "\n\n".join(text for text in (config.title, *config.notes) if text)
    parent = Record(
        name=config.run,
        kind="run",
        run_key=content_hash({"run": config.run}),
        tags={
            "config_hash": content_hash(config.as_dict()),
            "dataset": config.dataset.name,
            "mlflow.note.content": words,
        },
    )
    run_id = _write(client, parent, parent_id=None, run=config.run)
    client.log_dict(run_id, config.as_dict(), "config.json")
    write_json(flag_path(plan), {"tracking_uri": public_uri(), "experiment": experiment_name(), "parent": run_id})
    return run_id


@_in_one_line
def track(plan: Plan, network: NetworkJob) -> dict[str, str]:
    """Write the training, adaptations and evaluated settings of one network into MLflow, or update what is there.

    Returns:
        Job -> MLflow run id; `tracked_path(plan, network)` holds it too.

    Raises:
        DataError: a file of the network is missing or is not what it should be, MLflow does not answer, or the experiment was
            deleted there.
    """
    client = _client()
    parent_id = _known_parent(client, plan) or init(plan)
    records = [training_record(plan, network)]
    records += [adaptation_record(plan, job) for job in plan.adaptations if job.network == network]
    for job in plan.evaluations:
        if job.network == network:
            records += evaluation_records(plan, job)
    runs = {}
    for record in records:
        runs[record.name] = _write(client, record, parent_id=parent_id, run=plan.config.run)
        logger.info("tracked %s", record.name)
    write_json(tracked_path(plan, network), {"tracking_uri": public_uri(), "parent": parent_id, "runs": runs})
    return runs


# --- writing ----------------------------------------------------------------------------------------------------------


def _client() -> MlflowClient:
    """A client of the tracking URI."""
    # A server that is down: seconds, not MLflow's minutes; `snakemake track_all` catches up with it.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    uri = tracking_uri()
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https") and parts.username is not None:
        # MLflow prints the address of every run that it ends: name and password go another way.
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
        uri = public_uri()
    elif uri == DEFAULT_URI:
        # MLflow keeps a database open under its name as long as the process lives: that of this folder needs one of its own.
        uri = f"sqlite:///{Path('mlflow.db').resolve()}"
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _experiment(client: MlflowClient) -> str:
    """The id of the experiment, which is made where it is missing.

    Raises:
        DataError: it was deleted, which MLflow keeps in mind.
    """
    name = experiment_name()
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name))
    if found.lifecycle_stage == "deleted":
        raise DataError(
            f"MLflow at {public_uri()}: the experiment {name!r} was deleted; `mlflow experiments restore --experiment-id "
            f"{found.experiment_id}` brings it back, and MLFLOW_EXPERIMENT_NAME names another"
        )
    return str(found.experiment_id)


def _known_parent(client: MlflowClient, plan: Plan) -> str | None:
    """The parent that was made for the run, if it is still there: its database may be a new one, or the parent deleted."""
    from mlflow.exceptions import MlflowException

    known = read_json(flag_path(plan)).get("parent") if flag_path(plan).exists() else None
    if known is None:
        return None
    try:
        info = client.get_run(str(known)).info
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    there = info.lifecycle_stage == "active" and str(info.experiment_id) == _experiment(client)
    return str(known) if there else None


def _write(client: MlflowClient, record: Record, *, parent_id: str | None, run: str) -> str:
    """Bring the MLflow run that has the record's key to what the record says, or make one; return its id."""
    from mlflow.entities import Metric as MlflowMetric
    from mlflow.entities import Param, RunTag
    from mlflow.utils import validation
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    experiment = _experiment(client)
    # With its name: two names of one setting are two runs.
    key = {"run_key": record.run_key, "fewshot.run": run, "fewshot.kind": record.kind, "fewshot.name": record.name}
    wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in key.items())
    found = client.search_runs([experiment], wanted, max_results=1)
    content = _content(record, parent_id)
    run_id = found[0].info.run_id if found else ""
    start, end = record.span or (None, None)  # MLflow's Duration is then the job's, not that of this mirroring
    same = bool(found) and found[0].data.tags.get(CONTENT) == content
    if found and not same and parent_id:  # MLflow can change neither a parameter nor a point of a curve
        client.delete_run(run_id)
    if not found or (not same and parent_id):
        # With its key from the first moment: one that is cut off is found again, and replaced.
        run_id = client.create_run(experiment, start, key, record.name).info.run_id
    if not same:
        for some in _batches(sorted(record.parameters.items()), validation.MAX_PARAMS_TAGS_PER_BATCH):
            cut = [Param(name, value[: validation.MAX_PARAM_VAL_LENGTH]) for name, value in some]
            client.log_batch(run_id, params=cut)
        for points in _batches(record.metrics, validation.MAX_METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=[MlflowMetric(name, value, end or 0, step) for name, value, step in points])
        for path in record.artifacts:
            client.log_artifact(run_id, str(path))
    # The content's tag comes last: without it, a run that was cut off half-way is replaced next time.
    tags = {**record.tags, **key, **({MLFLOW_PARENT_RUN_ID: parent_id} if parent_id else {}), CONTENT: content}
    for some in _batches(list(tags.items()), validation.MAX_PARAMS_TAGS_PER_BATCH):
        client.log_batch(run_id, tags=[RunTag(name, value[: validation.MAX_TAG_VAL_LENGTH]) for name, value in some])
    client.set_terminated(run_id, "FINISHED", end)
    return str(run_id)


def _content(record: Record, parent_id: str | None) -> str:
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in record.artifacts}
    return content_hash([record.name, parent_id, record.parameters, record.metrics, files])


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
