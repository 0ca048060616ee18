"""Stage 1: images a second of the training loop's own step, in the forms it can run in. The plain form: contiguous, float32."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Growth, Options, Row, matmul_rate, seconds, together
from fewshot.config import NetworkSettings
from fewshot.data.augment import augment
from fewshot.models.backbones import layers
from fewshot.models.network import Network
from fewshot.objectives import build_objective
from fewshot.optimization import Draw, generator
from fewshot.resume import State
from fewshot.sampling import Batches
from fewshot.training import Trainer

CASES = (("c128f", 32), ("c128f", 84), ("resnet12", 32), ("resnet12", 84))
BATCH = {"cpu": {32: 64, 84: 16}, "cuda": {32: 512, 84: 200}}
"""Images a step; on CUDA the paper's."""
KINDS = {
    "convolutions": ("convolution", "aten::mm", "aten::addmm", "aten::bmm"),
    "batch normalisation": ("batch_norm",),
    "activations": ("silu", "relu", "threshold", "clamp"),
    "pooling": ("pool",),
    "copies": ("aten::copy_", "aten::cat", "aten::fill_", "Memcpy"),
}
"""Kinds of operations, by what stands in their names."""
OPTIMIZER, OTHERS = "optimizer", "others"
LARGEST = {"float32": 2e-3, "bfloat16": 5e-2}
"""Relative difference of losses that rounding may make; TF32 on CUDA."""


class _Contiguous(Trainer):
    """As the training loop, less channels-last."""

    def feature_map(self, images: Tensor) -> Tensor:
        """See Trainer."""
        return self.compiled(self.network.normalise(images).contiguous())  # type: ignore[no-any-return]


def trainer(
    backbone: str,
    size: int,
    device: torch.device,
    precision: str,
    compiled: bool,
    contiguous: bool = False,
    batch: int | None = None,
) -> Trainer:
    """A training on random images, ready for steps."""
    torch.manual_seed(0)
    batch = batch or BATCH[device.type][size]
    validation = {"every": 0, "keep": "last"}
    training = {"batch_size": batch, "precision": precision, "compile": compiled, "validation": validation}
    settings = NetworkSettings.model_validate({"backbone": {"name": backbone}, "training": training})
    images = torch.randint(256, (4 * batch, size, size, 3), dtype=torch.uint8).to(device)
    labels = torch.randint(64, (len(images),)).to(device)
    network = Network(settings, 64, size)
    objective = build_objective(settings.training.objective, network, 0)
    kind = _Contiguous if contiguous else Trainer
    with tempfile.TemporaryDirectory() as folder:
        made = kind(
            network, objective, Batches(torch.arange(len(images)), batch, 0), images, labels, settings.training,
            name=backbone, seed=0, state=State(Path(folder) / "none", ""),
        )  # fmt: skip
    if contiguous:
        network.to(memory_format=torch.contiguous_format)
    network.train()
    return made


def peak_rate(options: Options) -> float:
    """Operations a second of a float32 matrix product as convolutions multiply: on CUDA in TF32 (`select_device`)."""
    before = torch.get_float32_matmul_precision()
    if options.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        return matmul_rate(options)
    finally:
        torch.set_float32_matmul_precision(before)


def _apart(fast: Trainer, slow: Trainer, most: float) -> float:
    """Relative difference of the losses of two trainings' first steps, which begin alike."""
    found, expected = (float(made.step(0)[0]) for made in (fast, slow))
    apart = abs(found - expected) / abs(expected)
    if not apart < most:
        raise SystemExit(f"the losses of both forms of stage 1 differ: {found} and {expected}")
    return apart


def shares(made: Trainer) -> dict[str, float]:
    """Of a step's time in PyTorch's operations, on CUDA that of their kernels: what each kind of them takes, the most first."""
    cuda = made.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as profiler:
        made.step(0)
    taken = dict.fromkeys((*KINDS, OPTIMIZER, OTHERS), 0.0)
    for event in profiler.events():
        if event.device_type.name == "CPU":  # else a kernel, which is counted with the operation that began it
            taken[_kind(event)] += event.self_device_time_total if cuda else event.self_cpu_time_total
    whole = sum(taken.values()) or 1.0
    return {kind: time / whole for kind, time in sorted(taken.items(), key=lambda item: -item[1])}


def _kind(event: Any) -> str:
    above = event
    while above is not None:
        if above.name.startswith("Optimizer."):
            return OPTIMIZER
        above = above.cpu_parent
    return next((kind for kind, words in KINDS.items() if any(word in event.name for word in words)), OTHERS)


def operations(made: Trainer) -> float:
    """Floating-point operations of a step, counted."""
    with FlopCounterMode(display=False) as counter:
        made.step(0)
    return float(counter.get_total_flops())


def run(options: Options) -> tuple[list[Row], list[Growth]]:
    """Every backbone and size in float32 and bfloat16, which not every CPU multiplies quickly; on CUDA compiled too."""
    cuda = options.device.type == "cuda"
    peaks = {"float32": peak_rate(options), "bfloat16": matmul_rate(options, torch.bfloat16)}
    names = {"float32": "TF32" if cuda else "float32", "bfloat16": "bfloat16"}
    rows = [Row("stage1", f"matrix product, {names[kind]}", peak / 1e9, "GFLOP/s") for kind, peak in peaks.items()]
    forms = [("float32", False), ("bfloat16", False), *([("bfloat16", True)] if cuda else [])]
    for backbone, size in CASES:
        slow = trainer(backbone, size, options.device, "float32", False, contiguous=True)
        flops, batch = operations(slow), BATCH[options.device.type][size]
        for precision, compiled in forms:
            fast = trainer(backbone, size, options.device, precision, compiled)
            fresh = trainer(backbone, size, options.device, "float32", False, contiguous=True)
            apart = _apart(fast, fresh, LARGEST[precision])
            taken, plain = together([partial(fast.step, 0), partial(slow.step, 0)], options)
            share, inputs = flops / taken.clock / peaks[precision], _inputs(fast, options) / taken.clock
            setting = f"{backbone}, {size} px, batch {batch}, channels-last, {precision}{', compiled' if compiled else ''}"
            spent = ", ".join(f"{100 * part:.0f} % {name}" for name, part in shares(fast).items())
            note = (
                f"first losses {apart:.0e} apart; {100 * share:.0f} % of the matrix product's rate; "
                f"{100 * inputs:.1f} % of the time for crops and flips; by kind: {spent}"
            )
            ratio = taken.ratio(1, plain, 1)
            rows.append(Row("stage1", setting, batch / taken.clock, "images/s", batch / plain.clock, note, ratio))
    return [*rows, *([] if cuda else [_products(options)])], _grow(options)


def _products(options: Options) -> Row:
    """Narrow maps as matrix products, on a CPU in bfloat16, at the paper's batch size; the plain form: as convolutions."""
    batch = BATCH["cuda"][32]
    made = trainer("resnet12", 32, options.device, "bfloat16", False, batch=batch)

    def as_convolutions() -> None:
        with patch.object(layers, "NARROW", 0):
            made.step(0)

    taken, plain = together([partial(made.step, 0), as_convolutions], options)
    setting = f"resnet12, 32 px, batch {batch}, bfloat16, narrow maps as matrix products"
    return Row("stage1", setting, batch / taken.clock, "images/s", batch / plain.clock, "", taken.ratio(1, plain, 1))


def _inputs(made: Trainer, options: Options) -> float:
    def draw() -> Tensor:
        return augment(
            made.images, made.batches(0).to(made.device), made.settings.augmentation, generator(0, Draw.AUGMENTATION, 0)
        )

    return seconds(draw, options)


def _grow(options: Options) -> list[Growth]:
    points = []
    for size in (32, 84):
        made = trainer("resnet12", size, options.device, "auto", False)
        taken = seconds(partial(made.step, 0), options) * 1000 / BATCH[options.device.type][size]
        points.append(Growth("stage1", "ResNet-12, 1,000 images", "image size (px)", size, taken))
    return points
