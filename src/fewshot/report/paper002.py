"""What paper 002 states of its experiments, and what a run does otherwise.

Shen and Liu, Tackling Early Sparse Gradients in Softmax Activation Using Leaky Squared Euclidean Distance: section 5. It
follows the protocols of Snell et al. 2017, whose code (jakesnell/prototypical-networks) says the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from fewshot.config import Conv64Settings, NetworkSettings, TrainingSettings
from fewshot.config.episodic import EpisodicSettings, LeakySquaredEuclideanSettings, SquaredEuclideanSettings
from fewshot.report.setting import Facts, counts, size_seen, size_words, tested


@dataclass(frozen=True)
class Protocol:
    """Of one data set.

    Attributes:
        image_size: pixels.
        s, r: of the leak.
        last_pool: whether the last max-pooling is there.
        ways: shot -> classes of a training task.
        queries: of each class in a training task.
        tasks: of the test.
        again: whether the authors' code trains once more at the end, on training and validation classes.
        images: of a class, all of which are trained on.
        classes: base and test classes; of Omniglot, characters in four rotations.
    """

    image_size: int
    s: float
    r: float
    last_pool: bool
    ways: dict[int, int]
    queries: int
    tasks: int
    again: bool
    images: int
    classes: tuple[int, int]


PROTOCOLS = {
    "omniglot": Protocol(28, 0.0, 0.01, False, {1: 60, 5: 60}, 5, 1_000, True, 20, (4_112, 1_692)),
    "miniimagenet": Protocol(84, 4.0, 0.01, True, {1: 30, 5: 20}, 15, 600, False, 600, (64, 20)),
}
"""Data set -> protocol of paper 002."""

WIDTHS = (64, 64, 64, 64)
LR, HALVED_EVERY, PATIENCE, MOST_TASKS = 1e-3, 2_000, 20_000, 1_000_000
"""Adam's learning rate; training tasks after which it is halved, without a better state before training ends, and at most."""
TEST_QUERIES = 15
"""Of each class."""
OURS = "images normalised by mean and deviation of the training images; convolutions without bias, from He-normal weights"
"""What this software always does otherwise than the authors' code."""
CHANNELS = "drawings in three equal channels instead of one"
"""The same of Omniglot."""


def is_of_paper_002(dataset: str, network: NetworkSettings, image_size: int, shot: int | None) -> bool:
    """Whether the paper has this very network, distance and image size, tested with the shots it was trained with.

    Args:
        dataset: of the run.
        network: its settings.
        image_size: pixels.
        shot: of the test; None: any.
    """
    backbone, objective, protocol = network.backbone, network.training.objective, PROTOCOLS.get(dataset)
    if protocol is None or not isinstance(backbone, Conv64Settings) or not isinstance(objective, EpisodicSettings):
        return False
    distance = objective.distance
    published = isinstance(distance, SquaredEuclideanSettings) or (
        isinstance(distance, LeakySquaredEuclideanSettings) and (distance.s, distance.r) == (protocol.s, protocol.r)
    )
    network_is = backbone.widths == WIDTHS and backbone.last_pool == protocol.last_pool and network.embedding is None
    classes_are = network.training.classes == "base" or protocol.again  # on validation classes too where the authors do
    seen = size_seen(network, image_size) == protocol.image_size
    return published and network_is and classes_are and seen and shot in (None, objective.shot)


def deviations(facts: Facts) -> list[str] | None:
    """What differs from the paper, one sentence an entry; None on other data sets."""
    protocol = PROTOCOLS.get(facts.dataset)
    if protocol is None:
        return None
    found = network_deviations(facts.network, protocol, facts.done)
    found += size_words(facts.network, facts.image_size, protocol.image_size)
    if facts.trained_images != (protocol.images, protocol.images):
        found.append(f"{counts(facts.trained_images)} images a base class trained on instead of {protocol.images}")
    if facts.classes != protocol.classes:
        (base, test), (its_base, its_test) = facts.classes, protocol.classes
        found.append(f"{base:,} base and {test:,} test classes instead of {its_base:,} and {its_test:,}")
    if facts.dataset == "omniglot":
        found.append(CHANNELS)
    return found + tested(facts, protocol.tasks, TEST_QUERIES)


def network_deviations(network: NetworkSettings, protocol: Protocol, done: int | None = None) -> list[str]:
    """What differs in a network and its training on tasks, of which it really took `done` (None: as its settings say)."""
    found = _architecture(network, protocol)
    objective, augmentation = network.training.objective, network.training.augmentation
    if isinstance(objective, EpisodicSettings):
        found += _distance(objective, protocol)
        way = protocol.ways.get(objective.shot)
        if way is not None and objective.way != way:
            found.append(f"training tasks of {objective.way} classes instead of {way}")
        if objective.queries != protocol.queries:
            found.append(f"training tasks of {objective.queries} queries a class instead of {protocol.queries}")
    found += _optimizer(network)
    drawn = augmentation.flip, augmentation.color_jitter, augmentation.resized_crop, augmentation.lighting
    if any(drawn) or augmentation.crop_padding != 0:
        found.append("training images are augmented, which the paper's are not")
    return [*found, *_length(network.training, protocol, done), OURS]


def _architecture(network: NetworkSettings, protocol: Protocol) -> list[str]:
    backbone, found = network.backbone, []
    if not isinstance(backbone, Conv64Settings) or backbone.widths != WIDTHS:
        found.append(f"backbone {backbone.name} {backbone.shape} instead of four convolutions of 64 channels")
    else:
        if backbone.last_pool != protocol.last_pool:
            found.append("with the last max-pooling" if backbone.last_pool else "without the last max-pooling")
        if backbone.batch_norm_init == "ones":
            found.append("batch normalisation starts from ones; the PyTorch of the paper's time drew from U(0, 1)")
    if network.embedding is not None:
        found.append(f"an embedding layer of {network.embedding}, which the paper does not have")
    if network.classifier.pooling != "flatten":
        found.append(f"{network.classifier.pooling} of the last feature map instead of all its values")
    return found


def _distance(objective: EpisodicSettings, protocol: Protocol) -> list[str]:
    distance = objective.distance
    if isinstance(distance, LeakySquaredEuclideanSettings):
        if (distance.s, distance.r) == (protocol.s, protocol.r):
            return []
        return [f"leak with s = {distance.s:g}, r = {distance.r:g} instead of s = {protocol.s:g}, r = {protocol.r:g}"]
    return (
        [] if isinstance(distance, SquaredEuclideanSettings) else [f"{distance.name} distance, which the paper does not have"]
    )


def _length(training: TrainingSettings, protocol: Protocol, done: int | None) -> list[str]:
    patience, found = training.validation.patience, []
    ended = done is not None and done < training.iterations
    if patience is None:
        found.append(f"{training.iterations:,} training tasks, not until {PATIENCE:,} in a row bring nothing better")
    else:
        tasks = patience * training.validation.every
        if tasks != PATIENCE:
            took = f" (it took {done:,})" if ended else ""
            found.append(f"training ends after {tasks:,} tasks without a better state instead of {PATIENCE:,}{took}")
        if training.iterations < MOST_TASKS and not ended:  # what patience ended never met the bound
            found.append(f"at most {training.iterations:,} training tasks instead of {MOST_TASKS:,}")
    if protocol.again and training.classes == "base":
        found.append("not trained again on training and validation classes at the end, as the authors' code does")
    return found


def _optimizer(network: NetworkSettings) -> list[str]:
    optimizer, schedule = network.training.optimizer, network.training.schedule
    found = []
    if (optimizer.name, optimizer.lr, optimizer.weight_decay) != ("adam", LR, 0):
        decay = f", weight decay {optimizer.weight_decay:g}" if optimizer.weight_decay else ""
        found.append(f"{optimizer.name} at {optimizer.lr:g}{decay} instead of Adam at {LR:g}")
    if schedule.kind != "exponential" or schedule.warmup:
        found.append(f"learning rate: {schedule.kind} instead of halved every {HALVED_EVERY:,} tasks")
    elif (schedule.decay, schedule.decay_every) != (0.5, HALVED_EVERY):
        every = f"every {schedule.decay_every:,} tasks instead of every {HALVED_EVERY:,}"
        factor = "halved" if schedule.decay == 0.5 else f"times {schedule.decay:g} in place of halved"
        found.append(f"learning rate {factor} {every}")
    return found
