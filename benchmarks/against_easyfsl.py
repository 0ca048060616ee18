"""Evaluation beside easyfsl's (PyPI `easyfsl`, its SimpleShot: cosine to mean prototypes) on the same features and tasks.

What is timed of it is its own `evaluate` over its own features data set, sampler and collation, less the drawing of tasks,
which are given to both. Where it is not installed, this part says that it is left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from benchmarks.evaluation import CLASSES, SCALE, World, draw
from benchmarks.measure import Growth, Options, Row, together
from fewshot.evaluation import Accuracies, Evaluator

FEW = 200
"""Tasks that easyfsl evaluates at a time."""


def run(options: Options) -> tuple[list[Row], list[Growth]]:
    """5-way 5-shot with 30 queries a class, as in paper 000, and with easyfsl's usual 15."""
    if importlib.util.find_spec("easyfsl") is None:
        return [Row("easyfsl", "left out: easyfsl is not installed (`make bench` makes an environment with it)", None, "")], []
    return [compare(draw(options.images, options.tasks, 1, queries=queries), options) for queries in (30, 15)], []


def compare(world: World, options: Options) -> Row:
    """Rates of both, and that their accuracies agree.

    Raises:
        SystemExit: they do not.
    """
    evaluator = Evaluator(world.features, options.device)
    theirs = theirs_on(world, options.device)

    def ours() -> Accuracies:
        return evaluator.accuracies(world.episodes, "gap", "gap", SCALE)

    expected, found = 100 * theirs(), float(ours()["novel"][:FEW].mean())
    if abs(expected - found) > 0.02:
        raise SystemExit(f"accuracies differ on the same tasks: easyfsl {expected:.3f} %, here {found:.3f} %")
    fast, slow = together([ours, theirs], options)
    way, shot, queries = (*world.episodes.support.shape[1:], world.episodes.query.shape[2])
    setting = f"{way}-way {shot}-shot {queries} queries, GAP / GAP"
    note = f"beside easyfsl {metadata.version('easyfsl')}; mean accuracy on {FEW} tasks {expected:.3f} and {found:.3f} %"
    tasks = len(world.episodes.support)
    return Row("easyfsl", setting, tasks / fast.clock, "tasks/s", FEW / slow.clock, note, fast.ratio(tasks, slow, FEW))


def _old_init(self: Sampler[Any], data_source: object = None) -> None:
    """Of torch's sampler as easyfsl's calls it, with an argument that it no longer takes."""


def theirs_on(world: World, device: torch.device) -> Callable[[], float]:
    """easyfsl's evaluation of the first tasks of a world: returns the accuracy, 0..1."""
    import easyfsl.datasets
    import easyfsl.methods
    import easyfsl.samplers
    from easyfsl.utils import evaluate
    from torch import nn

    Sampler.__init__ = _old_init  # type: ignore[method-assign, assignment]

    episodes = replace(world.episodes, support=world.episodes.support[:FEW], query=world.episodes.query[:FEW])
    of_task = np.concatenate([episodes.support, episodes.query], axis=2)
    values = torch.from_numpy(world.features.values[: CLASSES * world.per_class, 0])
    labels = (np.arange(len(values)) // world.per_class).tolist()
    data: Any = easyfsl.datasets.FeaturesDataset(labels, values, [str(label) for label in sorted(set(labels))])

    class Given(easyfsl.samplers.TaskSampler):  # type: ignore[misc]
        def __iter__(self) -> Iterator[list[int]]:
            return iter(of_task.reshape(len(of_task), -1).tolist())

    way, shot, queries = (*episodes.support.shape[1:], episodes.query.shape[2])
    sampler = Given(data, n_way=way, n_shot=shot, n_query=queries, n_tasks=FEW)
    loader: Any = DataLoader(data, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)
    model = easyfsl.methods.SimpleShot(nn.Identity()).to(device)
    return lambda: float(evaluate(model, loader, str(device), use_tqdm=False))
