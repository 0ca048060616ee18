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
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fewshot.config import parse
from fewshot.data.archives import MEBIBYTE, Archive, Known, Member, members
from fewshot.errors import ConfigError, DataError
from fewshot.files import atomic, read_json, read_record
from fewshot.locks import scratch_folder
from fewshot.plan import AdaptationJob, NetworkJob, Plan
from fewshot.taken import adaptation_folder, beside, evaluation_folder

logger = logging.getLogger(__name__)
CONFIG = "run.json"
NETWORK_FILES = ("model.safetensors", "model.json", "metrics.jsonl")
RECORDS = ("model.json", "adapt.json", "settings.json")
LARGEST = 256 << 20
"""Bytes of one file in an archive, at most."""


def pack(plan: Plan, out: Path) -> list[Path]:
    """Pack what is complete of a run; what is not there yet is left out, and the log says so.

    Args:
        plan: of the run; paths are relative to the working directory.
        out: the archives lie in a folder of the run's name in this one, made if it is not there.

    Returns:
        The archives.

    Raises:
        DataError: nothing is complete yet.
    """
    archives = []
    out = out / plan.config.run
    for job in plan.networks:
        if (plan.network_dir(job) / "model.json").exists():
            files = {path: path for path in _network_files(plan, job)}
            archives.append(_write(plan, out / f"network-{job.name}-seed{job.seed}.tar.gz", files))
        else:
            logger.info("network %s (seed %d): not trained yet, left out", job.name, job.seed)
    here = {plan.evaluation_dir(job): evaluation_folder(plan, job) for job in plan.evaluations}
    here |= {plan.adapted_dir(job): adaptation_folder(plan, job) for job in plan.adaptations}
    results = {path: here[path.parent] / path.name for path in _result_files(plan)}
    results = {path: file for path, file in results.items() if file.exists()}
    if results:
        archives.append(_write(plan, out / "results.tar.gz", results))
    if not archives:
        raise DataError(f"run {plan.config.run}: nothing is complete yet; train first (fewshot train)")
    return archives


def take(archives: Iterable[Path], root: Path = Path()) -> tuple[Plan, list[Path]]:
    """Take up packed archives as outputs of the pipeline.

    Every file is checked before any is moved into its place: it must be one that the packed run makes, the networks must have
    the hash that their record says and be of the images of the store, which must be there.

    Args:
        archives: of one run, as `pack` wrote them.
        root: the project's folder.

    Returns:
        The plan of the run, and the files that were put into their places, from `root` on.

    Raises:
        DataError: an archive is damaged, holds anything else, or is of other images, or there is no store; nothing was changed.
        ConfigError: the archives are of several runs or settings, or of another version's settings.
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
        if any(other.config != plan.config for other in plans):
            raise ConfigError(f"archives of several settings of run {plan.config.run}; take those of one `fewshot pack`")
        _check(plan, scratch, root)
        placed = _place(plan, scratch, root)
    return plan, placed


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


def _write(plan: Plan, path: Path, files: Mapping[Path, Path]) -> Path:
    """An archive of files: name in it -> where it lies."""
    with atomic(path) as temporary, tarfile.open(temporary, "w:gz") as archive:
        with scratch_folder(path) as scratch:
            (scratch / CONFIG).write_text(json.dumps(plan.config.as_dict()))
            archive.add(scratch / CONFIG, CONFIG)
        for name, file in files.items():
            archive.add(file, str(name))
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
    if not meta.exists():  # made later, it would be newer than what is taken, and Snakemake would make that anew
        raise DataError(f"{meta.parent}: no image store here yet; `fewshot prepare` first, then take (nothing was taken)")
    data = read_json(meta)["data_hash"]

    def checked(path: Path, files: Sequence[str]) -> dict[str, Any]:
        record = read_record(path, files, cure)
        if record.get("data_hash") != data:
            raise DataError(f"{path.relative_to(scratch)}: of other images than those of {meta.parent}; nothing was taken")
        return record

    models: dict[Path, str | None] = {}
    for job in plan.networks:
        file = plan.network_dir(job) / "model.json"
        if _is_in(scratch, plan, job):
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


def _is_in(scratch: Path, plan: Plan, job: NetworkJob) -> bool:
    return any((scratch / file).exists() for file in _network_files(plan, job))


def _learnt_from_its_teacher(plan: Plan, job: NetworkJob, root: Path) -> bool:
    """Whether a student is here, whole, and of the teacher that is here."""
    if job.teacher is None or not all((root / file).exists() for file in _network_files(plan, job)):
        return False
    told = read_json(root / plan.network_dir(job) / "model.json").get("teacher") or {}
    return bool(told.get("sha256") == read_json(root / plan.network_dir(job.teacher) / "model.json").get("sha256"))


def _place(plan: Plan, scratch: Path, root: Path) -> list[Path]:
    """Put checked files into their places, the record of each folder last; what was placed, from `root` on.

    All get the present time, as they are to be newer than the store. A student comes after its teacher, and gets the present
    time where it was here before: Snakemake would train one again that is older than the network it learnt from.
    """
    placed: list[Path] = []
    renewed: set[NetworkJob] = set()

    def put(folder: Path, to: Path) -> None:
        files = [path for path in (scratch / folder).glob("*") if path.is_file()]
        for path in sorted(files, key=lambda one: (one.name in RECORDS, one.name)):
            with atomic(root / to / path.name) as temporary:
                shutil.copyfile(path, temporary)
            placed.append(to / path.name)

    for job in plan.networks:
        folder = plan.network_dir(job)
        if _is_in(scratch, plan, job):
            put(folder, folder)
            renewed.add(job)
        elif job.teacher in renewed and _learnt_from_its_teacher(plan, job, root):
            for name in sorted(NETWORK_FILES, key=RECORDS.__contains__):
                os.utime(root / folder / name)
            renewed.add(job)
    for results in (*map(plan.adapted_dir, plan.adaptations), *map(plan.evaluation_dir, plan.evaluations)):
        put(results, beside(results))
    return placed
