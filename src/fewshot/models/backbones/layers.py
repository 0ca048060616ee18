"""What backbones share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NARROW = 8
"""Locations a side: convolutions over maps below it are matrix products where `Convolution` says so."""


def convolution(inputs: int, outputs: int, size: int = 3) -> nn.Sequential:
    """Convolution of `size` x `size` pixels without bias, then batch normalisation; He-normal (fan-out) weights.

    The initialisation is unpublished in paper 000; this is that of Gidaris and Komodakis.
    """
    layer = Convolution(inputs, outputs, size)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Convolution(nn.Conv2d):
    """A convolution that keeps the size of the map; of a narrow map, in bfloat16 on a CPU, a matrix product.

    oneDNN's kernels for matrix instructions (AMX) run along the rows of a map: of one 4 locations wide most of a tile is empty.
    """

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, d, H, W)."""
        on_cpu = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if on_cpu and self.kernel_size == (3, 3) and max(x.shape[-2:]) < NARROW:
            rounded = torch.get_autocast_dtype("cpu")
            made: Tensor = MatrixProduct.apply(x.to(rounded), self.weight.to(rounded))
            return made
        return super().forward(x)


class MatrixProduct(torch.autograd.Function):
    """The convolution with 3 x 3 kernels, a border of zeros and no stride, as one matrix product, and so its gradients.

    x (B, c, H, W), weight (d, c, 3, 3) -> (B, d, H, W), channels last.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """See the class."""
        ctx.save_for_backward(x, weight)
        return _product(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Of x: the convolution of the gradient with the kernels turned round; of the weights: one more product."""
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _product(gradient, weight.flip(2, 3).transpose(0, 1))
        if ctx.needs_input_grad[1]:
            rows = gradient.permute(0, 2, 3, 1).flatten(0, 2)
            taps = rows.T @ _patches(x).flatten(0, 2)
            of_weight = taps.view(len(weight), 3, 3, -1).permute(0, 3, 1, 2)
        return of_x, of_weight


def _product(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(_patches(x), weight.permute(0, 2, 3, 1).flatten(1)).permute(0, 3, 1, 2)


def _patches(x: Tensor) -> Tensor:
    """What each location's kernel sees: (B, c, H, W) -> (B, H, W, 9 c)."""
    height, width = x.shape[-2:]
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    return torch.cat([padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)], dim=3)
