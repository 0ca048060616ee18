"""What every objective is to the training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from fewshot.models.network import Network

FeatureMap = Callable[[Tensor], Tensor]
"""Images (B, H, W, 3) on the 0..255 scale -> feature map (B, d, h, w), in the precision of the training."""


class Objective(nn.Module, ABC):
    """A loss over a batch. Parameters of its own are trained and kept in the training state, not in the network's folder.

    Its module, which its settings name, also has `build(settings, network, seed, teacher)`.
    """

    @abstractmethod
    def forward(
        self, network: Network, feature_map: FeatureMap, images: Tensor, labels: Tensor, iteration: int
    ) -> tuple[Tensor, Tensor]:
        """One batch.

        Args:
            network: in training mode.
            feature_map: runs the network's backbone, in the training's precision.
            images: augmented, (B, H, W, 3) on the 0..255 scale.
            labels: (B,) class numbers.
            iteration: of the training; what is drawn is drawn from it and the seed, so that training can be resumed.

        Returns:
            The loss, and the share of images (0..1) classified right, both scalars on the device.
        """

    def record(self) -> dict[str, Any] | None:
        """What the last batch leaves for metrics.jsonl beside loss and accuracy, JSON-able; usually nothing."""
        return None
