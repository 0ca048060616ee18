"""Features of a trained network, computed once an image and kept on disk for every later stage.

Folder: features.npy (float32, M x r x d, memory-mappable), rows.npy (int64, the M store rows in increasing order),
features.json (network hash, data hash, map size, pooling; of means over views, which).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from fewshot import job_code
from fewshot.config import SupportPooling, Views
from fewshot.data.store import Part, Store
from fewshot.errors import DataError, NotFiniteError
from fewshot.files import load_array, read_record, save_array, write_record
from fewshot.models.heads import PoolingKind, pool, pool_locations
from fewshot.models.inference import batch_size
from fewshot.models.network import Network

logger = logging.getLogger(__name__)
FILES = ("features.npy", "rows.npy")
READ_AT_ONCE = 4096
"""Images whose maps are read from disk at once, where all of them are pooled."""


@dataclass(frozen=True)
class Features:
    """Feature maps by location, or pooled (r = 1).

    Attributes:
        values: float32 (M, r, d), a read-only memory map when loaded from disk, or a tensor on any device.
        rows: int64 (M,), the store row of each, increasing.
        meta: features.json.
    """

    values: npt.NDArray[np.float32] | Tensor
    rows: npt.NDArray[np.int64]
    meta: dict[str, Any]

    def index(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Position in `values` of store rows (any shape).

        Raises:
            DataError: a row has no features.
        """
        known = len(self._positions)
        inside = rows.size == 0 or (rows.min() >= 0 and rows.max() < known)
        found = self._positions[rows] if inside else None
        if found is None or (found < 0).any():
            lacking = rows[~np.isin(rows, self.rows)]
            raise DataError(
                f"{len(lacking):,} images have no features, the first in row {lacking[0]} of the store; extract the features "
                "of this part again"
            )
        return found

    def tensor(self, device: torch.device | str) -> Tensor:
        """All values, (M, r, d), on a device."""
        values = self.values
        return (values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))).to(device)

    def of(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """The values of store rows: (n,) -> (n, r, d), where they are; of a memory map no others are read.

        Raises:
            DataError: a row has no features.
        """
        at, values = self.index(rows), self.values
        return values[torch.from_numpy(at).to(values.device)] if isinstance(values, Tensor) else torch.from_numpy(values[at])

    def pooled(self, pooling: SupportPooling, device: torch.device | str = "cpu") -> Features:
        """One vector of each image (M, 1, e), on a device: for methods that look at the same images in many tasks."""
        parts = (self.values[i : i + READ_AT_ONCE] for i in range(0, len(self.rows), READ_AT_ONCE))
        tensors = (part if isinstance(part, Tensor) else torch.from_numpy(np.array(part)) for part in parts)
        values = torch.cat([pool_locations(part, pooling) for part in tensors]).to(device)
        return replace(self, values=values, meta=self.meta | {"map": [1, 1], "pooling": pooling})

    @cached_property
    def _positions(self) -> npt.NDArray[np.int64]:
        """Position of every store row up to the last that has features; -1: it has none."""
        positions = np.full(int(self.rows.max(initial=-1)) + 1, -1, dtype=np.int64)
        positions[self.rows] = np.arange(len(self.rows))
        return positions


def compute(
    network: Network,
    images: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64] | None = None,
    *,
    progress: bool = True,
    pooling: PoolingKind = "dense",
    to: torch.device | str = "cpu",
    name: str = "",
) -> Tensor:
    """Feature vectors of images, by location or pooled: uint8 (N, H, W, 3) -> float32 (M, r, e) (pooled: r = 1).

    Args:
        network: on the device to compute on.
        images: may be a memory map, of which a batch at a time is read.
        rows: int64 (M,), of these images, in this order; none: of all.
        progress: show a bar.
        pooling: to one vector; dense: every location.
        to: the device to keep them on.
        name: of the network, for the error.

    Raises:
        NotFiniteError: a value is not finite.
    """

    def of_batch(batch: Tensor, start: int) -> Tensor:
        return pool(network(network.normalise(batch)), pooling)

    return batched(network, images, rows, of_batch, shape_of(network, pooling), progress=progress, to=to, name=name)


def shape_of(network: Network, pooling: PoolingKind) -> tuple[int, int]:
    """(r, e): vectors of an image and values of a vector, of a network's features by location or pooled."""
    channels, height, width = network.feature_shape
    shapes = {"dense": (height * width, channels), "flatten": (1, height * width * channels)}
    return shapes.get(pooling, (1, channels))


@torch.inference_mode()
def batched(
    network: Network,
    images: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64] | None,
    of_batch: Callable[[Tensor, int], Tensor],
    shape: tuple[int, int],
    *,
    at_once: int | None = None,
    progress: bool = True,
    to: torch.device | str = "cpu",
    name: str = "",
) -> Tensor:
    """What a function makes of the images with a network, batch by batch: see `compute`.

    Args:
        network: on the device to compute on.
        images: uint8 (N, H, W, 3).
        rows: int64 (M,), or none: all.
        of_batch: images uint8 (n, H, W, 3) on that device and the number of the first of them -> (n, r, e).
        shape: r and e.
        at_once: images of a batch; none: as many as go through a network at once.
        progress: show a bar.
        to: the device to keep the values on.
        name: of the network, for the error.

    Returns:
        float32 (M, r, e).

    Raises:
        NotFiniteError: a value is not finite.
    """
    device = network.mean.device
    count, at_once = len(images) if rows is None else len(rows), at_once or batch_size(device, images.shape[1])
    out = torch.empty(count, *shape, device=to)
    finite = torch.ones((), dtype=torch.bool, device=device)
    for start in tqdm(range(0, count, at_once), desc="features", unit="batch", disable=not progress, mininterval=5):
        part = slice(start, start + at_once)
        batch = torch.from_numpy(np.array(images[part if rows is None else rows[part]])).to(device)
        found = of_batch(batch, start)
        finite &= torch.isfinite(found).all()
        out[start : start + len(batch)] = found
    if not finite:
        which = f"network {name}" if name else "network"
        raise NotFiniteError(f"the {which} gives features that are not finite; train it again with a lower learning rate")
    return out


def extract(
    network: Network,
    info: dict[str, Any],
    store: Store,
    parts: Sequence[Part],
    folder: Path,
    pooling: PoolingKind = "dense",
    views: Views = 0,
    computed: Callable[..., Tensor] = compute,
) -> None:
    """Compute and write the features of the store's `parts`, by location or pooled.

    Args:
        network: on the device to compute on.
        info: its record.
        store: images.
        parts: of the store.
        folder: to write to.
        pooling: to one vector; dense: every location.
        views: what they are means over, pooled; 0: of each image as it is.
        computed: `compute`, or what gives means over views, float32 (M, 1, e), in its place (`fewshot.views.compute`).

    Raises:
        DataError: the network was trained on other data or another image size than the store's, or its features are not finite.
    """
    if info["image_size"] != store.image_size:
        raise DataError(f"the network takes {info['image_size']} px images, the store {store.path} holds {store.image_size} px")
    rows = np.sort(np.concatenate([store.rows(part) for part in parts]))
    logger.info("features of %d images (%s)", len(rows), ", ".join(parts))
    values = computed(network, store.images, rows, pooling=pooling, name=str(info.get("name", "")))
    save_array(folder / "features.npy", values.numpy())
    save_array(folder / "rows.npy", rows.astype(np.int64))
    write_record(
        folder / "features.json",
        {"format": 1, "network_sha256": info["sha256"], "code": job_code.extraction(network.settings, views),
         "data_hash": store.data_hash, "parts": list(parts),
         "map": list(network.feature_shape[1:]) if pooling == "dense" else [1, 1], "pooling": pooling, "images": len(rows),
         **({"views": views} if views else {})},
        FILES,
    )  # fmt: skip


def load(folder: Path, network_sha256: str | None = None) -> Features:
    """Read a features folder; with `network_sha256`, refuse features of another network.

    Raises:
        DataError: missing, damaged, or of another network.
    """
    meta = read_record(folder / "features.json", FILES, "delete the folder and extract again")
    if network_sha256 is not None and meta["network_sha256"] != network_sha256:
        raise DataError(f"{folder}: features of another network; delete the folder and extract again")
    try:
        values = load_array(folder / "features.npy", mapped=True)
        rows = load_array(folder / "rows.npy")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{folder}: features damaged ({type(error).__name__}); delete the folder and extract again") from None
    if values.ndim != 3 or len(values) != len(rows) or len(rows) != meta["images"]:
        raise DataError(f"{folder}: features damaged (sizes do not fit); delete the folder and extract again")
    return Features(values, rows, meta)
