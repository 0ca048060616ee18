"""Activation maps in numbers: what paper 000 says of figure 3, that maps of dense classification are smoother, measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from fewshot.intervals import interval

if TYPE_CHECKING:
    from fewshot.report.activation_maps import Case, Example


def roughness(values: npt.NDArray[np.float32]) -> float:
    """Mean absolute difference between neighbouring locations of a map (h, w), side by side or one above the other.

    NaN of a single location.
    """
    steps = np.concatenate([np.abs(np.diff(values, axis=axis)).ravel() for axis in (0, 1)])
    return float(steps.mean()) if len(steps) else math.nan


MEASURES: dict[str, Callable[[Example, int], float]] = {
    "probability": lambda example, network: float(example.maps[network].mean()),
    "roughness": lambda example, network: roughness(example.maps[network]),
    "located": lambda example, network: 100 * example.located[network],
}
"""Name -> what it is of an image and a network (0 or 1): the true class's probability, mean over locations; its `roughness`;
the percentage of locations that find the class by themselves."""
COLUMNS = ["case", "images", "measure", "first_network", "second_network", "first", "second", "difference", "ci95"]


def statistics_table(judged: Sequence[Example], cases: Mapping[Case, str], networks: tuple[str, str]) -> pd.DataFrame:
    """One row a case and measure: means over its images, second network less first, and half the 95 % interval over images.

    Beside the four cases all base and all novel images; an image that is a query of several tasks counts in each.
    """
    groups = {population: [one for one in judged if one.case[0] == population] for population in ("base", "novel")}
    groups |= {words: [one for one in judged if one.case == case] for case, words in cases.items()}
    rows = [
        [words, len(images), name, *networks, *_compared(np.array([[measure(one, i) for i in (0, 1)] for one in images]))]
        for words, images in groups.items()
        if images
        for name, measure in MEASURES.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS).dropna(subset=["first"]).reset_index(drop=True)


def _compared(values: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Means of two columns (n, 2), their difference and half its interval."""
    first, second = values.mean(0)
    return float(first), float(second), *interval(values[:, 1] - values[:, 0])
