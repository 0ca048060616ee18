"""3x3 convolutions of many tasks at once, each task with weights of its own.

Two forms of one convolution, taken by what was measured (docs/measured/benchmark.md). On a CPU one library convolution a task:
its direct kernels are about twice as fast as the matrix products of the same arithmetic. On CUDA, where a loop over tasks
would wait for launches, one batched product with the nine taps, followed by the sum of nine shifted maps.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

TAPS = 9


def convolve(x: Tensor, kernels: Tensor, side: int) -> Tensor:
    """Convolve every task's maps with its kernels, with zero padding.

    Args:
        x: (T, n, P, c) maps by location, P = side * side.
        kernels: (T, w, 3, 3, c).
        side: of the maps, in locations.

    Returns:
        (T, n P, w).
    """
    return _one_by_one(x, kernels, side) if x.device.type == "cpu" else _by_taps(x, kernels, side)


def _one_by_one(x: Tensor, kernels: Tensor, side: int) -> Tensor:
    maps = x.view(*x.shape[:2], side, side, -1).permute(0, 1, 4, 2, 3)  # channels last in memory, as the kernels are
    weights = kernels.permute(0, 1, 4, 2, 3)
    pairs = zip(maps.unbind(), weights.unbind(), strict=True)
    return torch.stack([F.conv2d(m, w, padding=1).permute(0, 2, 3, 1).flatten(0, 2) for m, w in pairs])


def _by_taps(x: Tensor, kernels: Tensor, side: int) -> Tensor:
    tasks, images, places, channels = x.shape
    width = kernels.shape[1]
    # The sum places each tap's product where a transposed convolution would: the taps turned round.
    taps = kernels.flip(2, 3).reshape(tasks, width * TAPS, channels)
    products = x.flatten(1, 2) @ taps.transpose(1, 2)
    columns = products.view(tasks * images, places, width * TAPS).transpose(1, 2)
    summed = cast(Tensor, _SumOfTaps.apply(columns, side))
    return summed.flatten(2).transpose(1, 2).reshape(tasks, images * places, width)


class _SumOfTaps(torch.autograd.Function):
    """`F.fold` of 3x3 taps around each place, whose gradient on CUDA would launch a kernel for every map of every task."""

    @staticmethod
    def forward(ctx: Any, columns: Tensor, side: int) -> Tensor:
        """Columns (B, w * 9, side * side) -> maps (B, w, side, side)."""
        return F.fold(columns, (side, side), kernel_size=3, padding=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The windows of the maps' gradient, all at once."""
        windows = F.pad(gradients[0], (1, 1, 1, 1)).unfold(2, TAPS // 3, 1).unfold(3, TAPS // 3, 1)  # (B, w, side, side, 3, 3)
        return windows.permute(0, 1, 4, 5, 2, 3).reshape(len(windows), windows.shape[1] * TAPS, -1), None
