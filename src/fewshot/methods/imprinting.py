"""Imprinting (stage 2): embeddings of a few exemplars become the classifier's weights of novel classes.

H. Qi, M. Brown, D. G. Lowe. Low-Shot Learning with Imprinted Weights. CVPR 2018 (arXiv 1712.07136): section 4.2, and the
variants of section 6.1.2 that it is compared with.

Embeddings phi(x) and class weights have unit length, so logits are scaled cosines (eq. 8). A novel class gets the mean of its
exemplars' embeddings, at unit length again: w+ = m / |m|, m = 1/n sum_i phi(x_i). The base classes' weights stay, and so do
their logits. Fine-tuning trains the whole network from there.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.config import ImprintingSettings
from fewshot.features import Features
from fewshot.finetuning import Finetuning
from fewshot.methods.base import Curve, Extend, Ground, Task, decide
from fewshot.models.heads import CosineClassifier, NoClassifier
from fewshot.optimization import Draw, generator
from fewshot.views import DRAWN_AT_ONCE, random_view

_ROWS = 4096
"""Images whose logits are held at once."""


def imprint(embeddings: Tensor, classes: Tensor, way: int) -> Tensor:
    """Weights of novel classes from their exemplars' embeddings (section 4.2).

    Args:
        embeddings: (n, D), of any length; several of one exemplar (its views) count like several exemplars.
        classes: int64 (n,), the novel class of each, 0 .. way - 1; every class at least once.
        way: number of novel classes.

    Returns:
        (way, D), of unit length.
    """
    sums = torch.zeros(way, embeddings.shape[1], device=embeddings.device)
    return F.normalize(sums.index_add_(0, classes, F.normalize(embeddings, dim=1)), dim=1)


def random_weights(way: int, channels: int, generator: torch.Generator) -> Tensor:
    """Xavier uniform weights (way, channels), on the CPU: the paper's Rand."""
    return nn.init.xavier_uniform_(torch.empty(way, channels), generator=generator)


def extended(classifier: CosineClassifier, weights: Tensor, with_base: bool = True) -> CosineClassifier:
    """A classifier with further classes (or with these alone); base weights and scale as they were.

    Args:
        classifier: of the C base classes; left as it is.
        weights: (way, D) of the novel classes.
        with_base: keep the base classes; their logits do not change.
    """
    known = classifier.weight.detach()
    new = torch.cat([known, weights.to(known)]) if with_base else weights.to(known)
    larger = CosineClassifier(new.shape[1], len(new), learn_scale=classifier.scale.requires_grad).to(known.device)
    with torch.no_grad():
        larger.weight.copy_(new)
        larger.scale.copy_(classifier.scale)
    return larger


def nearest(embeddings: Tensor, exemplars: Tensor, classes: Tensor, way: int) -> Tensor:
    """Cosine of each embedding (m, D) with the nearest exemplar (n, D) of each class: (m, way) (section 6.2, figure 6)."""
    cosines = F.normalize(embeddings, dim=1) @ F.normalize(exemplars, dim=1).T
    out = torch.full((len(embeddings), way), -torch.inf, device=embeddings.device)
    return out.scatter_reduce_(1, classes.expand(len(embeddings), -1), cosines, "amax")


def prepare(ground: Ground, settings: ImprintingSettings) -> Extend:
    """The method of a job, as stage 2 calls it: see `fewshot.extension`."""
    return _Imprinting(ground, settings)


class _Imprinting:
    def __init__(self, ground: Ground, settings: ImprintingSettings) -> None:
        self.ground, self.settings = ground, settings
        self.with_base = settings.with_base
        classifier = ground.network.classifier
        if isinstance(classifier, NoClassifier):  # of novel classes alone, then: the config refuses the rest
            asked = ground.network.settings.classifier
            classifier = CosineClassifier(ground.network.feature_shape[0], 0, asked.scale, asked.learn_scale)
            classifier.to(ground.network.mean.device)
        assert isinstance(classifier, CosineClassifier)  # noqa: S101  the config refuses others
        self.classifier, self.pooling = classifier, settings.pooling(ground.network.settings)
        if settings.finetuning is not None:
            self.finetuning = Finetuning(ground, settings.finetuning, self.with_base)

    @torch.inference_mode(mode=False)
    def __call__(self, task: Task, state: Path) -> tuple[npt.NDArray[np.int32], Curve]:
        """See `fewshot.methods.base.Extend`."""
        if self.settings.weights == "nearest":
            return self._nearest(task), []
        larger = extended(self.classifier, self.weights(task), self.with_base)
        if self.settings.finetuning is not None:
            network = deepcopy(self.ground.network)
            network.classifier = larger
            with torch.no_grad():  # all of unit length, so that all learn alike
                larger.weight.copy_(F.normalize(larger.weight, dim=1))
            return self.finetuning(network, task, state)  # a scale that stage 1 held fast stays so
        return self._decide(task, larger), []

    def weights(self, task: Task) -> Tensor:
        """Of the novel classes, (way, D)."""
        device = self.classifier.weight.device
        rows, classes = task.exemplars
        if self.settings.weights == "random":
            return random_weights(
                task.way, self.classifier.weight.shape[1], generator(self.ground.seed, Draw.RANDOM_WEIGHTS, task.number)
            )
        views = self.settings.views
        if not views:
            return imprint(self._embeddings(rows), torch.from_numpy(classes).to(device), task.way)
        seen = torch.cat(
            [self._view(rows, generator(self.ground.seed, Draw.VIEWS, task.number, view)) for view in range(views)]
        )
        return imprint(seen, torch.from_numpy(classes).to(device).repeat(views), task.way)

    @cached_property
    def _tested(self) -> Features:
        return self.ground.features.pooled(self.pooling, self.classifier.weight.device)

    def _embeddings(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Embeddings (n, D) of store rows, from the network's features."""
        return self._tested.of(rows)[:, 0]

    def _view(self, rows: npt.NDArray[np.int64], random: torch.Generator) -> Tensor:
        """Embeddings (n, D) of augmented views, augmented as in the training of the base classes."""
        network, images = self.ground.network, self.ground.store.images
        parts = (rows[start : start + DRAWN_AT_ONCE] for start in range(0, len(rows), DRAWN_AT_ONCE))
        seen = (torch.from_numpy(np.array(images[part])).to(network.mean.device) for part in parts)
        return torch.cat([random_view(network, part, random, self.pooling) for part in seen])

    @torch.no_grad()
    def _decide(self, task: Task, classifier: CosineClassifier) -> npt.NDArray[np.int32]:
        rows = np.concatenate([task.query, task.base])
        parts = [classifier(self._embeddings(rows[i : i + _ROWS])) for i in range(0, len(rows), _ROWS)]
        return decide(torch.cat(parts), len(task.query), len(self.classifier.weight), self.with_base)

    @torch.no_grad()
    def _nearest(self, task: Task) -> npt.NDArray[np.int32]:
        rows, classes = task.exemplars
        exemplars, members = self._embeddings(rows), torch.from_numpy(classes).to(self.classifier.weight.device)
        images, known = np.concatenate([task.query, task.base]), F.normalize(self.classifier.weight, dim=1)
        parts = []
        for start in range(0, len(images), _ROWS):
            embeddings = self._embeddings(images[start : start + _ROWS])
            novel = nearest(embeddings, exemplars, members, task.way)
            parts.append(torch.cat([F.normalize(embeddings, dim=1) @ known.T, novel], dim=1) if self.with_base else novel)
        return decide(torch.cat(parts), len(task.query), len(known), self.with_base)
