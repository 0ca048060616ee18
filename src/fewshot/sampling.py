"""Which images an iteration of training sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fewshot.optimization import generator


class Batches:
    """Row numbers of the training images, iteration by iteration: every epoch a new order; the tail of one joins the next."""

    def __init__(self, rows: Tensor, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self._epoch: tuple[int, Tensor] = (-1, rows[:0])

    def _order(self, epoch: int) -> Tensor:
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self.rows[torch.randperm(len(self.rows), generator=generator(self.seed, 1, epoch))])
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
        share = torch.rand(self.batch_size, generator=generator(self.seed, 4, iteration), dtype=torch.float64)
        return self._rows[self._starts[classes] + (share * self._sizes[classes]).long()]
