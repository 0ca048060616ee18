"""Few-shot tasks as integer index tensors: drawn once, saved, hashed, shared by every method compared.

Tasks are drawn in blocks of their own seeds, so that the first n tasks are the same however many are drawn: a method tested on
fewer tasks stays paired with one tested on more.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot import job_code
from fewshot.data.held_out import divided
from fewshot.data.store import Part, Store, require_images
from fewshot.errors import DataError, of_the_machine
from fewshot.files import atomic
from fewshot.plan import EpisodeJob

logger = logging.getLogger(__name__)
BLOCK = 250
FORMAT = 1
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Episodes:
    """T tasks as row numbers (int64) of the image store.

    Attributes:
        support: (T, way, shot).
        query: (T, way, queries), of the same classes, disjoint from the support.
        base: (T, way * queries) held-out base images for the base and both populations; no columns where there are none.
            With `way: all`, where classes have different numbers of images, support and query are filled up with -1, and base
            has all held-out base images.
        meta: how they were drawn, and their `hash`.
    """

    support: Rows
    query: Rows
    base: Rows
    meta: dict[str, Any]

    @property
    def hash(self) -> str:
        """SHA-256 of the three index arrays."""
        return str(self.meta["hash"])


def draw_tasks(
    class_rows: list[Rows], held_out: Rows, way: int, shot: int, queries: int, tasks: int, seed: int
) -> tuple[Rows, Rows, Rows]:
    """Draw tasks: `way` classes without replacement, then `shot + queries` images of each without replacement.

    Args:
        class_rows: store rows of each class to draw from.
        held_out: store rows of held-out base images; `way * queries` are drawn a task, with replacement, uniformly over all.
        way, shot, queries, tasks, seed: of the tasks.

    Returns:
        support (T, way, shot), query (T, way, queries), base (T, way * queries or 0).

    Raises:
        ValueError: fewer classes than `way`, or a class with fewer images than `shot + queries`.
    """
    sizes = np.array([len(rows) for rows in class_rows])
    if len(sizes) < way or sizes.min() < shot + queries:
        raise ValueError(f"{way}-way {shot}-shot tasks with {queries} queries do not fit classes of {sizes.tolist()} images")
    padded = np.full((len(sizes), sizes.max()), -1, dtype=np.int64)
    for i, rows in enumerate(class_rows):
        padded[i, : len(rows)] = rows
    absent = padded < 0
    support, query, base = [], [], []
    for block, start in enumerate(range(0, tasks, BLOCK)):
        rng = np.random.default_rng([seed, way, shot, queries, block])
        classes = rng.random((BLOCK, len(sizes))).argsort(axis=1, kind="stable")[:, :way]
        keys = rng.random((BLOCK, way, padded.shape[1]), dtype=np.float32)
        keys[absent[classes]] = 2.0  # sorts behind every image that is there
        order = keys.argsort(axis=2, kind="stable")[:, :, : shot + queries]
        chosen = np.take_along_axis(padded[classes], order, axis=2)
        size = min(BLOCK, tasks - start)
        support.append(chosen[:size, :, :shot])
        query.append(chosen[:size, :, shot:])
        count = way * queries if len(held_out) else 0
        base.append(held_out[rng.integers(0, max(len(held_out), 1), (BLOCK, count))][:size])
    return np.concatenate(support), np.concatenate(query), np.concatenate(base)


def draw_exemplars(
    classes: list[tuple[Rows, Rows]], held_out: Rows, shot: int, draws: int, seed: int
) -> tuple[Rows, Rows, Rows]:
    """Draw exemplars of all novel classes again and again; the images that are tested stay the same (paper 001, section 6.1).

    The exemplars of fewer shots are the first of those of more.

    Args:
        classes: training and test rows of each novel class.
        held_out: test rows of the base classes.
        shot: exemplars a class; a class that has fewer gives all it has, and -1 for the rest.
        draws, seed: of the tasks.

    Returns:
        support (draws, way, shot), query (draws, way, q), base (draws, len(held_out)); -1 where a class has no more images.
    """
    support = np.full((draws, len(classes), shot), -1, dtype=np.int64)
    query = np.full((len(classes), max(len(test) for _, test in classes)), -1, dtype=np.int64)
    for i, (train, test) in enumerate(classes):
        query[i, : len(test)] = test
        for number in range(draws):
            chosen = np.random.default_rng([seed, number, i]).permutation(train)[:shot]
            support[number, i, : len(chosen)] = chosen
    few = sum(len(train) < shot for train, _ in classes)
    if few:
        logger.warning("%d of %d classes have fewer than %d exemplars; they give all they have", few, len(classes), shot)
    return support, np.broadcast_to(query, (draws, *query.shape)), np.broadcast_to(held_out, (draws, len(held_out)))


def require(store: Store, job: EpisodeJob) -> None:
    """Check that the tasks of an episode job can be drawn; a training asks before it begins.

    Raises:
        DataError: fewer classes than `way`, or a class with fewer images than `shot + queries`; classes of several sizes, where
            the remaining images are queries; of all classes, one without images to learn from, or none with images to test.
    """
    if job.way == "all" or job.queries == "all":
        require_images(store, job.part, {"shots": 1, "queries": 1}, 2)
        divided(store, job.part)
    elif job.queries == "remaining":
        require_images(store, job.part, {"shots": job.shot}, job.way)
        _remaining(store, _class_rows(store, job.part), job.shot)
    else:
        require_images(store, job.part, {"shots": job.shot, "queries": job.queries}, job.way)


def draw(store: Store, job: EpisodeJob) -> Episodes:
    """The tasks of an episode job on a store. Deterministic in the job and the store's labels.

    Raises:
        DataError: as `require`.
    """
    require(store, job)
    # Training validates on tasks of the validation classes too; with the same seed they would be the very tasks on which the
    # kept state was chosen.
    seed = job.seed + (2**32 if job.part == "val" else 0)
    if job.way == "all" or job.queries == "all":
        arrays = draw_exemplars(divided(store, job.part), store.rows("held_out"), job.shot, job.tasks, seed)
    else:
        class_rows = _class_rows(store, job.part)
        queries = _remaining(store, class_rows, job.shot) if job.queries == "remaining" else job.queries
        arrays = draw_tasks(class_rows, store.rows("held_out"), job.way, job.shot, queries, job.tasks, seed)
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    meta = {
        "format": FORMAT, "way": job.way, "shot": job.shot, "queries": job.queries, "tasks": job.tasks,
        "part": job.part, "seed": job.seed, "data_hash": store.data_hash, "hash": digest.hexdigest(),
        "code": job_code.episodes(),
    }  # fmt: skip
    return Episodes(*arrays, meta)


def _class_rows(store: Store, part: Part) -> list[Rows]:
    """The store rows of each class of a part, in order."""
    rows = store.rows(part)
    labels = store.labels[rows]
    return [rows[labels == label] for label in np.unique(labels)]


def _remaining(store: Store, class_rows: list[Rows], shot: int) -> int:
    """Images that are left of every class when the support is drawn."""
    sizes = {len(rows) for rows in class_rows}
    if len(sizes) > 1:
        raise DataError(
            f"{store.path}: classes of {min(sizes)} to {max(sizes)} images: evaluation.queries: remaining needs classes of one "
            "size; set a number"
        )
    return sizes.pop() - shot


def save(episodes: Episodes, path: Path) -> None:
    """Write an episode file (.npz, no pickles), atomically."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            support=episodes.support.astype(np.int32),
            query=episodes.query.astype(np.int32),
            base=episodes.base.astype(np.int32),
            meta=np.frombuffer(json.dumps(episodes.meta).encode(), dtype=np.uint8),
        )


def load(path: Path, store: Store | None = None) -> Episodes:
    """Read an episode file and check its hash.

    Raises:
        DataError: the file is missing, damaged, or was drawn on other data than `store`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if any(member.compress_type != zipfile.ZIP_STORED for member in file.zip.infolist()):
                raise ValueError("compressed")  # `save` stores; what is packed could unpack to any size
            meta = json.loads(file["meta"].tobytes())
            support, query, base = (file[name].astype(np.int64) for name in ("support", "query", "base"))
        if not {"hash", "data_hash"} <= set(meta):
            raise ValueError("incomplete")
    except FileNotFoundError:
        raise DataError(f"{path}: no such episode file; draw it first") from None
    except Exception as error:  # the heads of arrays go through Python's own parser, which can raise nearly anything
        if of_the_machine(error):
            raise
        raise DataError(f"{path}: not a readable episode file ({type(error).__name__}); delete it and draw it again") from None
    digest = hashlib.sha256()
    for array in (support, query, base):
        digest.update(f"{array.shape}".encode() + array.tobytes())
    if digest.hexdigest() != meta.get("hash"):
        raise DataError(f"{path}: damaged (its hash does not fit); delete it and draw it again")
    if store is not None and meta["data_hash"] != store.data_hash:
        raise DataError(f"{path}: drawn on other images than those of {store.path}; delete it and draw it again")
    return Episodes(support, query, base, meta)
