"""Prototypical networks: queries are held against class means by a distance.

J. Snell, K. Swersky, R. Zemel. Prototypical Networks for Few-shot Learning. NeurIPS 2017.
W. Shen, R. Liu. Tackling Early Sparse Gradients in Softmax Activation Using Leaky Squared Euclidean Distance ("paper 002").

The leak is an increasing function of the squared Euclidean distance: it changes how a network learns, and never which prototype
is the nearest one.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fewshot.config import CosineDistanceSettings, DistanceSettings, LeakySquaredEuclideanSettings

BINS = 100
"""Bins of a histogram."""
LOG_BIAS = 1e-5
"""What paper 002 adds to the gradients' magnitudes before it takes their natural logarithm."""


def prototypes(support: Tensor) -> Tensor:
    """Eq. (2): means over the support images of each class, (..., way, shot, e) -> (..., way, e)."""
    return support.mean(dim=-2)


def squared_euclidean(queries: Tensor, centres: Tensor) -> Tensor:
    """Squared Euclidean distances by the expanded form, |q|^2 - 2 q c + |c|^2, which is one matrix product.

    Both sides are first moved by the mean of the centres: distances stay the same, and what is subtracted gets small. In
    float32 the result is within 2^-20 (|q|^2 + |c|^2), of the moved vectors, of the distance (up to 3,200 channels).
    Rounding may take it below zero, where it is cut off.

    Args:
        queries: (..., n, e).
        centres: (..., c, e).

    Returns:
        (..., n, c), never negative.
    """
    middle = centres.mean(dim=-2, keepdim=True)
    queries, centres = queries - middle, centres - middle
    return squared_from_products(
        queries @ centres.transpose(-1, -2), queries.square().sum(-1, keepdim=True), centres.square().sum(-1).unsqueeze(-2)
    )


def squared_from_products(products: Tensor, query_squares: Tensor, centre_squares: Tensor) -> Tensor:
    """Squared distances from dot products and squared norms, any shapes that broadcast; never negative."""
    return (query_squares + centre_squares - 2 * products).clamp_min(0)


def leaky(squared: Tensor, s: float, r: float) -> Tensor:
    """Eq. (6): squared distances d (any shape) up to `s` as they are, beyond it s + r (d - s). With r = 1 as they are."""
    if r == 1:
        return squared
    return torch.where(squared <= s, squared, s + (squared - s) * r)


def distances(queries: Tensor, centres: Tensor, settings: DistanceSettings) -> Tensor:
    """The distances that these settings describe: (..., n, e) and (..., c, e) -> (..., n, c)."""
    if isinstance(settings, CosineDistanceSettings):
        cosines = F.normalize(queries, dim=-1) @ F.normalize(centres, dim=-1).transpose(-1, -2)
        return settings.scale * (1 - cosines)
    squared = squared_euclidean(queries, centres)
    return leaky(squared, settings.s, settings.r) if isinstance(settings, LeakySquaredEuclideanSettings) else squared


def loss(found: Tensor, labels: Tensor) -> Tensor:
    """Eq. (3) and (4): mean negative log-softmax of minus the distances (n, c) at the labels (n,)."""
    return F.cross_entropy(-found, labels)


def loss_gradient(found: Tensor, labels: Tensor) -> Tensor:
    """By the distances, of each query's own loss, (n, c).

    It is the negative of what paper 002 prints as eq. (5), since the softmax is over minus the distances; figures show
    its magnitude.
    """
    return F.one_hot(labels, found.shape[-1]) - (-found).softmax(-1)


def histograms(found: Tensor, labels: Tensor) -> dict[str, Any]:
    """Figures 3 to 7 of paper 002: counts of log(|dl/dd| + 1e-5) and of the distances, in `BINS` equal bins each.

    Args:
        found: distances (n, c).
        labels: (n,).

    Returns:
        `log_gradient` and `distance`, each {low, high, counts}: the range from the lowest to the highest bin edge.
    """
    gradients = torch.log(loss_gradient(found, labels).abs() + LOG_BIAS)
    return {
        "log_gradient": _histogram(gradients, math.log(LOG_BIAS), math.log1p(LOG_BIAS)),
        "distance": _histogram(found, 0.0, None),
    }


def _histogram(values: Tensor, low: float, high: float | None) -> dict[str, Any]:
    values = values.detach().flatten().double().cpu()
    top = max(float(values.max()), 1e-12) if high is None else high
    counts = torch.histc(values.clamp(low, top), BINS, low, top)
    return {"low": low, "high": top, "counts": counts.long().tolist()}
