"""Mean and 95 % interval over tasks: the one formula of everything that is measured."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def interval(accuracies: Floats) -> tuple[float, float]:
    """Mean over tasks and half the 95 % interval, 1.96 s / sqrt(T) with the sample deviation s, as the papers have it.

    In the unit of the accuracies (T,), which is percent everywhere; 0 for a single task.
    """
    half = 1.96 * accuracies.std(ddof=1) / np.sqrt(len(accuracies)) if len(accuracies) > 1 else 0.0
    return float(accuracies.mean()), float(half)
