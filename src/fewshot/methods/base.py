"""What stage 2 and its methods of extended classifiers say to each other (see `fewshot.extension`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot.data.store import Store
from fewshot.errors import NotFiniteError
from fewshot.features import Features
from fewshot.models.network import Network

Rows = npt.NDArray[np.int64]

Curve = list[dict[str, float]]
"""What was measured on the way, one mapping an epoch; empty where nothing is trained."""


@dataclass(frozen=True)
class Ground:
    """What all tasks of a job share.

    Attributes:
        network: trained on the base classes, on the device to compute on; not to be changed.
        store: images and classes.
        features: the network's, of all images that the tasks name; means over views, pooled, where the settings have
            `views_of_tested`.
        seed: of the network's training.
        name: of the adaptation, for messages.
        trained: pooled features of the images that the network was trained on; for methods that learn from them.
    """

    network: Network
    store: Store
    features: Features
    seed: int
    name: str
    trained: Features | None = None


@dataclass(frozen=True)
class Task:
    """One task as store rows.

    Attributes:
        number: of the task.
        support: (way, shot); -1 where a class has fewer exemplars.
        query: (Q,) images of the novel classes.
        classes: (Q,) the novel class of each, 0 .. way - 1.
        base: (B,) held-out images of the base classes.
    """

    number: int
    support: Rows
    query: Rows
    classes: Rows
    base: Rows

    @property
    def way(self) -> int:
        """Number of novel classes."""
        return len(self.support)

    @property
    def exemplars(self) -> tuple[Rows, Rows]:
        """Store rows (n,) of all exemplars and the novel class (0 .. way - 1) of each."""
        there = self.support >= 0
        return self.support[there], np.nonzero(there)[0]


Extend = Callable[[Task, Path], tuple[npt.NDArray[np.int32], Curve]]
"""Task, file of its resumable state -> predictions (Q + B, 2), as `fewshot.predictions` has them, and curve."""


def decide(logits: Tensor, queries: int, num_base: int, with_base: bool = True) -> npt.NDArray[np.int32]:
    """Predictions from logits.

    Args:
        logits: (Q + B, C + way); (Q + B, way) of a classifier of novel classes alone.
        queries: Q.
        num_base: C.
        with_base: whether the classifier has the base classes.

    Returns:
        int32 (Q + B, 2).

    Raises:
        NotFiniteError: a logit is not a number or infinitely large: the largest of such would still be some class.
    """
    if (logits.isnan() | logits.isposinf()).any():
        raise NotFiniteError("scores that are not numbers, or infinite")
    said = torch.full((len(logits), 2), -1, dtype=torch.int32)
    if not with_base:
        said[:queries, 1] = logits[:queries].argmax(1).int().cpu()
        return said.numpy()
    said[:, 0] = logits.argmax(1).int().cpu()
    said[:queries, 1] = logits[:queries, num_base:].argmax(1).int().cpu()
    if len(logits) > queries:
        said[queries:, 1] = logits[queries:, :num_base].argmax(1).int().cpu()
    return said.numpy()
