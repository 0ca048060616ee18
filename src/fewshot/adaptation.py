"""Stage 2 over many tasks: what a method adds to the network's features, task by task, on disk.

Folder: features.npy (float16, T x way (shot + queries) x r x e; a task's support images first, class by class), adapt.json,
metrics.jsonl (means over tasks, a line an epoch). Progress lies in a state folder beside it until all tasks are done.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from fewshot import provenance
from fewshot.checkpoint import FORMAT
from fewshot.data.store import Store
from fewshot.episodes import Episodes
from fewshot.errors import DataError
from fewshot.files import atomic, read_json, write_json
from fewshot.methods.implanting import frozen_stream, train_implants
from fewshot.models.network import Network
from fewshot.plan import AdaptationJob

logger = logging.getLogger(__name__)
CHUNK = {"cpu": 8, "cuda": 64}
"""Tasks trained at once."""


def adapt(network: Network, sha256: str, store: Store, episodes: Episodes, job: AdaptationJob, folder: Path) -> None:
    """Train implants for the first `job.tasks` tasks and write the channels they add to support and query features.

    Killed and called again, it goes on where it was; tasks do not depend on each other.

    Args:
        network: frozen, on the device to compute on.
        sha256: of the network, as its model.json has it.
        store: images.
        episodes: tasks.
        job: settings, number of tasks, seed.
        folder: output.
    """
    device = network.mean.device
    tasks, (way, shot) = job.tasks, episodes.support.shape[1:]
    index, rows = _used_images(episodes, tasks)
    started = time.monotonic()
    logger.info("the frozen stream of %d images", len(rows))
    stream = frozen_stream(network, store.images[rows])
    locations = stream.features.shape[1]
    state = _State(folder, f"{sha256}/{job.key}/{episodes.hash}/{tasks}", (*index.shape, locations, job.settings.width),
                   job.settings.epochs)  # fmt: skip
    bar = tqdm(initial=state.done, total=tasks, desc=f"{job.name}, {shot} shots", unit="task", mininterval=5)
    chunk = CHUNK[device.type]
    for start in range(state.done, tasks, chunk):
        numbers = list(range(start, min(start + chunk, tasks)))
        curve = np.zeros((job.settings.epochs, 2))

        def report(epoch: int, losses: Tensor, accuracies: Tensor, curve: npt.NDArray[np.float64] = curve) -> None:
            curve[epoch] = float(losses.sum()), float(accuracies.sum()) * 100

        images = torch.from_numpy(index[numbers]).to(device)
        support = images[:, : way * shot].view(-1, way, shot)
        implants, statistics = train_implants(stream, support, numbers, job.settings, job.network.seed, report)
        with torch.no_grad():
            added = implants(stream.take(images), statistics)
        if not torch.isfinite(added).all():
            raise DataError(
                f"adaptation {job.name}: features that are not finite in tasks {start}..{numbers[-1]}; "
                f"lower stage2.{job.name}.lr"
            )
        state.write(start, added.half().cpu().numpy(), curve)
        bar.update(len(numbers))
    bar.close()
    sums = state.curve / max(tasks, 1)
    with atomic(folder / "metrics.jsonl") as temporary:
        lines = [
            {"epoch": i + 1, "loss": loss, "support_accuracy": accuracy} for i, (loss, accuracy) in enumerate(sums.tolist())
        ]
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
    state.finish(folder / "features.npy")
    record = {
        "format": FORMAT, "method": job.settings.method, "name": job.name, "settings": job.settings.as_dict(), "tasks": tasks,
        "way": way, "shot": shot, "network_sha256": sha256, "episodes_hash": episodes.hash, "data_hash": store.data_hash,
        "loss_first": float(sums[0, 0]) if len(sums) else None, "loss_last": float(sums[-1, 0]) if len(sums) else None,
        "seconds": round(state.seconds + time.monotonic() - started, 1), "device": provenance.device_words(device),
        "threads": torch.get_num_threads(), "git_revision": provenance.git_revision(), "versions": provenance.versions(),
    }  # fmt: skip
    write_json(folder / "adapt.json", record)


def _used_images(episodes: Episodes, tasks: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Numbers (T, n) of each task's images, support first, into the sorted store rows of all images used."""
    images = np.concatenate([episodes.support[:tasks].reshape(tasks, -1), episodes.query[:tasks].reshape(tasks, -1)], axis=1)
    rows, index = np.unique(images, return_inverse=True)
    return index.reshape(images.shape), rows


class _State:
    """Finished tasks of an unfinished adaptation, in `<folder>.state`: a memory map and a count that is written after it."""

    def __init__(self, folder: Path, identity: str, shape: tuple[int, ...], epochs: int) -> None:
        self.folder = folder.with_name(folder.name + ".state")
        self.identity, self.done, self.seconds = identity, 0, 0.0
        self.curve = np.zeros((epochs, 2))
        self._started = time.monotonic()
        record = self.folder / "progress.json"
        if record.exists():
            found = read_json(record)
            if found["identity"] != identity:
                raise DataError(f"{self.folder}: state of another adaptation; delete it to start anew")
            self.done, self.seconds, self.curve = (
                found["done"],
                found["seconds"],
                np.array(found["curve"]).reshape(epochs, 2),
            )
            self._features = np.load(self.folder / "features.npy", mmap_mode="r+", allow_pickle=False)
            logger.info("resumed at task %d", self.done)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self._features = np.lib.format.open_memmap(self.folder / "features.npy", "w+", np.float16, shape)

    def write(self, start: int, features: npt.NDArray[np.float16], curve: npt.NDArray[np.float64]) -> None:
        self._features[start : start + len(features)] = features
        self._features.flush()
        self.done = start + len(features)
        self.curve += curve
        seconds = self.seconds + time.monotonic() - self._started
        write_json(
            self.folder / "progress.json",
            {"identity": self.identity, "done": self.done, "seconds": seconds, "curve": self.curve.tolist()},
        )

    def finish(self, path: Path) -> None:
        del self._features
        (self.folder / "features.npy").replace(path)
        shutil.rmtree(self.folder)


def load_adapted(folder: Path, network_sha256: str, episodes: Episodes) -> npt.NDArray[np.float16]:
    """The added channels of a folder, memory-mapped: (T, way (shot + queries), r, e).

    Raises:
        DataError: missing, damaged, or of another network or other tasks.
    """
    record = read_json(folder / "adapt.json")
    if record["network_sha256"] != network_sha256 or record["episodes_hash"] != episodes.hash:
        raise DataError(f"{folder}: adapted for another network or other tasks; delete the folder and adapt again")
    try:
        features: npt.NDArray[np.float16] = np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{folder}: features damaged ({type(error).__name__}); delete the folder and adapt again") from None
    return features
