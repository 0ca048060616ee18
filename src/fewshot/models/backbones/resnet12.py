"""ResNet-12 as paper 000 (section 5.1) describes it, after Oreshkin et al. (TADAM, 2018)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.config import ResNet12Settings
from fewshot.models.backbones.layers import convolution


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


def build(settings: ResNet12Settings) -> ResNet12:
    """The network these settings describe, freshly initialised from torch's global generator."""
    return ResNet12(settings.widths, settings.wide)
