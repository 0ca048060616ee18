"""The numbers made of accuracies: means over tasks and over seeds, paired differences, their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fewshot.intervals import interval

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """A difference of means over the tasks that two settings share, in points, with half its 95 % interval by Student's t."""

    difference: float
    ci95: float
    tasks: int

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return abs(self.difference) > self.ci95


def paired(first: Floats, second: Floats) -> Paired:
    """`second` (S,) less `first` (F,) over their common tasks, the first min(F, S) of both (sample standard deviation).

    Equal shares of images can differ in their last bits by how they were computed: a difference of that size is none.
    """
    count = min(len(first), len(second))
    differences = np.round(second[:count] - first[:count], 9) + 0.0  # no -0
    return Paired(*interval(differences), count)


def seed_interval(means: Sequence[float]) -> tuple[float, float | None]:
    """Mean over seeds and half its 95 % interval by Student's t; no interval for one seed."""
    mean, ci95 = interval(np.asarray(means, dtype=np.float64))
    return mean, ci95 if len(means) > 1 else None


def shown_interval(means: Sequence[float], over_tasks: float) -> tuple[float, float]:
    """Mean over seeds and the interval that stands beside it: over the seeds; of a single one `over_tasks`."""
    mean, over_seeds = seed_interval(means)
    return mean, over_tasks if over_seeds is None else over_seeds
