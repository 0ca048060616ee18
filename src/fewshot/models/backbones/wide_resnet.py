"""Wide residual networks: S. Zagoruyko, N. Komodakis. Wide Residual Networks. BMVC 2016 (arXiv 1605.07146).

WRN-28-10: a 3x3 convolution to 16 channels, three groups of four pre-activation blocks of 160, 320 and 640 channels, the second
and third group halving the side; batch normalisation and ReLU at the end.

Paper 004's code (joe-siyuan-qiao/FewShot-CVPR, `MiniImageNet/train_large/models/resnet.lua`) has the same widths in another
layout: a stem of 80 channels, post-activation blocks as in the first residual networks, and every group halving the side.
"""

from __future__ import annotations

from collections.abc import Iterator

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


class PostActivationBlock(nn.Module):
    """3x3 convolution, BN, ReLU, 3x3 convolution, BN; ReLU of the sum with the input, which a 1x1 convolution and BN widen.

    x (B, c, H, W) -> (B, c', H / stride, W / stride).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convolution1, self.norm1 = _convolution(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.convolution2, self.norm2 = _convolution(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        widened = nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
        self.shortcut = widened if (inputs, stride) != (outputs, 1) else None

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        hidden = self.norm2(self.convolution2(F.relu(self.norm1(self.convolution1(x)))))
        return F.relu(hidden + (x if self.shortcut is None else self.shortcut(x)))


class WideResNet(nn.Module):
    """x (B, 3, H, W) -> (B, 64 width, H / 4, W / 4)."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_convolution(3, 16, 3), *_groups(Block, 16, depth, width, (1, 2, 2)))
        self.norm = nn.BatchNorm2d(64 * width)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return F.relu(self.norm(self.layers(x)))


class PostActivationWideResNet(nn.Module):
    """x (B, 3, H, W) -> (B, 64 width, H / 8, W / 8): the layout of paper 004's code."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        stem = 8 * width
        groups = _groups(PostActivationBlock, stem, depth, width, (2, 2, 2))
        self.layers = nn.Sequential(_convolution(3, stem, 3), nn.BatchNorm2d(stem), nn.ReLU(), *groups)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.layers(x)  # type: ignore[no-any-return]


def _groups(
    block: type[Block | PostActivationBlock], inputs: int, depth: int, width: int, strides: tuple[int, int, int]
) -> Iterator[nn.Module]:
    """The blocks of the three groups, after a stem of `inputs` channels; `strides` of the first block of each."""
    for outputs, stride in zip((16 * width, 32 * width, 64 * width), strides, strict=True):
        for i in range((depth - 4) // 6):
            yield block(outputs if i else inputs, outputs, 1 if i else stride)
        inputs = outputs


def build(settings: WideResNetSettings) -> WideResNet | PostActivationWideResNet:
    """The network these settings describe, freshly initialised from torch's global generator."""
    layout = WideResNet if settings.layout == "pre_activation" else PostActivationWideResNet
    return layout(settings.depth, settings.width)
