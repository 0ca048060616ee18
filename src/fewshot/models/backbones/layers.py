"""What backbones share."""

from __future__ import annotations

from torch import nn


def convolution(inputs: int, outputs: int, size: int = 3) -> nn.Sequential:
    """Convolution of `size` x `size` pixels without bias, then batch normalisation; He-normal (fan-out) weights.

    The initialisation is unpublished in paper 000; this is that of Gidaris and Komodakis.
    """
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))
