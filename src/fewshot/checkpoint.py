"""Trained networks on disk: model.safetensors and model.json. No pickles.

Kernels and matrices are kept in half precision where that changes none of their rows by more than LARGEST_CHANGE; everything
else (batch normalisation, biases, scales) in single: a ResNet-12 takes 15 MiB instead of 31, and every later stage computes
with the very numbers that are on disk.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn import functional as F

from fewshot.config import NetworkSettings
from fewshot.errors import DataError, of_the_machine, out_of_memory
from fewshot.files import atomic, file_hash, read_record, write_record
from fewshot.models.network import Network

FORMAT = 1
LARGEST_CHANGE = 2.0**-10
"""Of a row (what makes one channel or logit), relative to its norm, by half precision: twice what rounding alone can do.

Below a root mean square of 2**-15 (3e-5) half precision has too few digits; cosines and batch normalisation see directions.
"""
PROBES = 16
"""Numbers that are kept of what a network makes of a fixed image."""
LARGEST_PROBE = 224
"""Side of the fixed image, pixels, at most."""
_probed: set[str] = set()
"""Hashes of the weights that this process has already looked at: of a large network that takes seconds."""
LARGEST_DIFFERENCE = 1e-4
"""Between these numbers when a network is saved and when it is loaded, relative to the largest; six digits of each are kept."""


def save_network(network: Network, folder: Path, info: Mapping[str, Any]) -> None:
    """Write model.safetensors, then model.json with the folder's hashes: a folder with model.json is complete.

    metrics.jsonl, where the training wrote it, is vouched for too. What the network makes of a fixed image is kept, by which
    `load_network` sees that its code is still the one that these weights were trained with.

    Args:
        network: as trained.
        folder: made if it is not there.
        info: what model.json says beyond settings, format and hash (see docs/files.md); with `probe`, where other code than the
            present may have trained the network, what is known of it.
    """
    weights = folder / "model.safetensors"
    state = {name: _stored(tensor.detach().cpu()) for name, tensor in network.state_dict().items()}
    with atomic(weights) as temporary:
        temporary.write_bytes(save(state))
    told: dict[str, Any] = {}
    if "probe" not in info:
        stored = copy.deepcopy(network).cpu().eval()
        stored.load_state_dict(state)
        probe = _probe(stored, info["image_size"])
        told["probe"] = [float(f"{value:.6g}") for value in probe.tolist()] if probe.isfinite().all() else None
    record = {"format": FORMAT, "network": network.settings.as_dict(), **info, **told, "sha256": file_hash(weights)}
    files = [name for name in ("model.safetensors", "metrics.jsonl") if (folder / name).exists()]
    write_record(folder / "model.json", record, files)


@torch.inference_mode()
def _probe(network: Network, side: int) -> Tensor:
    """What a network on the CPU, in evaluation mode, makes of a fixed image of `side` pixels: means of features, (PROBES,).

    In double precision, which no setting of a process makes coarser; the network is left in it.
    """
    side = min(side, LARGEST_PROBE)
    image = network.normalise((torch.arange(side * side * 3) * 7919 % 256).view(1, side, side, 3))
    with torch.autocast("cpu", enabled=False):
        features: Tensor = network.double()(image.double()).mean((2, 3))
    return F.adaptive_avg_pool1d(features, PROBES)[0]


def _stored(tensor: Tensor) -> Tensor:
    """A kernel or matrix in half precision, unless a row would change by more than LARGEST_CHANGE; anything else as it is."""
    if tensor.dim() < 2 or not tensor.is_floating_point():
        return tensor.contiguous()
    half, exact = tensor.half(), tensor.double()
    change, norm = ((rows.flatten(1).norm(dim=1)) for rows in (half.double() - exact, exact))
    return (half if (change <= LARGEST_CHANGE * norm).all() else tensor).contiguous()  # what overflows changes by infinity


def load_network(
    folder: Path, device: torch.device | str = "cpu", data_hash: str | None = None
) -> tuple[Network, dict[str, Any]]:
    """The network of a folder, in evaluation mode and channels last, and what model.json says of it.

    With `data_hash`, a network that was trained on other data is refused: its training images could be test images here.

    Raises:
        DataError: a file is missing, damaged, changed since it was written, of another format, or of other data; or the code
            now computes other features with these weights.
    """
    weights = folder / "model.safetensors"
    info = read_record(folder / "model.json", (weights.name,), "train the network again")
    if info.get("format") != FORMAT:
        raise DataError(f"{folder}: a network of format {info.get('format')!r}, this version reads {FORMAT}; train it again")
    if data_hash is not None and info.get("data_hash") != data_hash:
        raise DataError(f"{folder}: trained on other data than the store's; train the network again")
    try:
        settings = NetworkSettings.model_validate(info["network"])
        network = Network(settings, len(info["classes"]), info["image_size"])
        network.load_state_dict(load_file(str(weights)))
    except (KeyError, ValidationError, SafetensorError, RuntimeError) as error:
        if of_the_machine(error) or out_of_memory(error):
            raise
        raise DataError(f"{folder}: not a network this version can read ({type(error).__name__}); train it again") from None
    network.eval()
    if info.get("probe") is not None and info["sha256"] not in _probed:
        before = torch.tensor(info["probe"], dtype=torch.float64)
        change = _probe(copy.deepcopy(network), info["image_size"]) - before
        if not (change.abs().max() <= LARGEST_DIFFERENCE * before.abs().max()):  # nor where it is not a number
            raise DataError(
                f"{folder}: the present code of {settings.backbone.name} computes other features with these weights than the "
                "code that trained them; train the network again (`fewshot train --force`), or bring that code back"
            )
    _probed.add(info["sha256"])
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network, info
