"""Views of images: what a network makes of random crops of them, augmented as in stage 1, or of ten fixed crops."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fewshot.config import SupportPooling, Views
from fewshot.data.augment import augment
from fewshot.features import batched, shape_of
from fewshot.models.heads import pool
from fewshot.models.inference import batch_size
from fewshot.models.network import Network
from fewshot.optimization import Draw, generator

DRAWN_AT_ONCE = 256
"""Images of a batch where views are drawn: draws go by batches, so their size may not go by the device;
through the network they go in smaller ones."""


def random_view(network: Network, images: Tensor, random: torch.Generator, pooling: SupportPooling) -> Tensor:
    """Pooled features of one random view of each image, augmented as in the network's training.

    Args:
        network: on the device to compute on.
        images: uint8 (n, H, W, 3), on the same device.
        random: of the CPU.
        pooling: to one vector.

    Returns:
        float32 (n, e), on the device.
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


def compute(
    network: Network,
    images: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64] | None = None,
    *,
    views: Views,
    seed: int,
    pooling: SupportPooling = "gap",
    progress: bool = True,
    name: str = "",
) -> Tensor:
    """Feature vectors of images, each a mean over views of it: uint8 (N, H, W, 3) -> float32 (M, 1, e), on the CPU.

    Args:
        network: on the device to compute on.
        images: may be a memory map, of which a batch at a time is read.
        rows: int64 (M,), of these images, in this order; none: of all.
        views: how many random ones, or `ten_crops` of the size that the network crops its images to.
        seed: of random ones.
        pooling: to one vector.
        progress: show a bar.
        name: of the network, for the error.

    Raises:
        NotFiniteError: a value is not finite.
    """

    def of_batch(batch: Tensor, start: int) -> Tensor:
        if views == "ten_crops":
            assert network.crop is not None  # noqa: S101  the config refuses others
            found = [_pooled(network, crop, pooling) for crop in ten_crops(batch, network.crop)]
        else:
            random = generator(seed, Draw.VIEWS_OF_TESTED, start)  # draws of its own for every batch
            found = [random_view(network, batch, random, pooling) for _ in range(views)]
        return torch.stack(found).mean(0).unsqueeze(1)

    shape = shape_of(network, pooling)
    return batched(network, images, rows, of_batch, shape, at_once=DRAWN_AT_ONCE, progress=progress, name=name)


@torch.no_grad()
def _pooled(network: Network, images: Tensor, pooling: SupportPooling) -> Tensor:
    parts = torch.split(images, batch_size(images.device, images.shape[1]))
    return torch.cat([pool(network(network.normalise(part)).float(), pooling)[:, 0] for part in parts])
