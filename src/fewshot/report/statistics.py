"""The numbers made of accuracies: means over tasks and over seeds, paired differences, their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fewshot.intervals import interval

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """A difference of means over the tasks that two settings share, in points, with half its 95 % interval."""

    difference: float
    ci95: float
    tasks: int

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return abs(self.difference) > self.ci95


def mean_interval(accuracies: Floats) -> tuple[float, float]:
    """Mean over tasks (T,) and half its 95 % interval, 1.96 s / sqrt(tasks) with the sample standard deviation s.

    The interval is NaN for a single task, which tells nothing of the spread.
    """
    mean, ci95 = interval(accuracies)
    return mean, ci95 if len(accuracies) > 1 else math.nan


def paired(first: Floats, second: Floats) -> Paired:
    """`second` (S,) less `first` (F,) over their common tasks, the first min(F, S) of both (sample standard deviation).

    Equal shares of images can differ in their last bits by how they were computed: a difference of that size is none.
    """
    count = min(len(first), len(second))
    differences = np.round(second[:count] - first[:count], 9) + 0.0  # no -0
    return Paired(*mean_interval(differences), count)


_T_975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448,
    2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484,
    2.0452, 2.0423,
)  # fmt: skip
"""Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom."""


def t_quantile(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t with `freedom` >= 1 degrees of freedom (four digits)."""
    if freedom <= len(_T_975):
        return _T_975[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def seed_interval(means: Sequence[float]) -> tuple[float, float | None]:
    """Mean over seeds and half its 95 % interval by Student's t; no interval for one seed."""
    values = np.asarray(means, dtype=np.float64)
    if len(values) < 2:
        return float(values.mean()), None
    half = t_quantile(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()), half
