"""What paper 001 states of its experiments, and what a run does otherwise.

Qi et al., Low-Shot Learning with Imprinted Weights, CVPR 2018: sections 5 and 6.
"""

from __future__ import annotations

from fewshot.config import (
    ClassificationSettings,
    FinetuningSettings,
    ImprintingSettings,
    JointTrainingSettings,
    NetworkSettings,
    TorchvisionSettings,
)
from fewshot.config.training import OptimizerSettings
from fewshot.report.setting import Facts, added_losses, size_seen

IMAGE_SIZE, CROP, EMBEDDING, EPOCHS, VIEWS = 256, 224, 64, 112, 5
LR, NEW_LAYERS, MOMENTUM, DECAY, DECAY_EPOCHS = 1e-4, 10, 0.9, 0.94, 4
"""RMSProp's learning rate, its multiple for new layers, its momentum, and the factor by which it falls every so many epochs."""
DATASETS = {"cub": "cub-halves"}
"""Data set of a run -> its name in published.csv, where the classes are divided as in the paper."""
SQUARES = "the central square of each image is resized; the paper resizes whole images to squares"
"""What this software always does otherwise with photographs that are no squares."""
COMPARED = (*DATASETS, "fc100", "miniimagenet")
"""Data sets whose runs are compared with its protocol."""


def is_of_paper_001(dataset: str, network: NetworkSettings, image_size: int) -> bool:
    """Whether the paper's tables have this very network on images of `image_size` pixels.

    It is a cosine classifier of base classes: of the lifted structured loss the paper has figure 6, which prints no numbers.
    How long or with what optimizer it was trained does not count here.
    """
    backbone, classifier = network.backbone, network.classifier
    return (
        dataset in DATASETS
        and isinstance(backbone, TorchvisionSettings)
        and (backbone.name, backbone.weights) == ("googlenet", "imagenet")
        and network.embedding == EMBEDDING
        and (classifier.kind, classifier.pooling) == ("cosine", "gap")
        and network.training.classes == "base"
        and network.training.objective == ClassificationSettings()
        and (image_size, size_seen(network, image_size)) == (IMAGE_SIZE, CROP)
    )


def deviations(facts: Facts) -> list[str] | None:
    """What differs from the paper's CUB experiments in a network and its extension, one sentence an entry; None on data sets
    not compared.
    """
    adaptation, network = facts.adaptation, facts.network
    if facts.dataset not in COMPARED or not isinstance(adaptation, ImprintingSettings | JointTrainingSettings):
        return None
    found = []
    if facts.dataset in DATASETS:
        found.append(SQUARES)
    else:
        found.append(f"{facts.dataset}, on which the paper has no numbers")
    backbone = network.backbone
    if (backbone.name, getattr(backbone, "weights", "none")) != ("googlenet", "imagenet"):
        found.append(f"{_words(network)} instead of GoogLeNet with ImageNet weights")
    if network.embedding != EMBEDDING:
        layer = f"of {network.embedding}" if network.embedding else "without a layer of its own"
        found.append(f"an embedding {layer} instead of the {EMBEDDING} of the paper's tables")
    crop = network.training.augmentation.crop
    if (facts.image_size, crop) != (IMAGE_SIZE, CROP):
        found.append(f"images of {f'{crop} of ' if crop else ''}{facts.image_size} px instead of {CROP} of {IMAGE_SIZE}")
    found += _joint_training(adaptation) if isinstance(adaptation, JointTrainingSettings) else _imprinting(facts, adaptation)
    if facts.tasks != 1:
        found.append(f"{facts.tasks} draws of the exemplars instead of one")
    return found


def _imprinting(facts: Facts, adaptation: ImprintingSettings) -> list[str]:
    """Stage 1 and what is made of its network. Of the lifted structured loss the paper has a figure."""
    network = facts.network
    training, classifier = network.training, network.classifier
    lifted = training.objective.kind == "lifted_structured"
    found = [*_rates("stage 1", training.optimizer), *([] if lifted else added_losses(training))]
    schedule, augmentation = training.schedule, training.augmentation
    epoch = max(1.0, sum(facts.trained_images) / 2 * facts.classes[0] / training.images_an_iteration)  # iterations
    lowered = schedule.decay_every / epoch
    if (schedule.kind, schedule.decay) != ("exponential", DECAY):
        found.append(f"stage 1: learning rate by {schedule.kind}, instead of times {DECAY:g} every {DECAY_EPOCHS} epochs")
    elif abs(lowered - DECAY_EPOCHS) > 0.5:
        found.append(f"stage 1: learning rate lowered every {lowered:.1f} epochs instead of {DECAY_EPOCHS}")
    if not augmentation.flip or augmentation.resized_crop or augmentation.color_jitter or augmentation.lighting:
        found.append("stage 1's augmentation is not random crops and flips")
    if classifier.kind == "cosine" and not classifier.learn_scale:
        found.append("scale fixed in stage 1 instead of learned")
    if adaptation.views not in (0, VIEWS):
        found.append(f"{adaptation.views} augmented views instead of {VIEWS}")
    return found if adaptation.finetuning is None else found + _finetuning("fine-tuning", adaptation.finetuning)


def _joint_training(adaptation: JointTrainingSettings) -> list[str]:
    """It starts where stage 1 started, and owes nothing to how that was trained."""
    found = _finetuning("joint training", adaptation.finetuning)
    if adaptation.classifier.kind != "linear":
        found.append("joint training with normalised embeddings and weights, which the paper's has not")
    if adaptation.classifier.pooling != "gap":
        found.append("joint training of maxima over locations instead of averages")
    return found


def _words(network: NetworkSettings) -> str:
    weights = getattr(network.backbone, "weights", None)
    return f"{network.backbone.name} ({f'weights: {weights}' if weights else f'{network.backbone.shape}, from random weights'})"


def _finetuning(what: str, settings: FinetuningSettings) -> list[str]:
    found = _rates(what, settings.optimizer)
    if settings.epochs != EPOCHS:
        found.append(f"{what} for {settings.epochs} epochs instead of {EPOCHS}")
    if (settings.decay, settings.decay_epochs) != (DECAY, DECAY_EPOCHS):
        found.append(
            f"{what}: learning rate times {settings.decay:g} every {settings.decay_epochs} epochs instead of {DECAY:g} "
            f"every {DECAY_EPOCHS}"
        )
    if not settings.balanced:
        found.append(f"{what} without oversampling of the novel classes")
    return found


def _rates(what: str, optimizer: OptimizerSettings) -> list[str]:
    """Sentences where the optimizer, its learning rates or its momentum are others, and on what the paper leaves open."""
    found = []
    if (optimizer.name, optimizer.lr, optimizer.head_factor) != ("rmsprop", LR, NEW_LAYERS):
        name = {"rmsprop": "RMSProp", "sgd": "SGD"}.get(optimizer.name, optimizer.name)
        found.append(
            f"{what}: {name} at {optimizer.lr:g}, new layers times {optimizer.head_factor:g}, instead of RMSProp at {LR:g}, "
            f"new layers times {NEW_LAYERS}"
        )
    if optimizer.name == "rmsprop" and optimizer.momentum != MOMENTUM:
        found.append(f"{what}: momentum {optimizer.momentum:g} instead of {MOMENTUM:g}")
    if optimizer.weight_decay:
        found.append(f"{what}: weight decay {optimizer.weight_decay:g}, of which the paper says nothing")
    if optimizer.name == "rmsprop":
        constants = f"{optimizer.smoothing:g}, {optimizer.epsilon:g} and {optimizer.mean_square:g}"
        found.append(f"{what}: RMSProp's smoothing, epsilon and start of its mean are unpublished; ours are {constants}")
    return found
