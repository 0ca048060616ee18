"""Methods, poolings, backbones and stages by the names that the papers and published.csv have for them."""

from __future__ import annotations

from fewshot.config import (
    AS_TRAINED,
    ActivationMappingSettings,
    AdaptationSettings,
    ImplantingSettings,
    ImprintingSettings,
    JointTrainingSettings,
    NetworkSettings,
)
from fewshot.config.extension import Extension

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


def backbone_title(backbone: NetworkSettings | str) -> str:
    """A backbone, of a network or by its name in published.csv, as tables write it; one unknown there by its own name."""
    name = backbone if isinstance(backbone, str) else backbone_name(backbone)
    return BACKBONES.get(name, name)


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
    `joint`, `joint-cosine`; with `-transfer` where the novel classes take the place of the base classes. Parameters predicted
    from activations: `-views` or `-ten_crops` where those of tested images are means over views.
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
        views = "views" if isinstance(adaptation.views, int) else adaptation.views
        return f"{adaptation.method}-{views}" if adaptation.views else adaptation.method
    if not isinstance(adaptation, ImplantingSettings):
        return adaptation.method
    pair = f"{adaptation.support_pooling}/{adaptation.query_pooling}"
    return adaptation.method if pair == "gap/gap" else f"{adaptation.method} {pair}"


def method_name(network: NetworkSettings, adaptation: AdaptationSettings | None) -> str:
    """The method as its paper calls it: `GAP`, `DC`, `DC + WIDE`, `DC + IMP`; `Imprinting + FT`, `AllClassJoint`."""
    if isinstance(adaptation, ImprintingSettings | JointTrainingSettings):
        return EXTENSIONS[stage2_name(adaptation)]
    if network.distance is not None:
        return DISTANCES.get(network.distance.name, f"ProtoNet ({network.distance.name})")
    name = LABELS[network.classifier.pooling]
    if network.classifier.kind != "cosine":
        name += f" ({network.classifier.kind})"
    if getattr(network.backbone, "wide", 0):
        name += " + WIDE"
    if isinstance(adaptation, Extension):
        views = adaptation.views_of_tested
        words = "" if not views else " (random views)" if isinstance(views, int) else " (multi-view)"
        return f"{name} + {adaptation.title or adaptation.method}{words}"
    return name if adaptation is None else f"{name} + IMP"


def usual_pooling(network: NetworkSettings) -> str:
    """Support/query pooling at testing, as settings write a pair: see `ClassifierSettings.testing`."""
    return "/".join(network.classifier.testing)
