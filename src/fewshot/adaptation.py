"""Stage 2 over many tasks: the channels that implants add to the network's features, task by task, on disk.

Folder: `fewshot.adapted`. Progress lies in a state folder beside it until all tasks are done.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from fewshot import job_code, provenance
from fewshot.checkpoint import FORMAT
from fewshot.config import ImplantingSettings
from fewshot.data.store import Store
from fewshot.episodes import Episodes
from fewshot.errors import DataError, of_the_machine
from fewshot.files import atomic, load_array, read_record, write_record
from fewshot.locks import state_path
from fewshot.methods import implanting
from fewshot.models.network import Network
from fewshot.plan import AdaptationJob

logger = logging.getLogger(__name__)

CHUNK = {"cpu": 8, "cuda": 256}
"""Tasks trained at once, at most."""
CHUNK_BYTES = {"cpu": 256 << 20, "cuda": 4 << 30}
"""Bytes they may take, at most; on CUDA never more than a quarter of what is free, PyTorch's own reserve included."""
_BYTES_PER_VALUE = 12
"""Of a support set's frozen activations: float32, and as much again twice for what training keeps beside them."""


def adapt(network: Network, sha256: str, store: Store, episodes: Episodes, job: AdaptationJob, folder: Path) -> None:
    """Adapt to each of the first `job.tasks` tasks; write the channels it adds to the features of support and query images.

    Killed and called again, it goes on where it was; tasks do not depend on each other.

    Args:
        network: frozen, on the device to compute on.
        sha256: of the network, as its model.json has it.
        store: images.
        episodes: tasks.
        job: settings, number of tasks, seed.
        folder: output.

    Raises:
        DataError: the features are not finite, or a state of other settings, data or code lies beside the folder.
    """
    assert isinstance(job.settings, ImplantingSettings)  # noqa: S101  other methods extend the classifier
    device = network.mean.device
    tasks, (way, shot), started = job.tasks, episodes.support.shape[1:], time.monotonic()
    index, rows = _used_images(episodes, tasks)
    height, width = network.feature_shape[1:]
    state = _State(
        folder,
        identity=f"{sha256}/{job.key}/{episodes.hash}/{tasks}/{job_code.adaptation(job)}",
        shape=(*index.shape, height * width, job.settings.width),
        sums={"curve": (job.settings.epochs, 2), "shares": (2,)},
        started=started,
    )
    left = range(state.done, tasks)
    if left:  # the frozen stream may take minutes: not before the state was looked at, and not where all is done
        stream = _frozen_stream(network, sha256, store, rows)
        own = torch.linalg.vector_norm(stream.features, dim=-1).square()  # the squares of all features would take gigabytes
        left = range(state.done, tasks, tasks_at_once(stream, way, shot, device))
    bar = tqdm(initial=state.done, total=tasks, desc=f"{job.name}, {shot} shots", unit="task", mininterval=5)
    for start in left:
        numbers = list(range(start, min(start + left.step, tasks)))
        curve = torch.zeros(job.settings.epochs, 2, dtype=torch.float64, device=device)  # fetched once: no wait an epoch

        def report(epoch: int, losses: Tensor, accuracies: Tensor, curve: Tensor = curve) -> None:
            curve[epoch, 0], curve[epoch, 1] = losses.sum(), accuracies.sum() * 100

        images = torch.from_numpy(index[numbers]).to(device)
        added = implanting.adapt_tasks(stream, images, way, shot, numbers, job.settings, job.network.seed, report)
        added = added.half()  # before it is looked at: what is finite in float32 may be too large for what is stored
        if not torch.isfinite(added).all():
            raise DataError(
                f"adaptation {job.name}: features that are not finite in half precision in tasks {start}..{numbers[-1]}; "
                f"lower stage2.{job.name}.lr"
            )
        shares = _shares(own[images], added)
        of_support, of_queries = shares[:, : way * shot].mean(1), shares[:, way * shot :].mean(1)
        sums = {"curve": curve, "shares": torch.stack([of_support.sum(), of_queries.sum()])}
        state.write(start, added.cpu().numpy(), {name: value.cpu().numpy() for name, value in sums.items()})
        bar.update(len(numbers))
    bar.close()
    means, lengths = (state.sums[name] / max(tasks, 1) for name in ("curve", "shares"))
    with atomic(folder / "metrics.jsonl") as temporary:
        lines = [{"epoch": i + 1, "loss": loss, "support_accuracy": right} for i, (loss, right) in enumerate(means.tolist())]
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
    state.publish(folder / "features.npy")
    record = {
        "format": FORMAT, "method": job.settings.method, "name": job.name, "settings": job.settings.as_dict(), "tasks": tasks,
        "way": way, "shot": shot, "network_sha256": sha256, "episodes_hash": episodes.hash, "data_hash": store.data_hash,
        "loss_first": float(means[0, 0]) if len(means) else None, "loss_last": float(means[-1, 0]) if len(means) else None,
        "support_share": float(lengths[0]), "query_share": float(lengths[1]),
        "code": job_code.adaptation(job), "seconds": round(state.seconds, 1), "device": provenance.device_words(device),
        "threads": torch.get_num_threads(), "git_revision": provenance.git_revision(), "versions": provenance.versions(),
    }  # fmt: skip
    write_record(folder / "adapt.json", record, ("features.npy", "metrics.jsonl"))
    state.remove()


_last: list[tuple[tuple[str, ...], implanting.FrozenStream]] = []
"""The last frozen stream and what it is of: settings compared on the same tasks in one process share it."""


def _frozen_stream(network: Network, sha256: str, store: Store, rows: npt.NDArray[np.int64]) -> implanting.FrozenStream:
    """The frozen stream of some images, computed or the last one."""
    images = hashlib.sha256(rows.tobytes()).hexdigest()
    key = (sha256, store.data_hash, images, str(network.mean.device))
    if not _last or _last[0][0] != key:
        _last.clear()  # before the next: one at a time in memory
        logger.info("the frozen stream of %d images", len(rows))
        _last.append((key, implanting.frozen_stream(network, store.images[rows])))
    return _last[0][1]


def _shares(own: Tensor, added: Tensor) -> Tensor:
    """Percent of the squared length of each image's features that the added channels have, a mean over locations (T, n).

    Cosines see how long two groups of channels are beside each other: at 100 the network itself has no say.

    Args:
        own: squared lengths of the network's own features, (T, n, r).
        added: (T, n, r, e).
    """
    new = added.float().square().sum(-1)
    return (100 * new / (own + new).clamp_min(1e-12)).mean(-1)


def tasks_at_once(stream: implanting.FrozenStream, way: int, shot: int, device: torch.device) -> int:
    """How many tasks are trained together: as many as memory allows, `CHUNK` at most."""
    per_task = way * shot * sum(values[0].numel() for values in stream.inputs) * _BYTES_PER_VALUE
    return max(1, min(CHUNK[device.type], _memory(device) // per_task))


def _memory(device: torch.device) -> int:
    limit = CHUNK_BYTES[device.type]
    if device.type != "cuda":
        return limit
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by the stages before, in this process
    return min(limit, (torch.cuda.mem_get_info(device)[0] + kept) // 4)


def _used_images(episodes: Episodes, tasks: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Numbers (T, n) of each task's images, support first, into the sorted store rows of all images used."""
    images = np.concatenate([episodes.support[:tasks].reshape(tasks, -1), episodes.query[:tasks].reshape(tasks, -1)], axis=1)
    rows, index = np.unique(images, return_inverse=True)
    return index.reshape(images.shape), rows


class _State:
    """Finished tasks of an unfinished adaptation, in `<folder>.state`: an array, then their number and hash.

    The array is linked, not moved, into the output, and the state is removed last: a kill at any moment loses nothing. It is
    written as a file and not through a memory map, through which a full disk would kill the process without a word.

    `sums`: shapes of what is summed over tasks. `started`: since when (`time.monotonic()`) this process is at work on the
    adaptation.
    """

    def __init__(
        self, folder: Path, identity: str, shape: tuple[int, ...], sums: dict[str, tuple[int, ...]], started: float
    ) -> None:
        self.folder = state_path(folder)
        self._array = self.folder / "features.npy"
        self.identity, self.done, self._before = identity, 0, 0.0
        self.sums = {name: np.zeros(of) for name, of in sums.items()}
        self._started = started
        record = self.folder / "progress.json"
        if record.exists():
            found = read_record(record, cure=f"delete {self.folder} to start this adaptation anew")
            if found["identity"] != identity:
                raise DataError(
                    f"{self.folder}: state of other settings, data or code; delete it to start this adaptation anew"
                )
            self.done, self._before = found["done"], found["seconds"]
            self.sums = {name: np.array(found["sums"][name]).reshape(of) for name, of in sums.items()}
            self._hash = self._hash_of_done(shape)
            if self._hash.hexdigest() != found["hash"]:
                raise DataError(
                    f"{self._array}: damaged (its hash is not the one in progress.json); delete {self.folder} to start this "
                    "adaptation anew"
                )
            logger.info("resumed at task %d", self.done)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            np.lib.format.open_memmap(self._array, "w+", np.float16, shape).flush()
            self._hash = hashlib.sha256()

    def _hash_of_done(self, shape: tuple[int, ...]) -> hashlib._Hash:
        """Of the finished tasks in the array as it is; of nothing where the array is not what it should be."""
        digest = hashlib.sha256()
        try:
            features = load_array(self._array, mapped=True)
        except (OSError, ValueError, EOFError) as error:
            if of_the_machine(error):
                raise
            return digest
        if features.shape == shape and features.dtype == np.float16:
            for task in features[: self.done]:
                digest.update(np.ascontiguousarray(task).data)
        return digest

    @property
    def seconds(self) -> float:
        """Seconds of work so far, those before a resumption included."""
        return self._before + time.monotonic() - self._started

    def write(self, start: int, features: npt.NDArray[np.float16], sums: Mapping[str, npt.NDArray[np.floating]]) -> None:
        """Add finished tasks: their features, and what is summed over tasks."""
        content = np.ascontiguousarray(features).tobytes()
        with self._array.open("r+b") as file:
            file.seek(_start_of_values(file) + start * features[0].nbytes)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._hash.update(content)
        self.done = start + len(features)
        self.sums = {name: value + sums[name] for name, value in self.sums.items()}
        write_record(
            self.folder / "progress.json",
            {
                "identity": self.identity,
                "done": self.done,
                "seconds": self.seconds,
                "sums": {name: value.tolist() for name, value in self.sums.items()},
                "hash": self._hash.hexdigest(),
            },
        )

    def publish(self, path: Path) -> None:
        """Put the finished features under their final name; the state keeps them too."""
        source = self._array
        with atomic(path) as temporary:
            try:
                temporary.hardlink_to(source)
            except OSError:  # a file system without hard links
                shutil.copyfile(source, temporary)

    def remove(self) -> None:
        """The adaptation is complete."""
        shutil.rmtree(self.folder)


def _start_of_values(file: BinaryIO) -> int:
    """Where the values of an .npy file begin."""
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    return file.tell()
