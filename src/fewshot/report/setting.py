"""What is on record about one evaluated setting, for whoever compares it with a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewshot.config import AdaptationSettings, ClassificationSettings, NetworkSettings, TrainingSettings


@dataclass(frozen=True)
class Facts:
    """What is on record about one evaluated setting.

    Attributes:
        dataset, image_size: of the store.
        trained_images: fewest and most images of a base class that stage 1 saw.
        held_out_images: fewest and most images of a base class held out of it.
        classes: base and test classes of the store.
        network: settings in model.json.
        adaptation: settings of stage 2; None: as trained.
        tasks, queries, population, part: of the evaluation.
        notes: sentences of the store's meta.json.
        config_deviations: sentences of the run's config.
        dense_queries: whether the queries' locations vote each for itself, so that tau counts.
        scale: tau of dense queries where the run sets one; None: the network's own.
        done: iterations that stage 1 really took, fewer than its setting where patience ended it; None: not recorded.
        precision: of stage 1's backbone: `float32`, `TF32` or `bfloat16`; None: not recorded.
        adapted_in: the same of a backbone that stage 2 trains; None: it trains none, or did not record it.
    """

    dataset: str
    image_size: int
    trained_images: tuple[int, int]
    held_out_images: tuple[int, int]
    classes: tuple[int, int]
    network: NetworkSettings
    adaptation: AdaptationSettings | None
    tasks: int
    queries: int | str
    population: str = "novel"
    part: str = "test"
    notes: Sequence[str] = ()
    config_deviations: Sequence[str] = ()
    dense_queries: bool = True
    scale: float | None = None
    done: int | None = None
    precision: str | None = None
    adapted_in: str | None = None


def size_seen(network: NetworkSettings, image_size: int) -> int:
    """Side in pixels of what a network sees, in training and at testing, of images of `image_size`: that of its crops."""
    return network.training.augmentation.crop or image_size


def size_words(network: NetworkSettings, image_size: int, published: int) -> list[str]:
    """A sentence where a network sees images of another size than the paper's; sizes in pixels."""
    crop = network.training.augmentation.crop
    if size_seen(network, image_size) == published:
        return []
    return [f"images of {f'{crop} of ' if crop else ''}{image_size} px instead of {published} px"]


def dashes(widths: Sequence[int]) -> str:
    """Widths of blocks as backbones' `shape` has them."""
    return "-".join(map(str, widths))


def counts(ends: tuple[int, int]) -> str:
    """Fewest and most of something, in words."""
    return f"{ends[0]:,}" if ends[0] == ends[1] else f"{ends[0]:,} to {ends[1]:,}"


def percent(share: float) -> str:
    """A share in percent with as many digits as it takes to see it."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def samples(trained: tuple[int, int], published: tuple[int, int]) -> list[str]:
    """A sentence where stage 1 had another length: (iterations, batch size) here and in the paper."""
    if trained == published:
        return []
    share = trained[0] * trained[1] / (published[0] * published[1])
    return [
        f"stage 1: {trained[0]:,} iterations of {trained[1]} instead of {published[0]:,} of {published[1]} "
        f"({percent(share)} of the samples)"
    ]


def tested(facts: Facts, tasks: int, queries: int | str) -> list[str]:
    """Sentences where the test differs from the paper's number of tasks and of queries a class (`remaining`: all others)."""
    words = {"remaining": "all remaining images as queries", "all": "all test images as queries"}
    found = []
    if facts.tasks != tasks:
        found.append(f"{facts.tasks:,} tasks instead of {tasks:,}")
    if facts.queries != queries:
        here, there = (words.get(str(one), f"{one} queries a class") for one in (facts.queries, queries))
        found.append(f"{here} instead of {there.removesuffix(' queries a class')}")
    return found


def added_losses(training: TrainingSettings) -> list[str]:
    """Sentences on what stage 1 minimises beside cross-entropy over the base classes, or in its place."""
    objective = training.objective
    if not isinstance(objective, ClassificationSettings):
        return [f"stage 1 minimises the {objective.kind.replace('_', ' ')} loss instead of cross-entropy"]
    found = []
    if objective.label_smoothing:
        found.append(f"label smoothing of {objective.label_smoothing:g} in stage 1, which the paper does not have")
    if objective.rotation is not None:
        found.append("rotation self-supervision in stage 1, which the paper does not have")
    if objective.distillation is not None:
        found.append(f"distillation from {objective.distillation.teacher} in stage 1, which the paper does not have")
    return found
