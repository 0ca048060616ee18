"""How many images go through a network at once where it is not trained."""

from __future__ import annotations

import torch

BATCH = {"cpu": 2**17, "cuda": 2**21}
"""Pixels that go through a network at once; on a CPU so few that its maps stay in the cache."""


def batch_size(device: torch.device, side: int) -> int:
    """How many images of `side` pixels go through a network at once: on a CPU 18 of 84 px, 128 of 32 px."""
    return max(1, BATCH[device.type] // side**2)
