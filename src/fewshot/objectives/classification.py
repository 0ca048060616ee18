"""Classification of the base classes: paper 000, eq. (8), and densely eq. (10).

Y. Lifchitz, Y. Avrithis, S. Picard, A. Bursuc. Dense Classification and Implanting for Few-Shot Learning. CVPR 2019,
arXiv 1903.05050. What the classifier sees of the feature map is its own setting (`classifier.pooling`).

Not of that paper, and off unless asked for: label smoothing; rotation self-supervision (S. Gidaris, P. Singh, N. Komodakis.
Unsupervised Representation Learning by Predicting Image Rotations. ICLR 2018); distillation from a trained network of the same
kind (Y. Tian et al. Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need? ECCV 2020, section 3.3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.config import ClassificationSettings
from fewshot.device import to_device
from fewshot.models.heads import classification_loss, pool, predict
from fewshot.models.network import Network
from fewshot.objectives.base import FeatureMap, Objective
from fewshot.optimization import Draw, generator

TURNS = 4


class Classification(Objective):
    """Cross-entropy of the network's classifier, averaged over images and locations.

    Args:
        settings: what is added to it.
        channels: d of the feature map, for the rotation head.
        seed: of the rotations that are drawn.
        teacher: frozen network to learn from; needed when `settings.distillation` is there.
    """

    def __init__(self, settings: ClassificationSettings, channels: int, seed: int = 0, teacher: Network | None = None) -> None:
        super().__init__()
        if (settings.distillation is None) != (teacher is None):
            raise ValueError("a teacher goes with the distillation settings, and they with it")
        self.settings, self.seed = settings, seed
        self.rotation_head = nn.Linear(channels, TURNS) if settings.rotation else None
        # In a list, so that it is neither trained nor kept in the training state.
        self._teacher = [teacher] if teacher is not None else []

    def forward(
        self, network: Network, feature_map: FeatureMap, images: Tensor, labels: Tensor, iteration: int
    ) -> tuple[Tensor, Tensor]:
        """See `Objective.forward`."""
        smoothing, rotation, distillation = self.settings.label_smoothing, self.settings.rotation, self.settings.distillation
        turns = None
        if rotation is not None:
            images, turns = self.turned(images, rotation.views == "all", iteration)
            labels = labels.repeat(len(images) // len(labels))
        features = feature_map(images)
        logits = network.classify(features)
        loss = classification_loss(logits, labels, smoothing)
        if distillation is not None:
            targets = self.taught(images, distillation.temperature, logits.shape[1], features.dtype)
            loss = (1 - distillation.weight) * loss + distillation.weight * distillation_loss(
                logits, targets, distillation.temperature
            )
        if rotation is not None and self.rotation_head is not None and turns is not None:
            guesses = self.rotation_head(pool(features.float(), "gap").squeeze(1))
            loss = loss + rotation.weight * F.cross_entropy(guesses, turns)
        return loss, (predict(logits.detach()) == labels).float().mean()

    def turned(self, images: Tensor, every: bool, iteration: int) -> tuple[Tensor, Tensor]:
        """Images turned by quarter turns, and by how many.

        Args:
            images: (B, H, W, 3).
            every: each image in all four rotations; else each in one, drawn from (seed, iteration).
            iteration: of the training.

        Returns:
            (4 B, H, W, 3), all images unturned first, then turned once and so on, or (B, H, W, 3); and the turns, int64.
        """
        if every:
            turned = torch.cat([torch.rot90(images, turn, (1, 2)) for turn in range(TURNS)])
            return turned, torch.arange(TURNS, device=images.device).repeat_interleave(len(images))
        drawn = to_device(
            torch.randint(TURNS, (len(images),), generator=generator(self.seed, Draw.ROTATIONS, iteration)), images.device
        )
        turned = images
        for turn in range(1, TURNS):
            turned = torch.where((drawn == turn).view(-1, 1, 1, 1), torch.rot90(images, turn, (1, 2)), turned)
        return turned, drawn

    @torch.no_grad()
    def taught(self, images: Tensor, temperature: float, vectors: int, precision: torch.dtype = torch.float32) -> Tensor:
        """The teacher's softened probabilities of images (B, H, W, 3): (B, vectors, c), in the precision of the student's map.

        A teacher that classifies as many locations as its student teaches each location; else its average teaches all.
        """
        teacher = self._teacher[0]
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
            features = teacher(teacher.normalise(images))
        probabilities = (teacher.classify(features) / temperature).softmax(-1)
        if probabilities.shape[1] != vectors:
            probabilities = probabilities.mean(1, keepdim=True).expand(-1, vectors, -1)
        return probabilities


def distillation_loss(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of softened predictions from targets, times the temperature squared (Hinton et al. 2015).

    Args:
        logits: of the student, (B, k, c).
        targets: probabilities at the same temperature, (B, k, c).
        temperature: of both.

    Returns:
        A scalar: the mean over images and locations.
    """
    divergence = F.kl_div((logits / temperature).log_softmax(-1), targets, reduction="none").sum(-1)
    return divergence.mean() * temperature**2


def build(settings: ClassificationSettings, network: Network, seed: int, teacher: Network | None) -> Classification:
    """See Objective."""
    return Classification(settings, network.feature_shape[0], seed, teacher)
