"""A backbone with its stage-1 classifier and the normalisation of its images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewshot.config import NetworkSettings
from fewshot.models.backbones import Pretrained, build_backbone, feature_shape
from fewshot.models.heads import CosineClassifier, LinearClassifier, NoClassifier, build_classifier, pool


class Network(nn.Module):
    """What stage 1 trains, and what every later stage loads.

    Args:
        settings: backbone and classifier.
        classes: number of base classes.
        image_size: side of the images, pixels.
        mean, std: of the training images' channels, on the 0..1 scale.
    """

    mean: Tensor
    std: Tensor
    classifier: CosineClassifier | LinearClassifier | NoClassifier

    def __init__(
        self,
        settings: NetworkSettings,
        classes: int,
        image_size: int,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.25, 0.25, 0.25),
    ) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = build_backbone(settings.backbone)
        self.crop = settings.training.augmentation.crop
        channels, *side = feature_shape(self.backbone, self.crop or image_size)
        self.embedding: nn.Module = nn.Identity()
        if settings.embedding is not None:
            self.embedding = nn.Conv2d(channels, settings.embedding, 1)
        self.feature_shape = (settings.embedding or channels, side[0], side[1])
        self.classifier = build_classifier(settings.classifier, self.feature_shape, classes)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 or 0..255 float images (B, H, W, 3) -> normalised float32 (B, 3, H, W), channels last in memory.

        Of images larger than those that the network was trained on, the central crop of that size.
        """
        part = self.seen(images.shape[1])
        images = images[:, part, part]
        scale = 1.0 / (255.0 * self.std)
        return torch.addcmul(-self.mean / self.std, images.float(), scale).permute(0, 3, 1, 2)

    def seen(self, side: int) -> slice:
        """Of images of `side` pixels, the rows and columns that go through the network: all, or the central crop's."""
        if self.crop is None or side <= self.crop:
            return slice(0, side)
        first = (side - self.crop) // 2
        return slice(first, first + self.crop)

    def load_pretrained(self) -> None:
        """Take the backbone's pretrained weights, where its settings name some, and normalise images as these want them.

        Raises:
            DataError: the weights cannot be had.
        """
        statistics = self.backbone.load_pretrained() if isinstance(self.backbone, Pretrained) else None
        if statistics is not None:
            self.mean.copy_(torch.tensor(statistics[0]))
            self.std.copy_(torch.tensor(statistics[1]))

    @property
    def scale(self) -> float:
        """The classifier's scale tau (1 for a linear one)."""
        return float(self.classifier.scale.detach())

    @property
    def test_scale(self) -> float:
        """Scale tau of cosines to prototypes at testing (eq. 14): the classifier's; a linear one has the settings'."""
        classifier = self.settings.classifier
        return classifier.scale if classifier.kind == "linear" else self.scale

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> feature map (B, d, h, w).

        An embedding layer is a 1x1 convolution of the map: its average over the map is the linear layer of the average, so
        features keep their locations, and whatever reads them reads embeddings.
        """
        return self.embedding(self.backbone(images))  # type: ignore[no-any-return]

    def classify(self, feature_map: Tensor) -> Tensor:
        """Feature map (B, d, h, w) -> base-class logits (B, k, c), k locations as the stage-1 pooling has it.

        In float32 whatever the map is: a scale of 100 would make the rounding of a bfloat16 cosine a quarter of a logit.
        """
        features = pool(feature_map.float(), self.settings.classifier.pooling)
        return self.classifier(features)  # type: ignore[no-any-return]

    def logits(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> base-class logits (B, k, c)."""
        return self.classify(self(images))
