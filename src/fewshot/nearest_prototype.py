"""Accuracy of tasks for networks trained on tasks: the nearest prototype by the distance they were trained with (paper 002)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from fewshot.config import DistanceSettings
from fewshot.episodes import Episodes
from fewshot.features import Features
from fewshot.methods.prototypical import distances, prototypes
from fewshot.models.heads import PoolingKind, pool_locations

CHUNK_BYTES = {"cpu": 24 << 20, "cuda": 1 << 30}
"""Bytes of gathered features of a chunk of tasks: about the cache on a CPU."""


@torch.inference_mode()
def accuracies(
    features: Features,
    episodes: Episodes,
    pooling: PoolingKind,
    distance: DistanceSettings,
    device: torch.device,
    tasks: int | None = None,
) -> dict[str, npt.NDArray[np.float64]]:
    """Accuracy of every task in percent: `novel`, float64 (T,).

    Args:
        features: of all images that the tasks name.
        episodes: the tasks.
        pooling: of support and queries, to one vector an image: gap, gmp or flatten.
        distance: whose least is right.
        device: where to compute.
        tasks: only the first so many.

    Raises:
        ValueError: a pooling to several vectors.
        DataError: a task names an image without features.
    """
    if pooling == "dense":
        raise ValueError("a distance is between single vectors: pooling gap, gmp or flatten")
    count = len(episodes.support) if tasks is None else tasks
    way, shot, queries = *episodes.support.shape[1:], episodes.query.shape[2]
    vectors = pool_locations(features.tensor(device), pooling).squeeze(-2)
    chunk = max(1, CHUNK_BYTES[device.type] // (way * (shot + queries) * vectors.shape[1] * vectors.element_size()))
    truth = torch.arange(way, device=device).repeat_interleave(queries)
    found = []
    for start in range(0, count, chunk):
        part = slice(start, min(start + chunk, count))
        support, query = (
            torch.from_numpy(features.index(rows[part])).to(device) for rows in (episodes.support, episodes.query)
        )
        nearest = distances(vectors[query.flatten(1)], prototypes(vectors[support]), distance).argmin(-1)
        found.append((nearest == truth).double().mean(1))
    return {"novel": torch.cat(found).mul(100).cpu().numpy()}
