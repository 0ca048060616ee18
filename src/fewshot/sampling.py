"""Which images an iteration of training sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from fewshot.config import EpisodicSettings, LiftedStructuredSettings, TrainingSettings
from fewshot.errors import DataError
from fewshot.optimization import Draw, generator


class Sampling(Protocol):
    """Iteration -> int64 rows of the training images. Without state, so that a training can be resumed."""

    batch_size: int
    """Images an iteration."""

    def __call__(self, iteration: int, /) -> Tensor:
        """The rows of an iteration, int64 (batch_size,)."""
        ...


class Batches:
    """Row numbers of the training images, iteration by iteration: every epoch a new order; the tail of one joins the next."""

    def __init__(self, rows: Tensor, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self._epoch: tuple[int, Tensor] = (-1, rows[:0])

    def _order(self, epoch: int) -> Tensor:
        if self._epoch[0] != epoch:
            self._epoch = (
                epoch,
                self.rows[torch.randperm(len(self.rows), generator=generator(self.seed, Draw.BATCHES, epoch))],
            )
        return self._epoch[1]

    def __call__(self, iteration: int) -> Tensor:
        """The rows of an iteration, int64 (batch_size,)."""
        parts, start, missing = [], iteration * self.batch_size, self.batch_size
        while missing:
            epoch, offset = divmod(start, len(self.rows))
            part = self._order(epoch)[offset : offset + missing]
            parts.append(part)
            start, missing = start + len(part), missing - len(part)
        return torch.cat(parts)


class BalancedBatches:
    """Row numbers iteration by iteration, every class as often as every other (paper 001, section 6.1.2).

    The classes pass by in a new order again and again; each time one is due, one of its images is drawn at random.

    Args:
        rows: of each class, int64 (n,), n at least 1.
        batch_size: of an iteration.
        seed: of all draws.
    """

    def __init__(self, rows: Sequence[Tensor], batch_size: int, seed: int) -> None:
        self.batch_size, self.seed = batch_size, seed
        self._order = Batches(torch.arange(len(rows)), batch_size, seed)
        self._rows = torch.cat(list(rows))
        self._sizes = torch.tensor([len(one) for one in rows])
        self._starts = self._sizes.cumsum(0) - self._sizes

    def __call__(self, iteration: int) -> Tensor:
        """The rows of an iteration, int64 (batch_size,)."""
        classes = self._order(iteration)
        share = torch.rand(
            self.batch_size, generator=generator(self.seed, Draw.BALANCED_BATCHES, iteration), dtype=torch.float64
        )
        return self._rows[self._starts[classes] + (share * self._sizes[classes]).long()]


class Tasks:
    """Tasks of the training classes: `way` of them, and `images` (shot + queries) of each, without replacement.

    Args:
        rows: int64 (N,), of the training images.
        labels: int64 (N,), their classes.
        settings: of the tasks.
        seed: of the draws; iteration t draws from (seed, t).

    Raises:
        DataError: there are fewer classes than `way`, or a class has fewer images than a task takes.
    """

    def __init__(self, rows: Tensor, labels: Tensor, settings: EpisodicSettings | LiftedStructuredSettings, seed: int) -> None:
        self.seed, self.settings, self.images = seed, settings, settings.images
        self.batch_size = settings.way * self.images
        require_tasks(settings, labels)
        classes, sizes = torch.unique(labels, return_counts=True)
        self.padded = torch.full((len(classes), int(sizes.max())), -1, dtype=torch.int64)
        for i, label in enumerate(classes):
            self.padded[i, : sizes[i]] = rows[labels == label]

    def __call__(self, iteration: int) -> Tensor:
        """The rows of a task, int64 (way x (shot + queries),): class by class, its support images first."""
        draws = generator(self.seed, Draw.TASKS, iteration)
        classes = self.padded[torch.randperm(len(self.padded), generator=draws)[: self.settings.way]]
        keys = torch.rand(classes.shape, generator=draws).masked_fill(classes < 0, 2.0)  # absent ones last
        return classes.gather(1, torch.argsort(keys, dim=1, stable=True)[:, : self.images]).flatten()


def require_tasks(settings: EpisodicSettings | LiftedStructuredSettings, labels: Tensor) -> None:
    """Check that training images of these classes, int64 (N,), give the tasks of an objective.

    Raises:
        DataError: there are fewer classes than `way`, or a class has fewer images than a task takes.
    """
    classes, sizes = torch.unique(labels, return_counts=True)
    where = "stage1.training.objective"
    if len(classes) < settings.way:
        raise DataError(f"{where}.way is {settings.way}, but training has only {len(classes)} classes: lower it")
    if int(sizes.min()) < settings.images:
        raise DataError(
            f"{where} asks for {settings.images} images a class, but a training class has only {int(sizes.min())}: lower them"
        )


def build_sampling(settings: TrainingSettings, rows: Tensor, labels: Tensor, seed: int) -> Sampling:
    """What a training sees, as its objective wants it laid out: rows and labels of its images, int64 (N,)."""
    if isinstance(settings.objective, EpisodicSettings | LiftedStructuredSettings):
        return Tasks(rows, labels, settings.objective, seed)
    return Batches(rows, settings.batch_size, seed)
