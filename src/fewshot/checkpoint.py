"""Trained networks on disk: model.safetensors and model.json. No pickles."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fewshot.config import NetworkSettings
from fewshot.errors import DataError
from fewshot.models.network import Network

FORMAT = 1


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it takes the final name only when the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:  # the bytes are on the disk before the name is
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` to fill; it replaces `path` only when the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object, indented, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: the file is missing or is not a JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"{path}: missing; run the job that makes it") from None
    except (ValueError, UnicodeDecodeError):
        raise DataError(f"{path}: damaged (not JSON); delete it and run its job again") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: damaged (not a JSON object); delete it and run its job again")
    return value


def save_network(network: Network, folder: Path, info: Mapping[str, Any]) -> None:
    """Write model.safetensors, then model.json with its hash: a folder with model.json is complete.

    Args:
        network: as trained.
        folder: made if it is not there.
        info: what model.json says beyond settings, format and hash (see docs/files.md).
    """
    weights = folder / "model.safetensors"
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with atomic(weights) as temporary:
        save_file(state, str(temporary))
    record = {"format": FORMAT, "network": network.settings.as_dict(), **info, "sha256": file_hash(weights)}
    write_json(folder / "model.json", record)


def load_network(folder: Path, device: torch.device | str = "cpu") -> tuple[Network, dict[str, Any]]:
    """The network of a folder, in evaluation mode and channels last, and what model.json says of it.

    Raises:
        DataError: a file is missing, damaged, changed since it was written, or of another format.
    """
    info = read_json(folder / "model.json")
    weights = folder / "model.safetensors"
    if info.get("format") != FORMAT:
        raise DataError(f"{folder}: a network of format {info.get('format')!r}, this version reads {FORMAT}; train it again")
    if not weights.exists():
        raise DataError(f"{weights}: missing beside its model.json; train the network again")
    if file_hash(weights) != info["sha256"]:
        raise DataError(f"{weights}: damaged (its hash is not the one in model.json); train the network again")
    try:
        settings = NetworkSettings.model_validate(info["network"])
        network = Network(settings, len(info["classes"]), info["image_size"])
        network.load_state_dict(load_file(str(weights)))
    except (KeyError, ValidationError, SafetensorError, RuntimeError) as error:
        raise DataError(f"{folder}: not a network this version can read ({type(error).__name__}); train it again") from None
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval(), info
