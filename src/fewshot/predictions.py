"""What a classifier of base and novel classes says of every query of every task, and the accuracies that follow from it.

`predictions.npy`: int32 (T, Q + B, 2), a task's Q = way x queries novel images first (class by class), then its B base images.
The first number is the class predicted among all classes (the C base classes, then the task's `way` novel ones), the second
that among the image's own kind: the novel classes (0 .. way - 1) or the base classes (0 .. C - 1). -1: no image, or no such
classifier.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot.episodes import Episodes
from fewshot.errors import DataError
from fewshot.files import load_array, read_record

FILE = "predictions.npy"
CLASS_MEAN = "_class_mean"
"""Ending of the mean over classes of each class's accuracy, beside the share of images classified right."""
Accuracies = dict[str, npt.NDArray[np.float64]]

_MEMBERS = {  # population -> whether novel and base images count, and which of the two predictions
    "novel": (True, False, 1), "base": (False, True, 1), "novel_in_all": (True, False, 0), "base_in_all": (False, True, 0),
    "all": (True, True, 0), "both": (True, True, 0),
}  # fmt: skip


def load(folder: Path, network_sha256: str, episodes: Episodes) -> npt.NDArray[np.int32]:
    """The predictions of a folder, memory-mapped: int32 (T, Q + B, 2).

    Raises:
        DataError: missing, damaged, or of another network or other tasks.
    """
    record = read_record(folder / "adapt.json", [FILE], "delete the folder and extend the classifier again")
    if record["network_sha256"] != network_sha256 or record["episodes_hash"] != episodes.hash:
        raise DataError(f"{folder}: made for another network or other tasks; delete the folder and extend the classifier again")
    values: npt.NDArray[np.int32] = load_array(folder / FILE, mapped=True)
    return values


def accuracies(
    episodes: Episodes,
    values: npt.NDArray[np.int32],
    labels: npt.NDArray[np.int64],
    num_base: int,
    populations: tuple[str, ...],
    tasks: int,
) -> Accuracies:
    """Accuracies of each of the first `tasks` tasks: see `shares`.

    Args:
        episodes: the tasks.
        values: (T, Q + B, 2).
        labels: class of each store row; base classes are 0 .. C - 1.
        num_base: C.
        populations: as in `shares`.
        tasks: number.
    """
    _, way, each = episodes.query.shape
    classes = np.repeat(np.arange(way), each)
    found = []
    for query, base, said in zip(episodes.query[:tasks], episodes.base[:tasks], values[:tasks], strict=True):
        there = np.concatenate([query.ravel() >= 0, np.ones(len(base), dtype=bool)])
        found.append(shares(said[there], classes[query.ravel() >= 0], labels[base], num_base, populations))
    return {name: np.array([one[name] for one in found]) for name in found[0]}


def shares(
    said: npt.NDArray[np.int32],
    classes: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    num_base: int,
    populations: tuple[str, ...],
) -> dict[str, float]:
    """Accuracies of one task in percent: the share of images, and (name with `_class_mean`) the mean over classes.

    Args:
        said: (Q + B, 2).
        classes: (Q,) class of the novel images, 0 .. way - 1.
        labels: (B,) class of the base images, 0 .. C - 1.
        num_base: C.
        populations: `novel` (novel images among novel classes), `base` (base among base), `novel_in_all` and `base_in_all`
            (among all classes), `all` or `both` (all images among all classes).
    """
    novel = np.arange(len(said)) < len(classes)
    true = np.concatenate([classes, labels])
    found = {}
    for name in populations:
        with_novel, with_base, which = _MEMBERS[name]
        counted = (novel & with_novel) | (~novel & with_base)
        truth = (true + num_base * novel if which == 0 else true)[counted]
        right = said[counted, which] == truth
        images = np.bincount(truth)
        found[name] = 100 * float(right.mean())
        found[name + CLASS_MEAN] = 100 * float((np.bincount(truth, weights=right)[images > 0] / images[images > 0]).mean())
    return found
