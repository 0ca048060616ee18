"""What paper 004 states of its experiments, and what a run does otherwise.

Qiao et al., Few-Shot Image Recognition by Predicting Parameters from Activations, CVPR 2018, from its authors' code
(joe-siyuan-qiao/FewShot-CVPR).
"""

from __future__ import annotations

from fewshot.config import ActivationMappingSettings, Conv64Settings, NetworkSettings, WideResNetSettings
from fewshot.report.setting import Facts, counts, samples, size_seen, size_words, tested

IMAGE_SIZE, IMAGES, TASKS = 80, 600, 1_000
"""Pixels; images of a class, all of which are trained on; tasks of the test."""
STAGE1 = (225_000, 64)
"""Iterations and batch size: 300 epochs of the 48,000 images of 80 classes."""
COMPARED = ("miniimagenet", "fc100")
"""Data sets whose runs are compared with its protocol; its numbers are of the first."""


def is_of_paper_004(dataset: str, network: NetworkSettings, adaptation: ActivationMappingSettings, image_size: int) -> bool:
    """Whether the paper has this very network, classes and image size (in pixels), and a test of single views."""
    trained = network.training.classes == "base+val" and network.embedding is None
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
    if facts.trained_images != (IMAGES, IMAGES):
        found.append(f"{counts(facts.trained_images)} images a base class trained on instead of {IMAGES}")
    if not _is_its_backbone(network):
        found.append(f"backbone {network.backbone.name} {network.backbone.shape} instead of Conv-64 or WRN-28-10")
    if network.embedding is not None:
        found.append(f"an embedding layer of {network.embedding}, which the paper does not have")
    if network.classifier.kind != "linear":
        found.append(f"{network.classifier.kind} classifier in stage 1 instead of a linear one")
    if training.classes != "base+val":
        found.append("trained on the base classes alone instead of base and validation classes")
    found += samples((facts.done or training.iterations, training.images_an_iteration), STAGE1)
    optimizer = training.optimizer
    asked = optimizer.name, optimizer.lr, optimizer.weight_decay, optimizer.nesterov, training.schedule.kind
    if asked != ("sgd", 0.1, 1e-4, True, "constant"):
        found.append(
            f"stage 1: {optimizer.name} at {optimizer.lr:g}, weight decay {optimizer.weight_decay:g}, schedule "
            f"{training.schedule.kind}, instead of SGD with Nesterov momentum at a constant 0.1, weight decay 0.0001"
        )
    if not training.augmentation.resized_crop or training.augmentation.color_jitter != 0.4:
        found.append("stage 1's augmentation is not the paper's random resized crops and colour jitter of 0.4")
    found += _mapping(facts.adaptation)
    return found + tested(facts, TASKS, "remaining")


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


def _is_its_backbone(network: NetworkSettings) -> bool:
    """The simple network, or WRN-28-10."""
    backbone = network.backbone
    simple = isinstance(backbone, Conv64Settings) and backbone.widths == (64, 64, 64, 64) and not backbone.last_pool
    return simple or (isinstance(backbone, WideResNetSettings) and (backbone.depth, backbone.width) == (28, 10))
