"""Wide residual networks: S. Zagoruyko, N. Komodakis. Wide Residual Networks. BMVC 2016 (arXiv 1605.07146).

WRN-28-10: a 3x3 convolution to 16 channels, three groups of four pre-activation blocks of 160, 320 and 640 channels, the second
and third group halving the side; batch normalisation and ReLU at the end.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.config import WideResNetSettings


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


class Block(nn.Module):
    """BN, ReLU, 3x3 convolution, BN, ReLU, 3x3 convolution; added to the input, which a 1x1 convolution widens where it must.

    x (B, c, H, W) -> (B, c', H / stride, W / stride).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.convolution1 = _convolution(inputs, outputs, 3, stride)
        self.convolution2 = _convolution(outputs, outputs, 3)
        self.shortcut = _convolution(inputs, outputs, 1, stride) if (inputs, stride) != (outputs, 1) else None

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        active = F.relu(self.norm1(x))
        hidden = self.convolution2(F.relu(self.norm2(self.convolution1(active))))
        # Where the shape changes, the shortcut starts from the activated input, as in the authors' code.
        return hidden + (x if self.shortcut is None else self.shortcut(active))  # type: ignore[no-any-return]


class WideResNet(nn.Module):
    """x (B, 3, H, W) -> (B, 64 width, H / 4, W / 4)."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        sizes, blocks = (16, 16 * width, 32 * width, 64 * width), (depth - 4) // 6
        layers: list[nn.Module] = [_convolution(3, sizes[0], 3)]
        for group in range(3):
            for i in range(blocks):
                stride = 2 if i == 0 and group > 0 else 1
                layers.append(Block(sizes[group] if i == 0 else sizes[group + 1], sizes[group + 1], stride))
        self.layers = nn.Sequential(*layers)
        self.norm = nn.BatchNorm2d(sizes[3])
        self.channels = sizes[3]

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return F.relu(self.norm(self.layers(x)))


def build(settings: WideResNetSettings) -> WideResNet:
    """The network these settings describe, freshly initialised from torch's global generator."""
    return WideResNet(settings.depth, settings.width)
