"""Which images an iteration of training sees."""

from __future__ import annotations

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
