"""Classification of the base classes: paper 000, eq. (8), and densely eq. (10).

Y. Lifchitz, Y. Avrithis, S. Picard, A. Bursuc. Dense Classification and Implanting for Few-Shot Learning. CVPR 2019,
arXiv 1903.05050. What the classifier sees of the feature map is its own setting (`classifier.pooling`).
"""

from __future__ import annotations

from torch import Tensor

from fewshot.models.heads import classification_loss, predict
from fewshot.models.network import Network
from fewshot.objectives.base import FeatureMap, Objective


class Classification(Objective):
    """Cross-entropy of the network's classifier, averaged over images and locations."""

    def forward(self, network: Network, feature_map: FeatureMap, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """See Objective.forward."""
        logits = network.classify(feature_map(images))
        return classification_loss(logits, labels), (predict(logits.detach()) == labels).float().mean()
