"""What paper 004 states of its experiments, and what a run does otherwise.

Qiao et al., Few-Shot Image Recognition by Predicting Parameters from Activations, CVPR 2018, from its authors' code
(joe-siyuan-qiao/FewShot-CVPR).
"""

from __future__ import annotations

from fewshot.config import (
    ActivationMappingSettings,
    ClassificationSettings,
    Conv64Settings,
    NetworkSettings,
    TrainingSettings,
    WideResNetSettings,
)
from fewshot.report.setting import Facts, added_losses, counts, samples, size_seen, size_words, tested

IMAGE_SIZE, IMAGES, TASKS = 80, 600, 1_000
"""Pixels; images of a class, all of which are trained on; tasks of the test."""
STAGE1 = (225_000, 64)
"""Iterations and batch size: 300 epochs of the 48,000 images of 80 classes."""
AREA, JITTER = (0.25, 1.0), 0.4
"""Random resized crops in place of the authors', and their colour jitter."""
CROPS = "random resized crops of 80 px images, a quarter to the whole of them, in place of crops from 92 px; no PCA lighting"
WHOLE = "whole images at testing, not the central 80 of 92 px; normalised by the training images' mean and deviation"
SPLIT = "the classes of Ravi and Larochelle, as the authors' split; which images their file names is not recorded"
"""What this software always does otherwise than the authors' code on miniImageNet."""
VIEWS = "random views of each image, augmented as in stage 1, in place of ten crops (five places, mirrored)"
"""Of multi-view testing."""
COMPARED = ("miniimagenet", "fc100")
"""Data sets whose runs are compared with its protocol; its numbers are of the first."""


def is_of_paper_004(dataset: str, network: NetworkSettings, adaptation: ActivationMappingSettings, image_size: int) -> bool:
    """Whether the paper has this very network, classes and image size (in pixels), and a test of single views."""
    trained = network.training.classes == "base+val" and network.embedding is None
    trained = trained and network.training.objective == ClassificationSettings()
    its_own = dataset == "miniimagenet" and size_seen(network, image_size) == IMAGE_SIZE and _is_its_backbone(network)
    return its_own and trained and not adaptation.views


def deviations(facts: Facts) -> list[str] | None:
    """What differs from the paper in a network with a mapping, one sentence an entry; None on data sets not compared."""
    if facts.dataset not in COMPARED or not isinstance(facts.adaptation, ActivationMappingSettings):
        return None
    network, training = facts.network, facts.network.training
    found = []
    if facts.dataset != "miniimagenet":
        found.append(f"{facts.dataset}, on which the paper has no numbers")
    else:
        found += size_words(network, facts.image_size, IMAGE_SIZE)
        found += [CROPS] * _is_its_augmentation(training) + [WHOLE, SPLIT]
        found += [VIEWS] * bool(facts.adaptation.views)
    if facts.trained_images != (IMAGES, IMAGES):
        found.append(f"{counts(facts.trained_images)} images a base class trained on instead of {IMAGES}")
    if not _is_its_backbone(network):
        found.append(f"backbone {network.backbone.name} {network.backbone.shape} instead of Conv-64 or the authors' WRN-28-10")
    if network.embedding is not None:
        found.append(f"an embedding layer of {network.embedding}, which the paper does not have")
    if getattr(network.backbone, "batch_norm_init", "ones") != "ones":
        found.append("scales of batch normalisation that start from U(0, 1)")
    if network.classifier.kind != "linear":
        found.append(f"{network.classifier.kind} classifier in stage 1 instead of a linear one")
    if training.classes != "base+val":
        found.append("trained on the base classes alone instead of base and validation classes")
    found += samples((facts.done or training.iterations, training.images_an_iteration), STAGE1)
    found += [*added_losses(training), *_stage1(training)]
    found += _mapping(facts.adaptation)
    return found + tested(facts, TASKS, "remaining")


def _stage1(training: TrainingSettings) -> list[str]:
    """Optimizer, schedule and augmentation that are not the authors'."""
    found, optimizer = [], training.optimizer
    asked = optimizer.name, optimizer.lr, optimizer.weight_decay, optimizer.momentum, optimizer.nesterov, training.schedule.kind
    if asked != ("sgd", 0.1, 1e-4, 0.9, True, "constant"):
        found.append(
            f"stage 1: {optimizer.name} at {optimizer.lr:g}, momentum {optimizer.momentum:g}, weight decay "
            f"{optimizer.weight_decay:g}, schedule {training.schedule.kind}, instead of SGD with Nesterov momentum 0.9 at a "
            "constant 0.1, weight decay 0.0001"
        )
    if not _is_its_augmentation(training):
        found.append("stage 1's augmentation is not random resized crops, flips and colour jitter of 0.4")
    return found


def _mapping(settings: ActivationMappingSettings) -> list[str]:
    """Settings of the mapping that are not the authors', which are the defaults."""
    usual = ActivationMappingSettings(method="activation_to_parameter")
    names = {
        "iterations": "iterations", "mean_share": "probability of the mean", "lr": "learning rate", "momentum": "momentum",
        "weight_decay": "weight decay",
    }  # fmt: skip
    return [
        f"mapping: {words} {getattr(settings, key):g} instead of {getattr(usual, key):g}"
        for key, words in names.items()
        if getattr(settings, key) != getattr(usual, key)
    ]


def _is_its_augmentation(training: TrainingSettings) -> bool:
    augmentation = training.augmentation
    return (augmentation.resized_crop, augmentation.color_jitter, augmentation.flip) == (AREA, JITTER, True)


def _is_its_backbone(network: NetworkSettings) -> bool:
    """The simple network, or WRN-28-10 in the layout of the authors' code."""
    backbone = network.backbone
    simple = isinstance(backbone, Conv64Settings) and backbone.widths == (64, 64, 64, 64) and not backbone.last_pool
    wide = WideResNetSettings(name="wide_resnet", layout="post_activation")
    return simple or backbone == wide
