"""Four convolutions: C128F after Gidaris and Komodakis (2018), Conv-4 after Snell et al. (2017)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.config import C128FSettings, Conv64Settings
from fewshot.models.backbones.layers import convolution


class ConvNet(nn.Module):
    """Four 3x3 convolutions with batch normalisation, ReLU and 2x2 max-pool, in this order.

    `last_relu` False leaves the ReLU of the last block out (C128F unless asked for), so that features may be negative;
    `last_pool` False its pooling.
    """

    def __init__(self, widths: tuple[int, int, int, int], last_relu: bool, last_pool: bool = True) -> None:
        super().__init__()
        sizes = [3, *widths]
        self.convolutions = nn.ModuleList([convolution(sizes[i], sizes[i + 1]) for i in range(4)])
        self.last_relu, self.last_pool = last_relu, last_pool

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, d, H // 16, W // 16); without the last pooling H // 8, W // 8."""
        last = len(self.convolutions) - 1
        for i, layer in enumerate(self.convolutions):
            x = layer(x)
            # Pooled first: the greatest of four values is the same before and after the ReLU, which then has a fourth to do.
            if i < last or self.last_pool:
                x = F.max_pool2d(x, 2)
            if i < last or self.last_relu:
                x = F.relu(x, inplace=True)
        return x


def build(settings: C128FSettings | Conv64Settings) -> ConvNet:
    """The network these settings describe, freshly initialised from torch's global generator."""
    if isinstance(settings, C128FSettings):
        return ConvNet(settings.widths, settings.last_relu)
    network = ConvNet(settings.widths, last_relu=True, last_pool=settings.last_pool)
    if settings.batch_norm_init == "uniform":
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight)
    return network
