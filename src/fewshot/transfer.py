"""What a run made on another machine, carried home: packed there, taken up here as the pipeline's own outputs.

A machine with a GPU may have neither network nor Snakemake, and little may leave it. So what travels is what cannot be made
again cheaply: the trained networks, the accuracy of every task, predictions where figures are drawn from them, and the
records of stage 2; one archive a network (`network-<name>-seed<k>.tar.gz`) and one with all results (`results.tar.gz`).
Features and adapted features stay behind.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fewshot.config import content_hash, parse
from fewshot.data.archives import MEBIBYTE, Archive, Known, Member, members
from fewshot.errors import ConfigError, DataError
from fewshot.files import atomic, read_json, read_record, scratch_folder, write_json
from fewshot.plan import AdaptationJob, EvaluationJob, NetworkJob, Plan

logger = logging.getLogger(__name__)
CONFIG = "run.json"
MARK = "taken.json"
"""In an evaluation's folder: it was made on another machine, for the settings whose hash it holds."""
NETWORK_FILES = ("model.safetensors", "model.json", "metrics.jsonl")
LARGEST = 256 << 20
"""Bytes of one file in an archive, at most."""


def pack(plan: Plan, out: Path) -> list[Path]:
    """Pack what is complete of a run; what is not there yet is left out, and the log says so.

    Args:
        plan: of the run; paths are relative to the working directory.
        out: folder for the archives, made if it is not there.

    Returns:
        The archives.

    Raises:
        DataError: nothing is complete yet.
    """
    archives = []
    for job in plan.networks:
        if (plan.network_dir(job) / "model.json").exists():
            archives.append(_write(plan, out / f"network-{job.name}-seed{job.seed}.tar.gz", _network_files(plan, job)))
        else:
            logger.info("network %s (seed %d): not trained yet, left out", job.name, job.seed)
    results = [path for path in _result_files(plan) if path.exists()]
    if results:
        archives.append(_write(plan, out / "results.tar.gz", results))
    if not archives:
        raise DataError(f"run {plan.config.run}: nothing is complete yet; train first (fewshot train)")
    return archives


def take(archives: Iterable[Path], root: Path = Path()) -> Plan:
    """Take up packed archives as outputs of the pipeline.

    Every file is checked before any is moved into its place: it must be one that the packed run makes, the networks must have
    the hash that their record says, and where the image store is there already, they must be of its images.

    Args:
        archives: of one run, as `pack` wrote them.
        root: the project's folder.

    Returns:
        The plan of the run.

    Raises:
        DataError: an archive is damaged, holds anything else, or is of other images; nothing was changed.
        ConfigError: the archives are of several runs, or of another version's settings.
    """
    paths = list(archives)
    if not paths:
        raise ConfigError("no archives to take; name the files that `fewshot pack` wrote")
    with scratch_folder(root / "resources") as scratch:
        plans = [_unpack(path, scratch) for path in paths]
        if len({plan.config.run for plan in plans}) > 1 or len({plan.store for plan in plans}) > 1:
            raise ConfigError(
                f"archives of several runs: {', '.join(sorted({plan.config.run for plan in plans}))}; take one at a time"
            )
        plan = plans[0]
        _check(plan, scratch, root)
        for job in plan.evaluations:
            folder = scratch / plan.evaluation_dir(job)
            if (folder / "settings.json").exists():
                write_json(folder / MARK, {"settings": settings_hash(plan, job)})
        for path in sorted(scratch.rglob("*"), key=lambda one: one.name in ("model.json", "settings.json")):
            if path.is_file() and path.relative_to(scratch).parts[0] in ("resources", "results"):
                with atomic(root / path.relative_to(scratch)) as temporary:
                    shutil.copyfile(path, temporary)  # a new time: newer than the store they were made from
    return plan


@contextlib.contextmanager
def network_folder(model: Path) -> Iterator[Path]:
    """The folder of a trained network: `model` itself, or for a time the content of an archive of `pack`.

    Raises:
        DataError: there is nothing at `model`, or it is no archive of one network.
    """
    cure = "name a network's folder, resources/<store>/networks/<name>-<hash>/seed<k>, or an archive of `fewshot pack`"
    if not model.exists():
        raise DataError(f"{model}: no such model; {cure}")
    if model.name in NETWORK_FILES:
        raise DataError(f"{model}: a file of a network; name its folder, {model.parent}")
    if model.is_dir():
        if not any((model / name).exists() for name in NETWORK_FILES):
            raise DataError(f"{model}: holds no network (model.json); {cure}")
        yield model
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for member in _members(model):
            name = Path(member.name).name
            if name in NETWORK_FILES:
                (folder / name).write_bytes(member.read())
        if not (folder / NETWORK_FILES[1]).exists():
            raise DataError(f"{model}: holds no network; take an archive network-<name>-seed<k>.tar.gz of `fewshot pack`")
        yield folder


def is_taken(plan: Plan, job: EvaluationJob) -> bool:
    """Whether the results of a job came from another machine and are of the present settings."""
    mark = plan.evaluation_dir(job) / MARK
    return mark.exists() and read_json(mark).get("settings") == settings_hash(plan, job)


def settings_hash(plan: Plan, job: EvaluationJob) -> str:
    """Hash of everything that determines the rows of a job."""
    return content_hash([plan.identity(job, setting) for setting in job.settings])


def _network_files(plan: Plan, job: NetworkJob) -> list[Path]:
    return [plan.network_dir(job) / name for name in NETWORK_FILES]


def _beside(plan: Plan, job: AdaptationJob) -> tuple[str, ...]:
    """What travels with the record of an adaptation; predictions where figures are drawn from them (paper 001)."""
    drawn = job.settings.gives == "classifier" and plan.config.evaluation.way == "all"
    return ("metrics.jsonl", "predictions.npy") if drawn else ("metrics.jsonl",)


def _result_files(plan: Plan) -> Iterator[Path]:
    """All files of results that a run makes and that travel."""
    for job in plan.adaptations:
        yield from (plan.adapted_dir(job) / name for name in ("adapt.json", *_beside(plan, job)))
    for evaluation in plan.evaluations:
        names = ("settings.json", *(f"{setting.key}.parquet" for setting in evaluation.settings))
        yield from (plan.evaluation_dir(evaluation) / name for name in names)


def _write(plan: Plan, path: Path, files: list[Path]) -> Path:
    with atomic(path) as temporary, tarfile.open(temporary, "w:gz") as archive:
        with scratch_folder(path) as scratch:
            (scratch / CONFIG).write_text(json.dumps(plan.config.as_dict()))
            archive.add(scratch / CONFIG, CONFIG)
        for file in files:
            archive.add(file, str(file))
    return path


def _members(path: Path) -> Iterator[Member]:
    """The files of an archive of `pack`, read as those from elsewhere are: bounded, in one pass, nothing but plain files."""
    known = Known(path.name, "the archive of `fewshot pack`", max_member=LARGEST, max_total=64 * LARGEST)
    return members(Archive(path, known, {}, None))


def _unpack(path: Path, scratch: Path) -> Plan:
    """Read an archive into the scratch folder and return its run's plan."""
    if not path.is_file():
        raise DataError(f"{path}: no such archive")
    packed = _members(path)
    first = next(packed, None)
    if first is None or first.name != CONFIG or first.size > MEBIBYTE:
        raise DataError(f"{path}: not an archive of `fewshot pack` (it begins without {CONFIG}); nothing was taken")
    try:
        plan = Plan(parse(json.loads(first.read())))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {CONFIG} in it is damaged ({type(error).__name__}); nothing was taken") from None
    made = {str(file) for job in plan.networks for file in _network_files(plan, job)}
    made |= {str(file) for file in _result_files(plan)}
    for member in packed:
        if member.name not in made:
            raise DataError(f"{path}: {member.name!r} is not of run {plan.config.run}; nothing was taken")
        (scratch / member.name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / member.name).write_bytes(member.read())
    return plan


def _check(plan: Plan, scratch: Path, root: Path) -> None:
    cure = "nothing was taken; pack and carry it again"
    meta = root / plan.store_dir / "meta.json"
    data = read_json(meta)["data_hash"] if meta.exists() else None

    def checked(path: Path, files: Sequence[str]) -> dict[str, Any]:
        record = read_record(path, files, cure)
        if data is not None and record.get("data_hash") != data:
            raise DataError(f"{path.relative_to(scratch)}: of other images than those of {meta.parent}; nothing was taken")
        return record

    models: dict[Path, str | None] = {}
    for job in plan.networks:
        file = plan.network_dir(job) / "model.json"
        if (scratch / file).exists():
            models[file] = checked(scratch / file, ("model.safetensors", "metrics.jsonl"))["sha256"]
        elif (root / file).exists():
            models[file] = read_json(root / file).get("sha256")
    for adaptation in plan.adaptations:
        if (scratch / plan.adapted_dir(adaptation)).exists():
            checked(scratch / plan.adapted_dir(adaptation) / "adapt.json", _beside(plan, adaptation))
    for evaluation in plan.evaluations:
        folder = scratch / plan.evaluation_dir(evaluation)
        if folder.exists():
            record = checked(folder / "settings.json", [f"{setting.key}.parquet" for setting in evaluation.settings])
            if record.get("model_sha256") != models.get(plan.network_dir(evaluation.network) / "model.json"):
                raise DataError(
                    f"results of {evaluation.network.name}: of a network that is not here; take its archive with them "
                    "(nothing was taken)"
                )
