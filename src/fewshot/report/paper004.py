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

IMAGE_SIZE, SCALED, IMAGES, TASKS = 80, 92, 600, 1_000
"""Pixels seen, of so many that images are scaled to; images of a class, some of them held out there; tasks of the test."""
STAGE1 = (225_000, 64)
"""Iterations and batch size: 300 epochs of all 48,000 images of 80 classes, for how many are held out is not recorded."""
AREA, JITTER, LIGHTING = (0.08, 1.0), 0.4, 0.1
"""Random sized crops of fb.resnet.torch, on which the authors' training is built; their colour jitter and lighting."""
NORMALISED = "normalised by the training images' mean and deviation, not ImageNet's"
DRAWN = "random sized crops of log-uniform proportions, scaled bilinearly; the authors' are of uniform ones, scaled bicubically"
ORDER = "colour jitter in one order, kept within the range of colours; the authors' in any, and not kept within"
THEIRS = "the authors keep the best on images held out of the trained classes, how many is unknown"
SPLIT = (
    "the classes of Ravi and Larochelle, as the authors' split; which images their file names is not recorded, and theirs are "
    "ImageNet's own in their proportions, ours squares"
)
"""What this software always does otherwise than the authors' code on miniImageNet."""
WHOLE = "whole images at testing, not the central 80 of 92 px"
VIEWS = "random views of each image, augmented as in stage 1, in place of ten crops (five places, mirrored)"
"""Of multi-view testing."""
COMPARED = ("miniimagenet", "fc100")
"""Data sets whose runs are compared with its protocol; its numbers are of the first."""


def is_of_paper_004(dataset: str, network: NetworkSettings, adaptation: ActivationMappingSettings, image_size: int) -> bool:
    """Whether the paper has this very network, classes and image size (in pixels), and a test of one view or of ten crops."""
    trained = network.training.classes == "base+val" and network.embedding is None
    trained = trained and network.training.objective == ClassificationSettings()
    its_own = dataset == "miniimagenet" and size_seen(network, image_size) == IMAGE_SIZE and _is_its_backbone(network)
    return its_own and trained and adaptation.views in (0, "ten_crops")


def deviations(facts: Facts) -> list[str] | None:
    """What differs from the paper in a network with a mapping, one sentence an entry; None on data sets not compared."""
    if facts.dataset not in COMPARED or not isinstance(facts.adaptation, ActivationMappingSettings):
        return None
    network, training = facts.network, facts.network.training
    found = []
    if facts.dataset != "miniimagenet":
        found.append(f"{facts.dataset}, on which the paper has no numbers")
    else:
        found += [*_pixels(network, facts.image_size), SPLIT]
    found += [NORMALISED] + [VIEWS] * (facts.adaptation.views not in (0, "ten_crops"))
    if facts.trained_images != (IMAGES, IMAGES):
        theirs = "the others held out; how many the authors hold out is unknown" if training.holds_out else f"not {IMAGES}"
        found.append(f"{counts(facts.trained_images)} images a base class trained on, {theirs}")
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
    if training.validation.keep == "last":
        found.append(f"the last state of stage 1; {THEIRS}")
    elif not training.holds_out:
        found.append(f"the best state on validation classes; {THEIRS}")
    found += _mapping(facts.adaptation)
    return found + tested(facts, TASKS, "remaining")


def _pixels(network: NetworkSettings, image_size: int) -> list[str]:
    """Sizes of images and of what the network sees of them that are not the paper's."""
    cropped = network.training.augmentation.crop is not None
    found = size_words(network, image_size, IMAGE_SIZE)
    if cropped and not found and image_size != SCALED:
        found = [f"crops of {IMAGE_SIZE} of {image_size} px instead of {SCALED} px"]
    return found if cropped else [*found, WHOLE]


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
    augmentation = training.augmentation
    found += [DRAWN] * (augmentation.resized_crop is not None) + [ORDER] * (augmentation.color_jitter > 0)
    drawn = augmentation.resized_crop, augmentation.flip, augmentation.color_jitter, augmentation.lighting
    if drawn != (AREA, True, JITTER, LIGHTING):
        found.append(
            "stage 1's augmentation is not random sized crops of 8 to 100 %, flips, colour jitter of 0.4 and lighting of 0.1"
        )
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


def _is_its_backbone(network: NetworkSettings) -> bool:
    """The simple network, or WRN-28-10 in the layout of the authors' code."""
    backbone = network.backbone
    simple = isinstance(backbone, Conv64Settings) and backbone.widths == (64, 64, 64, 64) and not backbone.last_pool
    wide = WideResNetSettings(name="wide_resnet", layout="post_activation")
    return simple or backbone == wide
