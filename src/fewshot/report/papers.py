"""What the papers state: their protocols, their names of things, and what a run does otherwise.

Paper 000 is Lifchitz et al., Dense Classification and Implanting for Few-Shot Learning, CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewshot.config import (
    ActivationMappingSettings,
    AdaptationSettings,
    ImplantingSettings,
    ImprintingSettings,
    JointTrainingSettings,
    NetworkSettings,
)
from fewshot.config.extension import Extension
from fewshot.plan import AS_TRAINED
from fewshot.report.paper001 import DATASETS, low_shot_deviations

LABELS = {"gap": "GAP", "gmp": "GMP", "dense": "DC", "flatten": "FLAT"}
"""Poolings as the paper abbreviates them."""
BACKBONES = {
    "resnet12": "ResNet-12", "resnet12-wide": "ResNet-12", "c128f": "C128F", "conv64": "Conv-64", "conv4": "Conv-4",
    "wide_resnet": "WRN", "googlenet": "GoogLeNet", "resnet18": "ResNet-18", "resnet50": "ResNet-50",
    "inception-resnet": "InceptionResNet",
    "resnet": "ResNet", "resnet12-640": "ResNet-12, 64-160-320-640", "resnet12-unknown": "ResNet-12, widths not known",
}  # fmt: skip
"""Backbones of published.csv as tables write them."""


DISTANCES = {
    "squared_euclidean": "ProtoNet", "leaky_squared_euclidean": "ProtoNet (LSED)", "cosine": "ProtoNet (cosine)",
}  # fmt: skip
"""Networks trained on tasks, by their distance, as paper 002 calls them."""

EXTENSIONS = {
    "random": "Rand-noFT", "imprinting": "Imprinting", "imprinting-aug": "Imprinting + Aug", "nearest": "Nearest neighbour",
    "random-ft": "Rand + FT", "imprinting-ft": "Imprinting + FT", "imprinting-aug-ft": "Imprinting + Aug + FT",
    "joint": "AllClassJoint", "joint-cosine": "AllClassJoint (cosine)",
}  # fmt: skip
"""Methods that extend the classifier, by `stage2_name`, as paper 001 calls them, in the order of its tables."""
EXTENSIONS |= {f"{name}-transfer": f"{words}, transfer" for name, words in EXTENSIONS.items() if not name.startswith("joint")}


# --- protocol --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Protocol:
    """What paper 000 states about its experiments on one data set (section 5.1); what it leaves out is not here.

    Attributes:
        image_size: pixels.
        images: images of a base class, all of which are trained on.
        iterations, batch_size, optimizer, scale: of stage 1; `scale` is the initial tau.
        optimizer_words: the optimizer in the paper's words.
    """

    image_size: int
    iterations: int
    batch_size: int
    optimizer: str
    optimizer_words: str
    scale: float
    images: int = 600
    queries: int = 30
    tasks: int = 10_000
    adapted_tasks: int = 5_000
    implant_epochs: int = 50
    implant_width: int = 16
    implant_scale: float = 10.0
    wide: int = 16


PROTOCOLS = {
    "miniimagenet": Protocol(84, 8_000, 200, "sgd", "SGD with Nesterov momentum", 10.0),
    "fc100": Protocol(32, 12_500, 512, "adam", "Adam", 100.0),
}
"""Data set -> protocol of paper 000."""

_WIDTHS = {"resnet12": (64, 128, 256, 512), "c128f": (64, 64, 128, 128)}


def is_of_the_paper(dataset: str, network: NetworkSettings, adaptation: AdaptationSettings | None, image_size: int) -> bool:
    """Whether paper 000 has this very network (widths, implants) on images of `image_size` pixels, so that its numbers count.

    How long or with what optimizer it was trained does not count here: `deviations` says it.
    """
    protocol, backbone = PROTOCOLS.get(dataset), network.backbone
    if protocol is None or image_size != protocol.image_size or backbone.name not in _WIDTHS or not has_usual_widths(network):
        return False
    if adaptation is not None and getattr(adaptation, "width", None) != protocol.implant_width:
        return False
    return getattr(backbone, "wide", 0) in (0, protocol.wide)


@dataclass(frozen=True)
class Facts:
    """What is on record about one evaluated setting.

    Attributes:
        dataset, image_size: of the store.
        trained_images: fewest and most images of a base class that stage 1 saw.
        held_out_images: fewest and most images of a base class held out of it.
        network: settings in model.json.
        adaptation: settings of stage 2; None: as trained.
        tasks, queries, population, part: of the evaluation.
        notes: sentences of the store's meta.json.
        config_deviations: sentences of the run's config.
    """

    dataset: str
    image_size: int
    trained_images: tuple[int, int]
    held_out_images: tuple[int, int]
    network: NetworkSettings
    adaptation: AdaptationSettings | None
    tasks: int
    queries: int | str
    population: str = "novel"
    part: str = "test"
    notes: Sequence[str] = ()
    config_deviations: Sequence[str] = ()


def deviations(facts: Facts) -> list[str]:
    """What differs from paper 000, one sentence an entry; on other data sets the store's and the config's sentences."""
    found: list[str] = []
    # Networks trained on tasks, and activations mapped to parameters, are of other papers.
    of_000 = facts.network.distance is None and not isinstance(facts.adaptation, ActivationMappingSettings)
    protocol = PROTOCOLS.get(facts.dataset) if of_000 else None
    if facts.network.training.classes == "base+val":
        found.append("trained on base and validation classes: not like for like with networks trained on base classes alone")
    if protocol is not None:
        found += network_deviations(facts.network, protocol)
        found += _data_deviations(facts, protocol)
        found += _stage2_deviations(facts.adaptation, protocol)
        tasks = protocol.tasks if facts.adaptation is None else protocol.adapted_tasks
        if facts.tasks != tasks:
            found.append(f"{facts.tasks:,} tasks instead of {tasks:,}")
        if facts.queries != protocol.queries:
            found.append(f"{facts.queries} queries a class instead of {protocol.queries}")
        if facts.part != "test":
            found.append("tasks drawn from the validation classes instead of the test classes")
    elif facts.dataset in DATASETS:
        found += low_shot_deviations(facts.network, facts.adaptation, facts.image_size, facts.tasks)
    return list(dict.fromkeys(text.removesuffix(".") for text in (*found, *facts.notes, *facts.config_deviations)))


def network_deviations(network: NetworkSettings, protocol: Protocol) -> list[str]:
    """What differs in a network and its stage 1 (all that model.json records and the paper states)."""
    found = []
    backbone, classifier, training = network.backbone, network.classifier, network.training
    widths = _WIDTHS.get(backbone.name)
    if widths is None:
        found.append(f"backbone {backbone.name}, which the paper does not use")
    elif backbone.shape != _dashes(widths):
        found.append(f"widths {backbone.shape} instead of {_dashes(widths)}")
    wide = getattr(backbone, "wide", 0)
    if wide not in (0, protocol.wide):
        found.append(f"last block widened by {wide} channels instead of {protocol.wide}")
    if classifier.kind != "cosine":
        found.append(f"{classifier.kind} classifier instead of a scaled cosine classifier")
    else:
        if classifier.scale != protocol.scale:
            found.append(f"initial scale {classifier.scale:g} instead of {protocol.scale:g}")
        if not classifier.learn_scale:
            found.append("scale fixed in stage 1 instead of learned")
    if (training.iterations, training.batch_size) != (protocol.iterations, protocol.batch_size):
        share = training.iterations * training.batch_size / (protocol.iterations * protocol.batch_size)
        found.append(
            f"stage 1: {training.iterations:,} iterations of {training.batch_size} instead of {protocol.iterations:,} "
            f"of {protocol.batch_size} ({_percent(share)} of the samples)"
        )
    optimizer = training.optimizer
    if optimizer.name != protocol.optimizer:
        found.append(f"stage 1 optimizer {optimizer.name} instead of {protocol.optimizer_words}")
    elif optimizer.name == "sgd" and not (optimizer.nesterov and optimizer.momentum > 0):
        found.append(f"stage 1 optimizer sgd without Nesterov momentum instead of {protocol.optimizer_words}")
    return found


def _data_deviations(facts: Facts, protocol: Protocol) -> list[str]:
    found = []
    if facts.image_size != protocol.image_size:
        found.append(f"images of {facts.image_size} px instead of {protocol.image_size} px")
    if facts.trained_images != (protocol.images, protocol.images):
        found.append(f"{_range(facts.trained_images)} images a base class trained on instead of {protocol.images}")
    if facts.population != "novel":
        images = _range(facts.held_out_images)
        found.append(f"base images tested: a held-out part of the set ({images} a class) instead of extra images")
    return found


def _stage2_deviations(adaptation: AdaptationSettings | None, protocol: Protocol) -> list[str]:
    if not isinstance(adaptation, ImplantingSettings):
        return []
    found = []
    if adaptation.epochs != protocol.implant_epochs:
        found.append(f"implants trained for {adaptation.epochs} epochs instead of {protocol.implant_epochs}")
    if adaptation.width != protocol.implant_width:
        found.append(f"implants of {adaptation.width} channels instead of {protocol.implant_width}")
    if adaptation.scale != protocol.implant_scale:
        found.append(f"stage 2 scale {adaptation.scale:g} instead of {protocol.implant_scale:g}")
    if adaptation.shortcut:
        found.append("implants with a widened shortcut, which the paper does not draw")
    return found


def _dashes(widths: Sequence[int]) -> str:
    return "-".join(map(str, widths))


def _range(ends: tuple[int, int]) -> str:
    return f"{ends[0]:,}" if ends[0] == ends[1] else f"{ends[0]:,} to {ends[1]:,}"


def _percent(share: float) -> str:
    """A share in percent with as many digits as it takes to see it."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


# --- names -----------------------------------------------------------------------------------------------------------


def backbone_title(backbone: NetworkSettings | str) -> str:
    """A backbone, of a network or by its name in published.csv, as tables write it; one unknown there by its own name."""
    name = backbone if isinstance(backbone, str) else backbone_name(backbone)
    return BACKBONES.get(name, name)


def has_usual_widths(network: NetworkSettings) -> bool:
    """Whether a backbone of settable widths has those of paper 000."""
    widths: tuple[int, ...] = getattr(network.backbone, "widths", ())
    return widths == _WIDTHS.get(network.backbone.name, widths)


def backbone_name(network: NetworkSettings) -> str:
    """`resnet12`, `resnet12-wide` (last block widened), `c128f`, `conv64`: as in published.csv."""
    return f"{network.backbone.name}-wide" if getattr(network.backbone, "wide", 0) else network.backbone.name


def stage1_name(network: NetworkSettings) -> str:
    """What stage 1 classified: `gap`, `gmp`, `dense`, `flatten`; with `-linear` for a classifier without cosine.

    Of networks trained on tasks, the distance: `squared_euclidean`, `leaky_squared_euclidean`, `cosine`.
    """
    classifier = network.classifier
    if network.distance is not None:
        return network.distance.name
    return classifier.pooling if classifier.kind == "cosine" else f"{classifier.pooling}-linear"


def stage2_name(adaptation: AdaptationSettings | None) -> str:
    """`as-trained`, or the method; implants with their training poolings where these are not the paper's choice, GAP on both.

    Methods that extend the classifier: `imprinting`, `imprinting-aug`, `random`, `nearest`, `imprinting-ft`, `random-ft`,
    `joint`, `joint-cosine`; with `-transfer` where the novel classes take the place of the base classes.
    """
    if adaptation is None:
        return AS_TRAINED
    if isinstance(adaptation, JointTrainingSettings):
        return "joint" if adaptation.classifier.kind == "linear" else f"joint-{adaptation.classifier.kind}"
    if isinstance(adaptation, ImprintingSettings):
        name = {"imprinted": "imprinting"}.get(adaptation.weights, adaptation.weights)
        ends = ("-aug", adaptation.views), ("-ft", adaptation.finetuning), ("-transfer", adaptation.classes == "novel")
        return name + "".join(end for end, there in ends if there)
    if isinstance(adaptation, ActivationMappingSettings):
        return f"{adaptation.method}-views" if adaptation.views else adaptation.method
    if not isinstance(adaptation, ImplantingSettings):
        return adaptation.method
    pair = f"{adaptation.support_pooling}/{adaptation.query_pooling}"
    return adaptation.method if pair == "gap/gap" else f"{adaptation.method} {pair}"


def method_name(network: NetworkSettings, adaptation: AdaptationSettings | None) -> str:
    """The method as its paper calls it: `GAP`, `DC`, `DC + WIDE`, `DC + IMP`; `Imprinting + FT`, `AllClassJoint`."""
    if isinstance(adaptation, ImprintingSettings | JointTrainingSettings):
        return EXTENSIONS[stage2_name(adaptation)]
    if network.distance is not None:
        return DISTANCES[network.distance.name]
    name = LABELS[network.classifier.pooling]
    if network.classifier.kind != "cosine":
        name += f" ({network.classifier.kind})"
    if getattr(network.backbone, "wide", 0):
        name += " + WIDE"
    if isinstance(adaptation, Extension):
        return f"{name} + {adaptation.title or adaptation.method}" + (
            " (multi-view)" if getattr(adaptation, "views", 0) else ""
        )
    return name if adaptation is None else f"{name} + IMP"


def usual_pooling(network: NetworkSettings) -> str:
    """Support/query pooling at testing in Tables 4 and 5: dense queries for networks trained densely, else GAP on both.

    Networks trained on tasks: what they were trained with.
    """
    if network.distance is not None:
        return f"{network.classifier.pooling}/{network.classifier.pooling}"
    return "gap/dense" if network.classifier.pooling == "dense" else "gap/gap"
