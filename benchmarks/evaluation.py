"""Evaluation from cached features: `fewshot.evaluation` beside the plain loop over tasks, with the same accuracies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import plain
from benchmarks.measure import Growth, Options, Row, seconds, together
from fewshot.episodes import Episodes, draw_tasks
from fewshot.evaluation import Accuracies, ClassWeights, Evaluator
from fewshot.features import Features
from fewshot.models.heads import PoolingKind, pool_locations

CLASSES, BASE_CLASSES, CHANNELS, SCALE = 20, 64, 512, 10.0
LOCATIONS = {32: 4, 48: 9, 64: 16, 84: 25}
"""Locations of a ResNet-12's map by the side of the images, pixels."""
Poolings = tuple[PoolingKind, PoolingKind]
SUPPORT: tuple[PoolingKind, ...] = ("gap", "gmp")
QUERY: tuple[PoolingKind, ...] = ("gap", "gmp", "dense")
PLAIN_TASKS = 100


@dataclass(frozen=True)
class World:
    """Drawn features of classes around centres, with tasks on them.

    Attributes:
        features: (M + B, k, d), test images first, then held-out base images.
        episodes: the tasks.
        labels: base classes of the rows.
        weights: class weights.
        per_class: test images of a class.
    """

    features: Features
    episodes: Episodes
    labels: npt.NDArray[np.int64]
    weights: Tensor
    per_class: int

    def classes(self, device: torch.device) -> ClassWeights:
        """As the evaluator takes them."""
        return ClassWeights(self.weights.to(device), torch.from_numpy(self.labels).to(device))


def draw(images: int, tasks: int, locations: int, way: int = 5, shot: int = 5, queries: int = 30) -> World:
    """Features as a network might give them: classes overlap, locations of an image are alike."""
    generator = torch.Generator().manual_seed(0)
    per_class = images // CLASSES
    test, held_out = per_class * CLASSES, images // 4
    labels = torch.randint(BASE_CLASSES, (held_out,), generator=generator)
    centres = torch.randn(CLASSES + BASE_CLASSES, CHANNELS, generator=generator)
    of_image = centres[torch.cat([torch.arange(CLASSES).repeat_interleave(per_class), CLASSES + labels])] * 0.15
    of_image += torch.randn(test + held_out, CHANNELS, generator=generator)
    values = torch.empty(test + held_out, locations, CHANNELS)
    for i in range(locations):
        values[:, i] = F.silu(of_image + 0.5 * torch.randn(of_image.shape, generator=generator))
    rows = [np.arange(per_class) + c * per_class for c in range(CLASSES)]
    support, query, base = draw_tasks(rows, np.arange(test, test + held_out), way, shot, queries, tasks, seed=0)
    return World(
        Features(values.numpy(), np.arange(test + held_out), {}),
        Episodes(support, query, base, {}),
        np.concatenate([np.zeros(test, np.int64), labels.numpy()]),
        F.silu(centres[CLASSES:]) * 0.15,
        per_class,
    )


def check(found: Accuracies, expected: dict[str, list[float]], queries: int) -> str:
    """The largest difference of a task, in words.

    Raises:
        SystemExit: the accuracies are not those of the plain form, but for ties.
    """
    worst = 0.0
    for population, values in expected.items():
        difference = np.abs(found[population][: len(values)] - values)
        worst = max(worst, float(difference.max()))
        one = 100 / (queries * (2 if population == "both" else 1))
        if difference.max() > 1.01 * one or (difference > 1e-3).mean() > 0.05:
            raise SystemExit(f"{population}: accuracies differ from the plain form's by up to {worst:.3f} points")
    return f"accuracies equal on {len(next(iter(expected.values())))} tasks, but for {worst:.2f} points at most in one (ties)"


def compare(world: World, poolings: Poolings, options: Options, populations: tuple[str, ...] = ("novel",)) -> Row:
    """Both forms on the same tasks, the plain one on the first of them."""
    evaluator = Evaluator(world.features, options.device, world.classes(options.device))
    episodes, tasks = world.episodes, len(world.episodes.support)
    few = min(PLAIN_TASKS, tasks)
    values = torch.from_numpy(world.features.values).to(options.device)
    of_support, of_query = (pool_locations(values, kind) for kind in poolings)  # once an image, for both forms
    known = world.classes(options.device)
    base = (episodes.base[:few], known.labels, known.weight) if "both" in populations else None

    def fast() -> Accuracies:
        return evaluator.accuracies(episodes, *poolings, SCALE, populations)

    def slow() -> dict[str, list[float]]:
        return plain.accuracies(of_support[:, 0], of_query, episodes.support[:few], episodes.query[:few], SCALE, base)

    with torch.inference_mode():
        words = check(fast(), slow(), episodes.query[0].size)
        taken, plain_taken = together([fast, slow], options)
    way, shot, queries = (*episodes.support.shape[1:], episodes.query.shape[2])
    size = next(side for side, count in LOCATIONS.items() if count == values.shape[1])
    setting = f"{way}-way {shot}-shot {queries} queries, {size} px, {'/'.join(poolings)}, {'+'.join(populations)}"
    ratio = taken.ratio(tasks, plain_taken, few)
    return Row("evaluation", setting, tasks / taken.clock, "tasks/s", few / plain_taken.clock, words, ratio)


def run(options: Options) -> tuple[list[Row], list[Growth]]:
    """All pooling pairs, the joint populations, and how cost grows."""
    rows: list[Row] = []
    for size in (32, 84):
        world = draw(options.images, options.tasks, LOCATIONS[size])
        rows += [compare(world, (support, query), options) for support in SUPPORT for query in QUERY]
        rows += [compare(world, ("gap", query), options, ("novel", "base", "both")) for query in QUERY]
    return rows, grow(options)


def grow(options: Options) -> list[Growth]:
    """Seconds of an evaluation, pooled and dense, one factor at a time."""
    images, tasks = max(options.images // 5, 100 * CLASSES), max(options.tasks // 5, 200)
    usual = {"tasks": tasks, "shots": 5, "ways": 5, "image size (px)": 32}
    series = {
        "tasks": [tasks // 8, tasks // 4, tasks // 2, tasks, 2 * tasks],
        "shots": [1, 5, 10, 20, 40],
        "ways": [2, 5, 10, 20],
        "image size (px)": list(LOCATIONS),
    }
    points = []
    for factor, values in series.items():
        for value in values:
            at = {**usual, factor: value}
            world = draw(images, at["tasks"], LOCATIONS[at["image size (px)"]], at["ways"], at["shots"])
            evaluator = Evaluator(world.features, options.device)
            for query in QUERY[::2]:
                call = partial(evaluator.accuracies, world.episodes, "gap", query, SCALE)
                points.append(Growth("evaluation", f"GAP / {query}", factor, value, seconds(call, options)))
    return points
