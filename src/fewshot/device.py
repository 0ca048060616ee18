"""Where to compute, said aloud: asking for CUDA where there is none is an error, never a silent fall-back."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from fewshot.errors import ConfigError
from fewshot.provenance import gpus_in_sight

logger = logging.getLogger(__name__)
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""As glibc's malloc.h numbers them."""
_OF_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")
"""As `torch.cpu.get_capabilities` names them; the last is ARM's."""
_claims: list[IO[str]] = []
"""Open for as long as the process lives."""


def select_device(choice: str, threads: int | None = None, *, tensor_float_32: bool = False) -> torch.device:
    """The device for `auto`, `cpu` or `cuda`, with the process set up for it; the log says which it is.

    Args:
        choice: `auto` takes CUDA where there is one.
        threads: CPU threads; none: torch's own choice.
        tensor_float_32: allow TF32 convolutions on CUDA. For training; what is reported is computed in float32, and so is what
            stands above the feature map, in training too: distances and cosines lose more by it than time.

    Raises:
        ConfigError: CUDA is asked for and there is none.
    """
    _keep_memory()
    # Swish makes denormal numbers, on which CPUs are many times slower; to be set before the first parallel operation.
    torch.set_flush_denormal(True)
    if threads is not None:
        torch.set_num_threads(threads)
    if choice != "cpu":
        claim_gpu()
    if choice == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda is asked for, but torch finds no CUDA device; set `device: auto` or `device: cpu`")
    device = torch.device("cuda" if choice != "cpu" and torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = tensor_float_32
        logger.info("device: %s (asked for: %s)", torch.cuda.get_device_name(), choice)
    else:
        seen = gpus_in_sight() if choice == "auto" else ()
        if seen:
            logger.warning("GPU %s is there, but this PyTorch cannot use it: computing on the CPU", ", ".join(seen))
        logger.info("device: CPU, %d threads (asked for: %s)", torch.get_num_threads(), choice)
    return device


def precision_on(device: torch.device, asked: str) -> str:
    """In what a backbone is trained on a device, in words: `bfloat16`, `TF32` or `float32`.

    Args:
        device: that computes.
        asked: `auto` (bfloat16 on CUDA), `bfloat16` or `float32`, as the settings have it.
    """
    if asked == "bfloat16" or (asked == "auto" and device.type == "cuda"):
        return "bfloat16"
    return "TF32" if device.type == "cuda" and torch.backends.cudnn.allow_tf32 else "float32"


@contextmanager
def float32_convolutions() -> Iterator[None]:
    """No TF32 in convolutions, which a training on CUDA may have: for what is reported of a network while it is trained."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _keep_memory() -> None:
    """Let the C library keep the memory that tensors give back, for the next ones.

    Left alone, glibc returns every block above 32 MiB to the kernel and takes it anew, cleared page by page, in every
    iteration, which can be most of the time of a training with large batches. What a process holds at its height, it then
    keeps until it ends. Elsewhere than on glibc nothing is changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_MMAP_MAX, 0)  # no block of its own for a large tensor
    mallopt(_M_TRIM_THRESHOLD, -1)  # nothing is given back from the end of the heap


def multiplies_bfloat16() -> bool | None:
    """Whether the CPU has instructions for products of bfloat16, without which they take longer than those of float32.

    Returns:
        None where PyTorch does not tell, as older ones do not.
    """
    asked = getattr(torch.cpu, "get_capabilities", None)
    return None if asked is None else any(asked().get(name) for name in _OF_BFLOAT16)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor of any shape on the device, without waiting for what the device has still to do: for what a loop draws.

    The copy is from page-locked memory, which PyTorch keeps until it is done.
    """
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def claim_gpu(folder: Path | None = None) -> None:
    """Keep one of several visible GPUs for this process: Snakemake and a shell count devices, but do not hand them out.

    To be called before CUDA is first asked for anything. Each device has a lock file; the lock ends with the process. Where all
    are taken, as when more jobs were started than there are devices, the first is shared, and the log says so.

    Args:
        folder: of the lock files; None: one of this user in the machine's temporary folder.
    """
    names = gpus_in_sight()
    if len(names) > 1:
        place = folder or Path(tempfile.gettempdir()) / f"fewshot-gpus-{os.getuid()}"
        place.mkdir(mode=0o700, exist_ok=True)
        taken = next((name for name in names if _claimed(place / re.sub(r"\W", "_", name))), None)
        if taken is None:
            logger.warning("all of the GPUs %s are in use by jobs of yours; sharing the first", ", ".join(names))
        os.environ["CUDA_VISIBLE_DEVICES"] = taken or names[0]
    if names:
        logger.info("GPU of this job: %s", os.environ.get("CUDA_VISIBLE_DEVICES", names[0]))


def _claimed(path: Path) -> bool:
    lock = path.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return False
    _claims.append(lock)
    return True
