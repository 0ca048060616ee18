"""Stage 2 of methods that extend the classifier: what it then says of every query of every task, on disk.

Folder: predictions.npy (see `fewshot.predictions`), adapt.json, metrics.jsonl (means over tasks, a line an epoch; empty where
nothing is trained). Finished tasks lie in a state folder beside it until all are done, the last seconds' apart.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from fewshot import job_code, provenance
from fewshot.checkpoint import FORMAT
from fewshot.config.extension import Extension
from fewshot.data.store import Store
from fewshot.device import precision_on
from fewshot.episodes import Episodes
from fewshot.errors import DataError, NotFiniteError, of_the_machine, out_of_memory
from fewshot.features import Features
from fewshot.files import atomic, read_sealed, save_array, write_record, write_sealed
from fewshot.intervals import interval, known
from fewshot.locks import state_path
from fewshot.methods.base import Curve, Extend, Ground, Task
from fewshot.models.network import Network
from fewshot.plan import AdaptationJob
from fewshot.predictions import FILE

logger = logging.getLogger(__name__)
SAVE_EVERY = 5.0
"""Seconds of finished tasks that a kill may cost: to many methods a task takes less time than a file that is safely on disk."""


def prepare(ground: Ground, settings: Any) -> Extend:
    """A method, from what all tasks share to a function of one task (`fewshot.methods.base`); its settings name its module."""
    method: Extend = import_module(settings.module).prepare(ground, settings)
    return method


def extend(
    network: Network,
    sha256: str,
    store: Store,
    features: Features,
    episodes: Episodes,
    job: AdaptationJob,
    folder: Path,
    trained: Features | None = None,
) -> None:
    """Extend the classifier in each of the first `job.tasks` tasks; write what it then predicts.

    Killed and called again, it goes on where it was.

    Args:
        network: as stage 1 left it, on the device to compute on.
        sha256: of the network, as its model.json has it.
        store: images.
        features: of the network, of the images that tasks name.
        episodes: tasks.
        job: settings, number of tasks, seed.
        folder: output.
        trained: pooled features of the images trained on, for a method that learns from them.

    Raises:
        DataError: a state of other settings, data or code lies beside the folder, or one that is damaged.
        NotFiniteError: the method's scores are not numbers.
    """
    settings = job.settings
    assert isinstance(settings, Extension)  # noqa: S101  others add features
    tasks, (way, shot) = job.tasks, episodes.support.shape[1:]
    started = time.monotonic()
    ground = Ground(network, store, features, job.network.seed, job.name, trained)
    state = _State(folder, f"{sha256}/{job.key}/{episodes.hash}/{job_code.extension(job)}")
    method: Extend | None = None
    values, curves = [], []
    for number in tqdm(range(tasks), desc=f"{job.name}, {shot} shots", unit="task", mininterval=5):
        classes = np.repeat(np.arange(way), episodes.query.shape[2])
        task = Task(number, episodes.support[number], episodes.query[number].ravel(), classes, episodes.base[number])
        found = state.load(number)
        if found is None:
            if method is None:
                method = prepare(ground, settings)  # may take minutes, and all tasks may be done
            try:
                said, curve = _predicted(method, task, state.training(number))
            except NotFiniteError as error:
                raise NotFiniteError(f"adaptation {job.name}, task {number}: {error}; look at stage2.{job.name}") from None
            now = time.monotonic()
            found, started = (said, curve, now - started), now  # what a method prepares counts to the first task after it
            state.save(number, *found)
        values.append(found[0])
        curves.append(found[1])
        state.seconds += found[2]
    save_array(folder / FILE, np.stack(values))
    with atomic(folder / "metrics.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in _means(curves)))
    record = {
        "format": FORMAT, "method": settings.method, "name": job.name, "settings": settings.as_dict(), "tasks": tasks,
        "way": way, "shot": shot, "network_sha256": sha256, "episodes_hash": episodes.hash, "data_hash": store.data_hash,
        "code": job_code.extension(job),
        "precision": precision_on(network.mean.device, network.settings.training.precision) if settings.finetuned else None,
        "seconds": round(state.seconds, 1), "device": provenance.device_words(network.mean.device),
        "threads": torch.get_num_threads(), "git_revision": provenance.git_revision(), "versions": provenance.versions(),
    }  # fmt: skip
    write_record(folder / "adapt.json", record, (FILE, "metrics.jsonl"))
    state.remove()


def _predicted(method: Extend, task: Task, training: Path) -> tuple[npt.NDArray[np.int32], Curve]:
    """The method's word on the images there are; -1 for the places that are only filled up."""
    there = task.query >= 0
    small = replace(task, query=task.query[there], classes=task.classes[there])
    said, curve = method(small, training)
    wanted = (len(small.query) + len(small.base), 2)
    if said.shape != wanted:
        raise ValueError(f"predictions of shape {said.shape}; {wanted} are asked for, of queries, then of base images")
    values = np.full((len(task.query) + len(task.base), 2), -1, dtype=np.int32)
    values[np.concatenate([there, np.ones(len(task.base), dtype=bool)])] = said
    return values, curve


def _means(curves: list[Curve]) -> list[dict[str, float]]:
    """Curves of all tasks -> one of means, with half the 95 % interval over tasks beside each accuracy of several.

    A method that learns once for all tasks says the same curve for each, of which there is no interval.
    """
    if all(curve == curves[0] for curve in curves):
        curves = curves[:1]
    lines = []
    for points in zip(*curves, strict=True):
        line: dict[str, float] = {}
        for name in points[0]:
            mean, half = interval(np.array([point[name] for point in points]))
            line[name] = int(mean) if name == "epoch" else mean
            if name not in ("epoch", "loss"):
                line |= known(**{f"{name}_ci95": half})
        lines.append(line)
    return lines


_Done = tuple[npt.NDArray[np.int32], Curve, float]
"""Predictions, curve and seconds of a task."""


class _State:
    """Finished tasks of an unfinished job, in `<folder>.state`, some to a file; and the training that is under way."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = state_path(folder)
        self.identity, self.seconds = identity, 0.0
        self._waiting: dict[int, _Done] = {}
        self._saved = time.monotonic()
        note = self.folder / "identity"
        known = note.read_text() if note.exists() else None
        holds = any(any(self.folder.glob(kind)) for kind in ("*.npz", "*.training"))  # a method that failed leaves none
        if known not in (None, identity) and holds:
            raise DataError(f"{self.folder}: state of other settings, data or code; delete it to start anew")
        if known != identity:
            shutil.rmtree(self.folder, ignore_errors=True)
            with atomic(note) as temporary:
                temporary.write_text(identity)
        self._done = {number: done for path in self.folder.glob("*.npz") for number, done in self._read(path)}

    def training(self, number: int) -> Path:
        """File of the state of a training inside a task."""
        return self.folder / f"{number}.training"

    def load(self, number: int) -> _Done | None:
        """A finished task."""
        return self._done.pop(number, None)

    def save(self, number: int, said: npt.NDArray[np.int32], curve: Curve, seconds: float) -> None:
        """Keep a finished task, on disk by `SAVE_EVERY` at the latest; its training's state is of no more use then."""
        self._waiting[number] = said, curve, seconds
        trained = self.training(number)
        if trained.exists() or time.monotonic() - self._saved > SAVE_EVERY:
            self._write()
            trained.unlink(missing_ok=True)

    def _write(self) -> None:
        dones = list(self._waiting.values())
        curves: list[Curve] = []  # each once: of a method that learns once for all tasks they are one
        for _, curve, _ in dones:
            if curve not in curves[-1:]:
                curves.append(curve)
        which = np.cumsum([i > 0 and dones[i][1] != dones[i - 1][1] for i in range(len(dones))])
        buffer = io.BytesIO()
        np.savez(
            buffer, numbers=np.array(list(self._waiting)), said=np.stack([said for said, _, _ in dones]), which=which,
            curves=np.frombuffer(json.dumps(curves).encode(), dtype=np.uint8), seconds=np.array([took for _, _, took in dones]),
        )  # fmt: skip
        write_sealed(self.folder / f"{next(iter(self._waiting))}.npz", buffer.getvalue())
        self._waiting, self._saved = {}, time.monotonic()

    def _read(self, path: Path) -> list[tuple[int, _Done]]:
        try:
            with np.load(io.BytesIO(read_sealed(path)), allow_pickle=False) as file:
                curves = json.loads(file["curves"].tobytes())
                parts = file["numbers"].tolist(), file["said"], file["which"].tolist(), file["seconds"].tolist()
        except (OSError, ValueError, KeyError) as error:
            if of_the_machine(error) or out_of_memory(error):
                raise
            raise DataError(f"{path}: damaged ({type(error).__name__}); delete {self.folder} to start anew") from None
        return [(number, (said, curves[index], took)) for number, said, index, took in zip(*parts, strict=True)]

    def remove(self) -> None:
        """The job is complete."""
        shutil.rmtree(self.folder)
