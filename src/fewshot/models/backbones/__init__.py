"""Backbones: image to feature map, x (B, 3, H, W) -> (B, d, h, w); one file a family.

A family is a module with `build(settings)`, named by its settings (their `module`). It is imported by that name, when it is
needed, and nothing here names any: the code of a network is this room's frame and its own family (see `source_hash`), so a new
family leaves the networks of the others what they are.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from fewshot.config import SMALLEST_IMAGE, BackboneSettings

RGB = tuple[float, float, float]


@runtime_checkable
class Pretrained(Protocol):
    """A backbone that can start from weights trained elsewhere."""

    def load_pretrained(self) -> tuple[RGB, RGB] | None:
        """Take the weights its settings name; the mean and deviation (0..1 scale) of their images, or None without weights."""


def build_backbone(settings: BackboneSettings) -> nn.Module:
    """The backbone these settings describe, freshly initialised from torch's global generator."""
    backbone: nn.Module = import_module(settings.module).build(settings)
    return backbone


def parameter_count(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def feature_shape(backbone: nn.Module, image_size: int) -> tuple[int, int, int]:
    """(d, h, w) of the feature map of an image of `image_size` pixels a side, found by one forward pass in evaluation mode.

    Raises:
        ValueError: the image is too small for four halvings.
    """
    if image_size < SMALLEST_IMAGE:
        raise ValueError(f"images of {image_size} px are too small: four 2x2 poolings need at least {SMALLEST_IMAGE} px")
    training, device = backbone.training, next(backbone.parameters()).device
    backbone.eval()
    with torch.no_grad():
        shape: Any = backbone(torch.zeros(1, 3, image_size, image_size, device=device)).shape
    backbone.train(training)
    return shape[1], shape[2], shape[3]
