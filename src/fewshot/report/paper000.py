"""What paper 000 states of its experiments, and what a run does otherwise.

Lifchitz et al., Dense Classification and Implanting for Few-Shot Learning, CVPR 2019: section 5.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from fewshot.config import AdaptationSettings, ImplantingSettings, NetworkSettings
from fewshot.report.setting import Facts, added_losses, counts, dashes, samples, size_seen, size_words, tested


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

WIDTHS = {"resnet12": (64, 128, 256, 512), "c128f": (64, 64, 128, 128)}
"""Of the paper's backbones."""


def _has_usual_widths(network: NetworkSettings) -> bool:
    """Whether a backbone of settable widths has those of the paper."""
    widths: tuple[int, ...] = getattr(network.backbone, "widths", ())
    return widths == WIDTHS.get(network.backbone.name, widths)


def is_of_paper_000(dataset: str, network: NetworkSettings, adaptation: AdaptationSettings | None, image_size: int) -> bool:
    """Whether paper 000 has this very network (widths, implants) on images of `image_size` pixels, so that its numbers count.

    It must have been trained on base classes alone, with the paper's loss and no more. How long or with what optimizer does not
    count here: `deviations` says it.
    """
    protocol, backbone = PROTOCOLS.get(dataset), network.backbone
    if protocol is None or backbone.name not in WIDTHS or not _has_usual_widths(network):
        return False
    if size_seen(network, image_size) != protocol.image_size:
        return False
    if network.embedding is not None or network.training.classes != "base" or added_losses(network.training):
        return False
    if adaptation is not None and getattr(adaptation, "width", None) != protocol.implant_width:
        return False
    return getattr(backbone, "wide", 0) in (0, protocol.wide)


def deviations(facts: Facts) -> list[str] | None:
    """What differs from the paper in a network as trained or with implants, one sentence an entry; None on other data sets."""
    protocol = PROTOCOLS.get(facts.dataset)
    if protocol is None:
        return None
    found = [*network_deviations(facts.network, protocol, facts.done), *_data_deviations(facts, protocol)]
    found += _stage2_deviations(facts.adaptation, protocol)
    found += tested(facts, protocol.tasks if facts.adaptation is None else protocol.adapted_tasks, protocol.queries)
    if facts.dense_queries and facts.scale is not None:
        found.append(f"dense queries at scale {facts.scale:g} instead of the one learned in stage 1")
    elif facts.dense_queries and isinstance(facts.adaptation, ImplantingSettings):
        found.append("dense queries at the scale learned in stage 1; the paper may mean that of stage 2, 10")
    return [*found, _unpublished(facts.network)]


def network_deviations(network: NetworkSettings, protocol: Protocol, done: int | None = None) -> list[str]:
    """What differs in a network and its stage 1 (all that model.json records and the paper states).

    `done`: iterations that stage 1 really took; None: as many as its settings say.
    """
    found = []
    backbone, classifier, training = network.backbone, network.classifier, network.training
    widths = WIDTHS.get(backbone.name)
    if widths is None:
        found.append(f"backbone {backbone.name}, which the paper does not use")
    elif backbone.shape != dashes(widths):
        found.append(f"widths {backbone.shape} instead of {dashes(widths)}")
    wide = getattr(backbone, "wide", 0)
    if wide not in (0, protocol.wide):
        found.append(f"last block widened by {wide} channels instead of {protocol.wide}")
    if network.embedding is not None:
        found.append(f"an embedding layer of {network.embedding}, which the paper does not have")
    if classifier.kind != "cosine":
        kind = "no" if classifier.kind == "none" else classifier.kind
        found.append(f"{kind} classifier instead of a scaled cosine classifier")
    else:
        if classifier.scale != protocol.scale:
            found.append(f"initial scale {classifier.scale:g} instead of {protocol.scale:g}")
        if not classifier.learn_scale:
            found.append("scale fixed in stage 1 instead of learned")
    found += samples((done or training.iterations, training.images_an_iteration), (protocol.iterations, protocol.batch_size))
    if done is not None and done < training.iterations:
        found.append(f"stage 1 ended by patience after {done:,} of {training.iterations:,} iterations")
    optimizer = training.optimizer
    if optimizer.name != protocol.optimizer:
        found.append(f"stage 1 optimizer {optimizer.name} instead of {protocol.optimizer_words}")
    elif optimizer.name == "sgd" and not (optimizer.nesterov and optimizer.momentum > 0):
        found.append(f"stage 1 optimizer sgd without Nesterov momentum instead of {protocol.optimizer_words}")
    return found + added_losses(network.training)


def _unpublished(network: NetworkSettings) -> str:
    """What the paper leaves open in stage 1, and what is taken here."""
    training, classifier = network.training, network.classifier
    augmentation, decay = training.augmentation, training.optimizer.weight_decay
    if augmentation.resized_crop is not None:
        seen = ["random resized crops"]
    elif augmentation.crop is not None:
        seen = [f"random crops of {augmentation.crop} px"]
    else:
        seen = [] if augmentation.crop_padding == 0 else ["padded crops"]
    seen += ["flips"] * augmentation.flip + ["colour jitter"] * (augmentation.color_jitter > 0)
    seen += ["lighting"] * (augmentation.lighting > 0)
    best = "the best state on held-out images" if training.holds_out else "the best state on validation classes"
    kept = best if training.validation.keep == "best" else "the last state"
    of_tau = " (of tau too)" if decay and classifier.kind == "cosine" and classifier.learn_scale else ""
    return (
        "stage 1's learning rate, schedule, weight decay, augmentation and which state is kept are unpublished; ours are "
        f"{training.optimizer.lr:g}, {training.schedule.kind}, {decay:g}{of_tau}, "
        f"{' and '.join(seen) or 'none'}, {kept}"
    )


def _data_deviations(facts: Facts, protocol: Protocol) -> list[str]:
    found = []
    found += size_words(facts.network, facts.image_size, protocol.image_size)
    if facts.trained_images != (protocol.images, protocol.images):
        found.append(f"{counts(facts.trained_images)} images a base class trained on instead of {protocol.images}")
    if facts.population != "novel":
        images = counts(facts.held_out_images)
        found.append(f"base images tested: a held-out part of the set ({images} a class) instead of extra images")
    return found


_BEGINS = {"ones": "ones", "block": "the block's own"}
"""Where the batch normalisation of implants begins, in words."""


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
    norm = (
        f"batch normalisation from {_BEGINS[adaptation.batch_norm_init]}" if adaptation.batch_norm else "no batch normalisation"
    )
    shortcut = "a widened shortcut" if adaptation.shortcut else "no shortcut"
    return [
        *found,
        f"implants' learning rate, weight decay, batch normalisation, initialisation and shortcut are unpublished; ours are "
        f"{adaptation.lr:g}, {adaptation.weight_decay:g}, {norm}, {adaptation.init}, {shortcut}; an epoch is one step",
    ]
