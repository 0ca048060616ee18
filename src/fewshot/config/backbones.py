"""Settings of backbones: each names the module that builds it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fewshot.config.base import Settings

Widths = tuple[
    Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]
]


SMALLEST_IMAGE = 16
"""Side in pixels of the smallest image that survives the four 2x2 poolings of a backbone."""


class _Backbone(Settings):
    family: ClassVar[str]
    """Module of `fewshot.models.backbones` that builds it."""

    @property
    def module(self) -> str:
        """Full name of the family's module."""
        return f"fewshot.models.backbones.{self.family}"

    @property
    def weights_file(self) -> Path | None:
        """The file of weights that it starts from, if its settings name one."""
        weights = getattr(self, "weights", "none")
        return None if weights in ("none", "imagenet") else Path(weights)

    @property
    def shape(self) -> str:
        """What tells it from others of its name, in words: the widths of its blocks; without such all of its own settings."""
        if hasattr(self, "widths"):
            return "-".join(map(str, self.widths))
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self if name != "name")


class ResNet12Settings(_Backbone):
    """Four residual blocks of three 3x3 convolutions (paper 000, section 5.1)."""

    family: ClassVar[str] = "resnet12"
    name: Literal["resnet12"]
    widths: Widths = (64, 128, 256, 512)
    wide: Annotated[int, Field(ge=0)] = 0
    """Channels added to the last block (the paper's WIDE baseline: 16)."""


class C128FSettings(_Backbone):
    """Four 3x3 convolutions, 64-64-128-128 (paper 000, Table 1; Gidaris and Komodakis)."""

    family: ClassVar[str] = "convnet"
    added: ClassVar[frozenset[str]] = frozenset({"last_relu"})
    name: Literal["c128f"]
    widths: Widths = (64, 64, 128, 128)
    last_relu: bool = False
    """ReLU after the last convolution too; Gidaris and Komodakis have none there, and paper 000 does not say."""

    @property
    def shape(self) -> str:
        """See above."""
        return super().shape + (" with the last ReLU" if self.last_relu else "")


class Conv64Settings(_Backbone):
    """Four 3x3 convolutions of 64 channels, ReLU after each (prototypical networks)."""

    family: ClassVar[str] = "convnet"
    added: ClassVar[frozenset[str]] = frozenset({"last_pool", "batch_norm_init"})
    name: Literal["conv64"]
    widths: Widths = (64, 64, 64, 64)
    last_pool: bool = True
    """Max-pool after the last block too; False: paper 002 on Omniglot, 3x3 locations of 28 px images."""
    batch_norm_init: Literal["ones", "uniform"] = "ones"
    """Scales of batch normalisation at the start: 1, or from U(0, 1) as PyTorch drew them up to 1.1."""


class WideResNetSettings(_Backbone):
    """Wide residual network (Zagoruyko and Komodakis 2016); WRN-28-10 by default."""

    family: ClassVar[str] = "wide_resnet"
    name: Literal["wide_resnet"]
    depth: Annotated[int, Field(ge=10)] = 28
    """Convolutions: 4 + 6 n."""
    width: Annotated[int, Field(ge=1)] = 10
    """Multiple of 16, 32 and 64 channels."""
    layout: Literal["pre_activation", "post_activation"] = "pre_activation"
    """`pre_activation`: as published; `post_activation`: as in paper 004's code, a stem of half the first group's channels,
    ReLU after each sum, and a first group that halves the side too."""
    added: ClassVar[frozenset[str]] = frozenset({"layout"})

    @model_validator(mode="after")
    def _whole_blocks(self) -> Self:
        if (self.depth - 4) % 6:
            raise ValueError(f"depth of a wide_resnet is 4 + 6 n (10, 16, 22, 28, ...), not {self.depth}")
        return self

    @property
    def shape(self) -> str:
        """See above."""
        return f"{self.depth}-{self.width}" + (" post-activation" if self.layout == "post_activation" else "")


class TorchvisionSettings(_Backbone):
    """GoogLeNet (Inception v1), ResNet-18 or ResNet-50 of torchvision, without their classifiers (paper 001)."""

    family: ClassVar[str] = "torchvision"
    name: Literal["googlenet", "resnet18", "resnet50"]
    weights: Annotated[str, Field(min_length=1)] = "none"
    """`imagenet`: torchvision's ImageNet-1k weights; `none`: random ones; else a file: a state dict (.pth, .safetensors)."""

    @property
    def shape(self) -> str:
        """See above: where its weights come from."""
        return f"weights: {self.weights}"


BackboneSettings = Annotated[
    ResNet12Settings | C128FSettings | Conv64Settings | WideResNetSettings | TorchvisionSettings, Field(discriminator="name")
]
