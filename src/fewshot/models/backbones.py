"""Backbones: image to feature map. Shapes: x (B, 3, H, W) -> (B, d, h, w); every backbone halves the side four times.

Sources: ResNet-12 as paper 000 (section 5.1) describes it, after Oreshkin et al. (TADAM, 2018); C128F after Gidaris and
Komodakis (2018); Conv-4 after Snell et al. (2017).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.config import BackboneSettings, ResNet12Settings


def convolution(inputs: int, outputs: int, size: int = 3) -> nn.Sequential:
    """`size` x `size` convolution without bias, then batch normalisation; He-normal (fan-out) weights.

    The initialisation is unpublished in paper 000; this is that of Gidaris and Komodakis.
    """
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions with a 1x1 convolutional shortcut; add, swish, 2x2 max-pool.

    x (B, c, H, W) -> (B, c', H // 2, W // 2).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [convolution(inputs, outputs), convolution(outputs, outputs), convolution(outputs, outputs)]
        )
        self.shortcut = convolution(inputs, outputs, size=1)

    def hidden(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The inputs of the three convolutions: x itself and the two hidden activations, before pooling (B, ., H, W)."""
        first = F.silu(self.convolutions[0](x))
        return x, first, F.silu(self.convolutions[1](first))

    def finish(self, x: Tensor, second: Tensor) -> Tensor:
        """From the block's input and its second hidden activation to its output."""
        return F.max_pool2d(F.silu(self.convolutions[2](second) + self.shortcut(x)), 2)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        _, _, second = self.hidden(x)
        return self.finish(x, second)


class ResNet12(nn.Module):
    """Four residual blocks; 84 px gives 5x5 locations, 32 px gives 2x2. Every block pools, as the paper's text has it."""

    def __init__(self, widths: tuple[int, int, int, int] = (64, 128, 256, 512), wide: int = 0) -> None:
        super().__init__()
        sizes = [3, *widths[:3], widths[3] + wide]
        self.blocks = nn.ModuleList([ResidualBlock(sizes[i], sizes[i + 1]) for i in range(4)])
        self.channels = sizes[-1]

    def trunk(self, x: Tensor) -> Tensor:
        """Everything below the last block: (B, 3, H, W) -> (B, c, H / 8, W / 8), the input of the last block."""
        for block in list(self.blocks)[:-1]:
            x = block(x)
        return x

    @property
    def last_block(self) -> ResidualBlock:
        """The block beside which implants stand."""
        block = self.blocks[-1]
        assert isinstance(block, ResidualBlock)  # noqa: S101  for the type checker
        return block

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, d, H // 16, W // 16)."""
        return self.last_block(self.trunk(x))  # type: ignore[no-any-return]


class ConvNet(nn.Module):
    """Four 3x3 convolutions with batch normalisation, ReLU and 2x2 max-pool, in this order.

    `last_relu` False leaves the ReLU of the last block out (C128F), so that features may be negative.
    """

    def __init__(self, widths: tuple[int, int, int, int], last_relu: bool) -> None:
        super().__init__()
        sizes = [3, *widths]
        self.convolutions = nn.ModuleList([convolution(sizes[i], sizes[i + 1]) for i in range(4)])
        self.last_relu = last_relu
        self.channels = sizes[-1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, d, H // 16, W // 16)."""
        last = len(self.convolutions) - 1
        for i, layer in enumerate(self.convolutions):
            x = layer(x)
            if i < last or self.last_relu:
                x = F.relu(x, inplace=True)
            x = F.max_pool2d(x, 2)
        return x


def build_backbone(settings: BackboneSettings) -> ResNet12 | ConvNet:
    """The backbone these settings describe, freshly initialised from torch's global generator."""
    if isinstance(settings, ResNet12Settings):
        return ResNet12(settings.widths, settings.wide)
    return ConvNet(settings.widths, last_relu=settings.name == "conv64")


def parameter_count(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def feature_shape(backbone: nn.Module, image_size: int) -> tuple[int, int, int]:
    """(d, h, w) of the feature map of a square image, found by one forward pass in evaluation mode.

    Raises:
        ValueError: the image is too small for four halvings.
    """
    if image_size < 16:
        raise ValueError(f"images of {image_size} px are too small: four 2x2 poolings need at least 16 px")
    training, device = backbone.training, next(backbone.parameters()).device
    backbone.eval()
    with torch.no_grad():
        shape: Any = backbone(torch.zeros(1, 3, image_size, image_size, device=device)).shape
    backbone.train(training)
    return shape[1], shape[2], shape[3]
