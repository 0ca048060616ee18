"""Episodic training of prototypical networks (Snell, Swersky and Zemel, NeurIPS 2017), with the distances of
`fewshot.methods.prototypical`: every iteration is a task, whose queries are held against the prototypes of its support images.

Support and queries go through the network as one batch, so batch normalisation sees the whole task, as in the authors' code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fewshot.config import EpisodicSettings
from fewshot.methods.prototypical import distances, histograms, loss, prototypes
from fewshot.models.heads import pool
from fewshot.models.network import Network
from fewshot.objectives.base import FeatureMap, Objective


class Prototypical(Objective):
    """Softmax over minus the distances of a task's queries to its prototypes.

    A batch is a task laid out class by class, way x (shot + queries), the support images of a class first; see
    `fewshot.sampling.Tasks`. Class numbers are not used.
    """

    def __init__(self, settings: EpisodicSettings) -> None:
        super().__init__()
        self.settings = settings
        self._kept: dict[str, Any] | None = None

    def forward(
        self, network: Network, feature_map: FeatureMap, images: Tensor, labels: Tensor, iteration: int
    ) -> tuple[Tensor, Tensor]:
        """See `Objective.forward`; what is right or wrong are the queries."""
        way, shot = self.settings.way, self.settings.shot
        features = pool(feature_map(images).float(), network.settings.classifier.pooling)
        tasks = features.view(way, shot + self.settings.queries, -1)
        found = distances(tasks[:, shot:].flatten(0, 1), prototypes(tasks[:, :shot]), self.settings.distance)
        classes = torch.arange(way, device=found.device).repeat_interleave(self.settings.queries)
        asked = iteration in self.settings.histograms and bool(found.isfinite().all())  # else the loss says what happened
        self._kept = histograms(found.detach(), classes) if asked else None
        return loss(found, classes), (found.detach().argmin(-1) == classes).float().mean()

    def record(self) -> dict[str, Any] | None:
        """The histograms of an iteration that asks for them."""
        return self._kept


def build(settings: EpisodicSettings, network: Network, seed: int, teacher: Network | None) -> Prototypical:
    """See Objective."""
    return Prototypical(settings)
