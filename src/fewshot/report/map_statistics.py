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

    Of probabilities it grows with the scale of the cosines. NaN of a single location.
    """
    steps = np.concatenate([np.abs(np.diff(values, axis=axis)).ravel() for axis in (0, 1)])
    return float(steps.mean()) if len(steps) else math.nan


def relative_roughness(values: npt.NDArray[np.float32]) -> float:
    """Roughness over the mean absolute difference between any two locations of a map (h, w).

    1 where neighbours are no more alike than others; the same for a map times any number. NaN of a map that is all one value.
    """
    flat = values.ravel().astype(np.float64)
    any_two = np.abs(flat[:, None] - flat).sum() / max(len(flat) * (len(flat) - 1), 1)
    return roughness(values) / any_two if any_two > 0 else math.nan


MEASURES: dict[str, Callable[[Example, int], float]] = {
    "probability": lambda example, network: float(example.maps[network].mean()),
    "roughness": lambda example, network: roughness(example.maps[network]),
    "relative_roughness": lambda example, network: relative_roughness(example.maps[network]),
    "located": lambda example, network: 100 * example.located[network],
}
"""Name -> what it is of an image and a network (0 or 1): the true class's probability, mean over locations; how rough its map
is; the percentage of locations that find the class by themselves."""
COLUMNS = ["case", "images", "measure", "first_network", "second_network", "first", "second", "difference", "ci95"]


def statistics_table(judged: Sequence[Example], cases: Mapping[Case, str], networks: tuple[str, str]) -> pd.DataFrame:
    """One row a case and measure: means over its images, second network less first, and half the 95 % interval over images.

    All base and all novel images, then the four cases, which are chosen by what the networks said. Queries of a task share its
    prototypes, and an image may be a query of several, so that intervals of novel images are narrower than those over tasks.
    Images of which a map has no such measure are left out of it.
    """
    groups = {population: [one for one in judged if one.case[0] == population] for population in ("base", "novel")}
    groups |= {words: [one for one in judged if one.case == case] for case, words in cases.items()}
    rows = []
    for words, images in groups.items():
        for name, measure in MEASURES.items():
            values = np.array([[measure(one, network) for network in (0, 1)] for one in images]).reshape(-1, 2)
            values = values[~np.isnan(values).any(1)]
            if len(values):
                difference = interval(values[:, 1] - values[:, 0])
                rows.append([words, len(values), name, *networks, *values.mean(0).tolist(), *difference])
    return pd.DataFrame(rows, columns=COLUMNS)
