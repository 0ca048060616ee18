"""Views of images: what a network makes of random crops of them, augmented as in stage 1, or of ten fixed crops."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fewshot.config import Views
from fewshot.data.augment import augment
from fewshot.models.heads import PoolingKind, pool
from fewshot.models.network import Network, batch_size
from fewshot.optimization import Draw, generator

DRAWN_AT_ONCE = 256
"""Images of a batch where views are drawn: draws go by batches, so their size may not go by the device;
through the network they go in smaller ones."""


def random_view(network: Network, images: Tensor, random: torch.Generator, pooling: PoolingKind) -> Tensor:
    """Pooled features of one random view of each image, augmented as in the network's training.

    Args:
        network: on the device to compute on.
        images: uint8 (n, H, W, 3), on the same device.
        random: of the CPU.
        pooling: gap, gmp or flatten.

    Returns:
        float32 (n, d), on the device.
    """
    order = torch.arange(len(images)).to(images.device)
    return _pooled(network, augment(images, order, network.settings.training.augmentation, random), pooling)


def ten_crops(images: Tensor, side: int) -> Iterator[Tensor]:
    """The four corners and the centre of each image, and their mirror images.

    Args:
        images: (n, S, S, 3).
        side: of the crops, in pixels; S at most.

    Yields:
        Ten batches (n, side, side, 3).
    """
    left = images.shape[1] - side
    for y, x in ((0, 0), (0, left), (left, 0), (left, left), (left // 2, left // 2)):
        crop = images[:, y : y + side, x : x + side]
        yield crop
        yield crop.flip(2)


def mean_of_views(network: Network, images: Tensor, views: Views, seed: int, first: int, pooling: PoolingKind) -> Tensor:
    """Pooled features of each image, means over views of it.

    Args:
        network: on the device to compute on.
        images: uint8 (n, H, W, 3), on the same device; `DRAWN_AT_ONCE` at most.
        views: how many random ones, or `ten_crops`, of the size that the network crops its images to.
        seed: of the random ones.
        first: number of the first of these images among all of them: every batch has draws of its own.
        pooling: gap, gmp or flatten.

    Returns:
        float32 (n, d), on the device.
    """
    if views == "ten_crops":
        side = network.crop or images.shape[1]
        found = [_pooled(network, crop, pooling) for crop in ten_crops(images, side)]
    else:
        random = generator(seed, Draw.VIEWS_OF_TESTED, first)
        found = [random_view(network, images, random, pooling) for _ in range(views)]
    return torch.stack(found).mean(0)


@torch.no_grad()
def _pooled(network: Network, images: Tensor, pooling: PoolingKind) -> Tensor:
    parts = torch.split(images, batch_size(images.device, images.shape[1]))
    return torch.cat([pool(network(network.normalise(part)).float(), pooling)[:, 0] for part in parts])
