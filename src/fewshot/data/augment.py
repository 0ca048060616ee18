"""Batched augmentation on the device that holds the images.

A crop with zero padding and a flip are one gather from the whole uint8 set, so no image is touched twice. Every random draw
comes from the generator that is passed in, on the CPU, so that the same seed gives the same images on every device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from fewshot.config import AugmentationSettings
from fewshot.device import to_device


def default_padding(size: int) -> int:
    """Padding of the random crop in pixels: 4 at 32 px, 8 at 84 px, as the public recipes have it."""
    return size // 8 if size <= 32 else round(size / 10.5)


def augment(images: Tensor, rows: Tensor, settings: AugmentationSettings, generator: torch.Generator) -> Tensor:
    """Augmented images of a batch.

    Args:
        images: the whole set, uint8 (N, H, W, 3), on the device.
        rows: int64 (B,), which images, on the device.
        settings: what to do, in the order of its fields.
        generator: of the CPU.

    Returns:
        (B, H, W, 3), or (B, C, C, 3) with crops of side C, on the device: uint8, or float32 on the
        0..255 scale if an augmentation has made it so.
    """
    size, device = images.shape[1], images.device
    flips = torch.rand(len(rows), generator=generator) < 0.5 if settings.flip else torch.zeros(len(rows), dtype=torch.bool)
    if settings.resized_crop is not None:
        batch = resized_crop(images[rows], flips, settings.resized_crop, generator, settings.crop)
    elif settings.crop is not None:
        offsets = torch.randint(0, size - settings.crop + 1, (2, len(rows)), generator=generator)
        batch = padded_crop(images, rows, to_device(offsets, device), to_device(flips, device), settings.crop)
    else:
        padding = default_padding(size) if settings.crop_padding is None else settings.crop_padding
        offsets = torch.randint(-padding, padding + 1, (2, len(rows)), generator=generator)
        batch = padded_crop(images, rows, to_device(offsets, device), to_device(flips, device))
    if settings.color_jitter > 0:
        batch = color_jitter(batch.float(), settings.color_jitter, generator)
    if settings.lighting > 0:
        batch = lighting(batch.float(), settings.lighting, generator)
    return batch


def padded_crop(images: Tensor, rows: Tensor, offsets: Tensor, flips: Tensor, side: int | None = None) -> Tensor:
    """Crops at `offsets` from the zero-padded images, then flips, as one gather.

    Args:
        images: uint8 (N, H, W, 3).
        rows: (B,) which images.
        offsets: int64 (2, B), rows above and columns left of the crop, negative where it begins outside; outside is zero.
        flips: bool (B,), horizontally.
        side: of the crops, in pixels; none: that of the images.

    Returns:
        uint8 (B, side, side, 3).
    """
    size = images.shape[1]
    side = size if side is None else side
    steps = torch.arange(side, device=images.device)
    y = steps + offsets[0][:, None]
    x = torch.where(flips[:, None], side - 1 - steps, steps) + offsets[1][:, None]
    inside = ((y >= 0) & (y < size))[:, :, None] & ((x >= 0) & (x < size))[:, None, :]
    y, x = y.clamp(0, size - 1), x.clamp(0, size - 1)
    return images[rows[:, None, None], y[:, :, None], x[:, None, :]] * inside.unsqueeze(-1)


_ATTEMPTS = 10
"""As torchvision draws and fb.resnet.torch."""


def resized_crop(
    images: Tensor, flips: Tensor, area: tuple[float, float], generator: torch.Generator, side: int | None = None
) -> Tensor:
    """Random resized crops as torchvision draws them: area share uniform in `area`, ratio log-uniform in 3/4..4/3, bilinear.

    What does not fit into the image is drawn again, and after ten draws the whole image is taken: large shares are rarer.

    Args:
        images: uint8 (B, H, W, 3).
        flips: bool (B,), horizontally.
        area: smallest and largest share of the image, 0 to 1.
        generator: of the CPU.
        side: to scale them to, in pixels; none: that of the images.

    Returns:
        float32 (B, side, side, 3) on the 0..255 scale.
    """
    count, height_out, width_out = len(images), side or images.shape[1], side or images.shape[2]
    draws = torch.rand(2, _ATTEMPTS, count, generator=generator)
    share = area[0] + (area[1] - area[0]) * draws[0]
    ratio = torch.exp((2 * draws[1] - 1) * math.log(4 / 3))
    sides = torch.stack([(share / ratio).sqrt(), (share * ratio).sqrt()])
    fits = (sides <= 1).all(0)
    first = fits.byte().argmax(0)
    height, width = torch.where(fits.any(0), sides.gather(1, first.expand(2, 1, -1))[:, 0], torch.ones(()))
    places = 2 * torch.rand(2, count, generator=generator) - 1
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = width * torch.where(flips, -1.0, 1.0)
    theta[:, 1, 1] = height
    theta[:, 0, 2] = places[0] * (1 - width)  # centre, in -1..1 coordinates
    theta[:, 1, 2] = places[1] * (1 - height)
    source = images.permute(0, 3, 1, 2).float()
    grid = F.affine_grid(to_device(theta, source.device), [count, 3, height_out, width_out], align_corners=False)
    return F.grid_sample(source, grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)


_GREY = (0.2989, 0.587, 0.114)  # ITU-R BT.601 luma, as torchvision's functional transforms use


def color_jitter(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation, each image with factors of its own, uniform in 1 - strength .. 1 + strength.

    `strength` is a share, 0 to 1. float32 (B, H, W, 3) on the 0..255 scale -> the same.
    """
    factors = 1 + strength * (2 * torch.rand(3, len(images), 1, 1, 1, generator=generator) - 1)
    brightness, contrast, saturation = to_device(factors, images.device)
    weights = to_device(torch.tensor(_GREY), images.device)
    images = (images * brightness).clamp(0, 255)
    mean = (images * weights).sum(-1, keepdim=True).mean((1, 2), keepdim=True)
    images = (images * contrast + mean * (1 - contrast)).clamp(0, 255)
    grey = (images * weights).sum(-1, keepdim=True)
    jittered: Tensor = (images * saturation + grey * (1 - saturation)).clamp(0, 255)
    return jittered


_COMPONENTS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
"""Principal components of the colours of ImageNet's training images, one a column, channels red, green, blue."""
_EIGENVALUES = (0.2175, 0.0188, 0.0045)
"""Those of the components, for colours on the 0..1 scale. Both as in fb.resnet.torch."""


def lighting(images: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Shifts of each image's colours along ImageNet's principal components (Krizhevsky et al. 2012, section 4.1).

    To each pixel of an image is added sum_i alpha_i lambda_i p_i, alpha_i normal with mean 0, drawn once an image.

    `deviation` is that of alpha (0.1 in the paper). float32 (B, H, W, 3) on the 0..255 scale -> the same, which may leave it.
    """
    alphas = deviation * torch.randn(len(images), 3, generator=generator)
    shifts = 255 * (alphas * torch.tensor(_EIGENVALUES)) @ torch.tensor(_COMPONENTS).T
    return images + to_device(shifts, images.device)[:, None, None, :]
