"""Where to compute, said aloud: asking for CUDA where there is none is an error, never a silent fall-back."""

from __future__ import annotations

import logging

import torch

from fewshot.errors import ConfigError

logger = logging.getLogger(__name__)


def select_device(choice: str, threads: int | None = None, *, tensor_float_32: bool = False) -> torch.device:
    """The device for `auto`, `cpu` or `cuda`, with the process set up for it; the log says which it is.

    Args:
        choice: `auto` takes CUDA where there is one.
        threads: CPU threads; none: torch's own choice.
        tensor_float_32: allow TF32 products on CUDA. For training; what is reported is computed in float32.

    Raises:
        ConfigError: CUDA is asked for and there is none.
    """
    # Swish makes denormal numbers, on which CPUs are many times slower; to be set before the first parallel operation.
    torch.set_flush_denormal(True)
    if threads is not None:
        torch.set_num_threads(threads)
    if choice == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda is asked for, but torch finds no CUDA device; set `device: auto` or `device: cpu`")
    device = torch.device("cuda" if choice != "cpu" and torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high" if tensor_float_32 else "highest")
        torch.backends.cudnn.allow_tf32 = tensor_float_32
        logger.info("device: %s (asked for: %s)", torch.cuda.get_device_name(), choice)
    else:
        logger.info("device: CPU, %d threads (asked for: %s)", torch.get_num_threads(), choice)
    return device
