"""What paper 001 states of its experiments, and what a run does otherwise.

Qi et al., Low-Shot Learning with Imprinted Weights, CVPR 2018: sections 5 and 6.
"""

from __future__ import annotations

from fewshot.config import AdaptationSettings, ImprintingSettings, JointTrainingSettings, NetworkSettings, TorchvisionSettings

IMAGE_SIZE, EMBEDDING, EPOCHS, NOVEL = 256, 64, 112, 100
DATASETS = {"cub": "cub-halves"}
"""Data set of a run -> its name in published.csv, where the classes are divided as in the paper."""


def is_of_paper_001(dataset: str, network: NetworkSettings, image_size: int) -> bool:
    """Whether the paper has this very network on images of `image_size` pixels; how it was trained does not count here."""
    backbone = network.backbone
    return (
        dataset in DATASETS
        and isinstance(backbone, TorchvisionSettings)
        and (backbone.name, backbone.weights) == ("googlenet", "imagenet")
        and network.embedding == EMBEDDING
        and image_size == IMAGE_SIZE
    )


def low_shot_deviations(
    network: NetworkSettings, adaptation: AdaptationSettings | None, image_size: int, tasks: int
) -> list[str]:
    """What differs from the paper's CUB experiments (images of `image_size` pixels) in a network and its extension."""
    if not isinstance(adaptation, ImprintingSettings | JointTrainingSettings):
        return []
    found = []
    backbone = network.backbone
    weights = getattr(backbone, "weights", "none")
    if (backbone.name, weights) != ("googlenet", "imagenet"):
        found.append(f"{backbone.name} (weights: {weights}) instead of GoogLeNet with ImageNet weights")
    if network.embedding != EMBEDDING:
        found.append(f"an embedding of {network.embedding or 'no layer of its own'} instead of {EMBEDDING}")
    if image_size != IMAGE_SIZE or network.training.augmentation.crop != 224:
        found.append(f"images of {network.training.augmentation.crop or image_size} px instead of 224 of 256")
    if network.training.optimizer.name != "rmsprop":
        found.append(f"stage 1 optimizer {network.training.optimizer.name} instead of RMSProp")
    if adaptation.finetuning is not None:
        tuning = adaptation.finetuning
        if tuning.optimizer.name != "rmsprop":
            found.append(f"fine-tuned with {tuning.optimizer.name} instead of RMSProp")
        if tuning.epochs != EPOCHS:
            found.append(f"fine-tuned for {tuning.epochs} epochs instead of {EPOCHS}")
    if isinstance(adaptation, JointTrainingSettings) and adaptation.classifier.kind != "linear":
        found.append("joint training with normalised embeddings and weights, which the paper's has not")
    if tasks != 1:
        found.append(f"{tasks} draws of the exemplars instead of one")
    return found
