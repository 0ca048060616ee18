"""Optimizers, learning-rate schedules and seeded generators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import IntEnum, unique
from typing import Any

import numpy as np
import torch
from torch import nn

from fewshot.config import OptimizerSettings, ScheduleSettings


def learning_rate_factor(schedule: ScheduleSettings, iteration: int, iterations: int) -> float:
    """Factor of the learning rate at an iteration (0 .. iterations - 1)."""
    warm = min(1.0, (iteration + 1) / schedule.warmup) if schedule.warmup else 1.0
    progress = iteration / iterations
    if schedule.kind == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * progress))
    if schedule.kind == "constant":
        return warm
    if schedule.kind == "exponential":
        return warm * float(schedule.decay ** (iteration // schedule.decay_every))
    passed = sum(progress >= milestone for milestone in schedule.milestones)
    return warm * (1.0, *schedule.factors)[passed]


def build_optimizer(
    settings: OptimizerSettings, modules: Sequence[nn.Module], factors: Mapping[nn.Module, float], fused: bool
) -> torch.optim.Optimizer:
    """The optimizer over all trainable parameters, with a learning-rate `factor` in every parameter group.

    Args:
        settings: of the optimizer.
        modules: whose parameters are trained.
        factors: of modules within them that learn faster or slower; all others have factor 1.
        fused: where the device has fused kernels.
    """
    special = {parameter: factor for module, factor in factors.items() for parameter in module.parameters()}
    groups: dict[float, list[nn.Parameter]] = {}
    for module in modules:
        for parameter in module.parameters():
            if parameter.requires_grad:
                groups.setdefault(special.get(parameter, 1.0), []).append(parameter)
    parameters = [{"params": members, "factor": factor} for factor, members in groups.items()]
    common: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    match settings.name:
        case "sgd":
            return torch.optim.SGD(parameters, momentum=settings.momentum, nesterov=settings.nesterov and settings.momentum > 0,
                                   fused=fused, **common)  # fmt: skip
        case "adam":
            return torch.optim.Adam(parameters, fused=fused, **common)
        case "adamw":
            return torch.optim.AdamW(parameters, fused=fused, **common)
        case "rmsprop":
            optimizer = torch.optim.RMSprop(
                parameters, momentum=settings.momentum, alpha=settings.smoothing, eps=settings.epsilon, **common
            )
            if settings.mean_square > 0:
                _begin_at(optimizer, settings.mean_square)
            return optimizer


def _begin_at(optimizer: torch.optim.RMSprop, mean_square: float) -> None:
    """Let the running mean of squared gradients begin at a number: PyTorch makes the state at the first step, of zeros."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = {"step": torch.zeros(()), "square_avg": torch.full_like(parameter, mean_square, requires_grad=False)}
            if group["momentum"] > 0:
                state["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
            optimizer.state[parameter] = state


@unique
class Draw(IntEnum):
    """What is drawn at random; each has streams of its own. The numbers stand for good: others are other results."""

    BATCHES = 1
    AUGMENTATION = 2
    IMPLANTS = 3
    BALANCED_BATCHES = 4
    TASKS = 5
    RANDOM_WEIGHTS = 6
    VIEWS = 7
    STATISTICS = 8
    VIEWS_OF_TESTED = 9
    ROTATIONS = 10


def generator(seed: int, draw: Draw, *numbers: int) -> torch.Generator:
    """A CPU generator seeded by a run's seed, what is drawn, and which draw of it: iteration, epoch, task or the like.

    Always as many `numbers` for one purpose: NumPy's seed sequences end in as many zeros as one likes, so (7, 2) is (7, 2, 0).
    PyTorch seeds its CPU generator with the low 32 bits of the number it is given, so two others have the same stream with a
    probability of 2^-32.
    """
    state = np.random.SeedSequence((seed, draw, *numbers)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
