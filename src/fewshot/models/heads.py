"""Poolings and stage-1 classifiers (paper 000, sections 2 and 3.1).

Feature maps are (B, d, h, w); pooled features are (B, k, e): k = 1 vector of e = d channels for global pooling, k = h w
vectors for dense features, one vector of e = d h w for flattened ones.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.config import ClassifierSettings
from fewshot.errors import ConfigError

PoolingKind = Literal["gap", "gmp", "dense", "flatten"]


def locations(feature_map: Tensor) -> Tensor:
    """(B, d, h, w) -> (B, h w, d): one vector a location."""
    return feature_map.flatten(2).transpose(1, 2)


def pool_locations(features: Tensor, kind: PoolingKind) -> Tensor:
    """(..., r, d) -> (..., k, e): `pool` for features already laid out by location."""
    if kind == "gap":
        return features.mean(dim=-2, keepdim=True)
    if kind == "gmp":
        return features.amax(dim=-2, keepdim=True)
    if kind == "flatten":
        return features.flatten(-2).unsqueeze(-2)
    return features


def pool(feature_map: Tensor, kind: PoolingKind) -> Tensor:
    """(B, d, h, w) -> (B, k, e): gap and gmp (global average, maximum), dense (every location), flatten."""
    return pool_locations(locations(feature_map), kind)


def scaled_cosine(features: Tensor, weights: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """Eq. (7): scale x cosine of every feature (..., e) with every weight (c, e) -> (..., c)."""
    return scale * F.linear(F.normalize(features, dim=-1), F.normalize(weights, dim=-1))


class CosineClassifier(nn.Module):
    """Scaled cosine similarity to learnt class weights (eq. 6-7; for dense features eq. 9).

    features (B, k, e) -> logits (B, k, c). The weights start from a normal distribution of deviation sqrt(2 / e).
    """

    def __init__(self, channels: int, classes: int, scale: float = 10.0, learn_scale: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, channels) * math.sqrt(2.0 / channels))
        self.scale = nn.Parameter(torch.tensor(float(scale)), requires_grad=learn_scale)

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return scaled_cosine(features, self.weight, self.scale)


class LinearClassifier(nn.Module):
    """Plain affine classifier: features (B, k, e) -> logits (B, k, c). Its `scale` is 1 and fixed."""

    scale: Tensor

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, channels) * math.sqrt(2.0 / channels))
        self.bias = nn.Parameter(torch.zeros(classes))
        self.register_buffer("scale", torch.tensor(1.0))

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return F.linear(features, self.weight, self.bias)


class NoClassifier(nn.Module):
    """Of networks trained on tasks: no class weights. Its `scale` is 1 and fixed."""

    scale: Tensor
    weight = None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(1.0))

    def forward(self, features: Tensor) -> Tensor:
        """Refused, for there is nothing to hold features of any shape against.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("this network was trained on tasks and has no classifier of base classes")


def build_classifier(
    settings: ClassifierSettings, shape: tuple[int, int, int], classes: int
) -> CosineClassifier | LinearClassifier | NoClassifier:
    """The classifier for feature maps of `shape` (d, h, w)."""
    if settings.kind == "none":
        return NoClassifier()
    channels = math.prod(shape) if settings.pooling == "flatten" else shape[0]
    if settings.kind == "cosine":
        return CosineClassifier(channels, classes, settings.scale, settings.learn_scale)
    return LinearClassifier(channels, classes)


def classification_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy averaged over images and locations (eq. 8; for dense features eq. 10, divided by B k).

    Args:
        logits: (B, k, c).
        labels: (B,) class numbers.
        label_smoothing: share of the target spread over all classes.
    """
    targets = labels.repeat_interleave(logits.shape[1])
    return F.cross_entropy(logits.flatten(0, 1), targets, label_smoothing=label_smoothing)


def probabilities(logits: Tensor) -> Tensor:
    """(B, k, c) -> (B, c): softmax, averaged over locations (eq. 14; for k = 1 eq. 13)."""
    return logits.softmax(dim=-1).mean(dim=1)


def predict(logits: Tensor) -> Tensor:
    """(B, k, c) -> (B,): the class of the greatest probability."""
    return probabilities(logits).argmax(dim=-1)
