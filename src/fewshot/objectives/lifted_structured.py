"""The lifted structured loss: an embedding without class weights, by all pairs of a batch at once.

H. Oh Song, Y. Xiang, S. Jegelka, S. Savarese. Deep Metric Learning via Lifted Structured Feature Embedding. CVPR 2016
(arXiv 1511.06452), eq. (4); with it Qi et al. (CVPR 2018, figure 6) compare the softmax loss.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fewshot.config import LiftedStructuredSettings
from fewshot.models.heads import pool
from fewshot.models.network import Network
from fewshot.objectives.base import FeatureMap, Objective


def lifted_structured_loss(embeddings: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Eq. (4): 1 / (2 |P|) sum over positive pairs (i, j) of max(0, J_ij)^2, with

    J_ij = log(sum over negatives k of i: exp(margin - D_ik) + sum over negatives l of j: exp(margin - D_jl)) + D_ij.

    Args:
        embeddings: (B, D); D_ij is their Euclidean distance.
        labels: (B,) class numbers; at least two images of a class, and two classes.
        margin: alpha.
    """
    squares = embeddings.square().sum(1)
    squared = (squares[:, None] + squares[None] - 2 * embeddings @ embeddings.T).clamp_min(1e-12)  # a root has no slope at 0
    distances = squared.sqrt()
    same = labels[:, None] == labels[None]
    against = (margin - distances).masked_fill(same, -torch.inf).logsumexp(1)  # of each image, over its negatives
    positive = torch.triu(same, diagonal=1)
    pairs = torch.logaddexp(against[:, None], against[None]) + distances
    # Masked rather than picked out: how many there are the host would have to ask the device.
    return (pairs.clamp_min(0).square() * positive).sum() / (2 * positive.sum())


class LiftedStructured(Objective):
    """The loss on pooled embeddings, of unit length where the settings say so; batches are laid out by `sampling.Tasks`."""

    def __init__(self, settings: LiftedStructuredSettings) -> None:
        super().__init__()
        self.settings = settings

    def forward(
        self, network: Network, feature_map: FeatureMap, images: Tensor, labels: Tensor, iteration: int
    ) -> tuple[Tensor, Tensor]:
        """See `Objective.forward`; an image counts as right when its nearest neighbour in the batch is of its class."""
        embeddings = pool(feature_map(images).float(), network.settings.classifier.pooling)[:, 0]
        if self.settings.normalise:
            embeddings = F.normalize(embeddings, dim=1)
        distances = torch.cdist(embeddings.detach(), embeddings.detach())
        nearest = distances.fill_diagonal_(torch.inf).argmin(1)
        right = (labels[nearest] == labels).float().mean()
        return lifted_structured_loss(embeddings, labels, self.settings.margin), right


def build(settings: LiftedStructuredSettings, network: Network, seed: int, teacher: Network | None) -> LiftedStructured:
    """See Objective."""
    return LiftedStructured(settings)
