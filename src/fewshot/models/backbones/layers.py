"""What backbones share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NARROW = 8
"""Locations a side: convolutions over maps below it are matrix products where `Convolution` says so."""


def convolution(inputs: int, outputs: int, size: int = 3) -> nn.Sequential:
    """Convolution of `size` x `size` pixels without bias, then batch normalisation; He-normal (fan-out) weights.

    The initialisation is unpublished in paper 000; this is that of Gidaris and Komodakis.
    """
    layer = Convolution(inputs, outputs, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Convolution(nn.Conv2d):
    """A convolution; of a narrow map, in bfloat16 on a CPU, as a matrix product, which takes a third of the time there.

    oneDNN's kernels for matrix instructions (AMX) run along the rows of a map: of one 4 locations wide most of a tile is empty.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, d, H, W)."""
        if (
            self.kernel_size == (3, 3)
            and max(x.shape[-2:]) < NARROW
            and x.device.type == "cpu"
            and torch.is_autocast_enabled("cpu")
        ):
            return as_product(x, self.weight)
        return super().forward(x)


def as_product(x: Tensor, weight: Tensor) -> Tensor:
    """The convolution with 3 x 3 kernels, a border of zeros and no stride, as one matrix product.

    Args:
        x: (B, c, H, W).
        weight: (d, c, 3, 3).

    Returns:
        (B, d, H, W), channels last.
    """
    height, width = x.shape[-2:]
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    patches = torch.cat([padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)], dim=3)
    return F.linear(patches, weight.permute(0, 2, 3, 1).flatten(1)).permute(0, 3, 1, 2)
