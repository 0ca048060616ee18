"""Implants: tasks trained together on the cached frozen stream.

Beside the plain loop: one task after the other, the whole block forward and backward in every epoch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks import plain
from benchmarks.measure import Growth, Options, Row, seconds, together
from fewshot.adaptation import tasks_at_once
from fewshot.config import ImplantingSettings, NetworkSettings
from fewshot.methods import implanting
from fewshot.models.backbones.resnet12 import ResNet12
from fewshot.models.network import Network

EPOCHS, QUERIES = 50, 30
PLAIN_EPOCHS = 2
"""Measured of the plain form, whose epochs all cost the same and which prepares nothing."""


def settings(epochs: int) -> ImplantingSettings:
    """The method's defaults."""
    return ImplantingSettings(method="implanting", epochs=epochs)


@dataclass(frozen=True)
class World:
    """An untrained ResNet-12, random images, and tasks on them.

    Attributes:
        network: frozen.
        images: uint8.
        stream: of all images.
        index: (T, way (shot + queries)) images of each task, support first.
        way, shot: of the tasks.
    """

    network: Network
    images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    stream: implanting.FrozenStream
    index: Tensor
    way: int
    shot: int

    @property
    def support(self) -> Tensor:
        """(T, way, shot)."""
        return self.index[:, : self.way * self.shot].view(-1, self.way, self.shot)

    def train(self, epochs: int) -> list[Tensor]:
        """All tasks together; the losses of every epoch."""
        losses: list[Tensor] = []
        tasks = list(range(len(self.index)))
        implanting.train_implants(
            self.stream, self.support, tasks, settings(epochs), 0, lambda _epoch, loss, _right: losses.append(loss)
        )
        return losses

    def apply(self) -> Tensor:
        """The features of all images, by implants that are not trained."""
        tasks = list(range(len(self.index)))
        return implanting.adapt_tasks(self.stream, self.index, self.way, self.shot, tasks, settings(0), 0, lambda *_: None)


def draw(size: int, tasks: int | None, way: int, shot: int, device: torch.device) -> World:
    """Random images, few enough to prepare at once; tasks draw from them without regard to classes, which costs the same.

    `tasks`: how many; None: as many as stage 2 trains at once.
    """
    torch.manual_seed(0)
    network = Network(NetworkSettings.model_validate({"backbone": {"name": "resnet12"}}), 64, size).to(device)
    network = network.requires_grad_(False).eval()
    count = way * (shot + 2)
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    stream = implanting.frozen_stream(network, images)
    tasks = tasks or tasks_at_once(stream, way, shot, device)
    generator = torch.Generator().manual_seed(0)
    orders = torch.stack([torch.randperm(count, generator=generator) for _ in range(tasks)])
    queries = torch.randint(count, (tasks, way * QUERIES), generator=generator)
    index = torch.cat([orders[:, : way * shot], queries], dim=1).to(device)
    return World(network, images, stream, index, way, shot)


def operations(world: World) -> float:
    """Floating-point operations of a task's 50 epochs: the products of the frozen inputs, forward and for their weights."""
    first, second, third = (values.shape[-1] for values in world.stream.inputs)
    locations = world.way * world.shot * world.stream.side**2
    return EPOCHS * 2 * 2.0 * locations * (first + second + third) * 9 * settings(EPOCHS).width


def compare(size: int, options: Options) -> list[Row]:
    """Seconds of training a task in both forms, and with the features of its queries.

    Raises:
        SystemExit: the losses differ.
    """
    world = draw(size, None, 5, 5, options.device)
    slow, channels_last = _plain(world, contiguous=True), _plain(world, contiguous=False)
    pairs = zip(world.train(PLAIN_EPOCHS), slow(), strict=True)
    difference = max(abs(float(mine[0]) - theirs) for mine, theirs in pairs)
    if difference > 5e-3:
        raise SystemExit(f"losses differ from the plain form's by {difference:.4f}")
    taken, plain_taken, last_taken, apply_taken = together(
        [partial(world.train, EPOCHS), slow, channels_last, world.apply], options
    )
    tasks, gflop = len(world.index), operations(world) / 1e9
    rate, done = tasks / taken.clock, PLAIN_EPOCHS / EPOCHS  # `done`: tasks that a call of the plain form amounts to
    plain_rate, ratio = done / plain_taken.clock, taken.ratio(tasks, plain_taken, done)
    setting = f"implants, 5-way 5-shot, {size} px, {EPOCHS} epochs"
    note = f"{1 / rate:.3f} s a task, plain {1 / plain_rate:.2f} s; losses differ by {difference:.0e} at most; "
    return [
        Row("stage2", f"{setting}, training", rate, "tasks/s", plain_rate, note + f"{gflop * rate:.0f} GFLOP/s", ratio),
        Row(
            "stage2",
            f"{setting}, with the features of {QUERIES} queries a class",
            tasks / (taken.clock + apply_taken.clock),
            "tasks/s",
        ),
        Row("stage2", f"{setting}, plain form in channels-last", done / last_taken.clock, "tasks/s", plain_rate),
    ]


def _plain(world: World, contiguous: bool) -> Callable[[], list[float]]:
    """The plain form on the first task; returns its losses."""
    layout = torch.contiguous_format if contiguous else torch.channels_last
    network = copy.deepcopy(world.network).to(memory_format=layout)
    backbone = network.backbone
    if not isinstance(backbone, ResNet12):
        raise TypeError(backbone)
    device = world.index.device
    images = torch.from_numpy(world.images[world.support[0].flatten().cpu().numpy()]).to(device)
    with torch.no_grad():
        x = backbone.trunk(network.normalise(images)).contiguous(memory_format=layout)
    initial = implanting.untrained(world.stream, [0], settings(0), 0).parameters
    start = {name: value[0].detach() for name, value in initial.items()}
    return lambda: plain.train_implants(backbone.last_block, x, world.way, start, settings(PLAIN_EPOCHS))[1]


def run(options: Options) -> tuple[list[Row], list[Growth]]:
    """Both image sizes of the papers, and how cost grows."""
    rows = [row for size in (32, 84) for row in compare(size, options)]
    usual = {"tasks": 8, "shots": 5, "ways": 5, "image size (px)": 32}
    series = {"tasks": [1, 2, 4, 8, 16], "shots": [2, 5, 10, 20], "ways": [2, 5, 10, 20], "image size (px)": [32, 48, 64, 84]}
    points = []
    for factor, values in series.items():
        for value in values:
            at = {**usual, factor: value}
            world = draw(at["image size (px)"], at["tasks"], at["ways"], at["shots"], options.device)
            few = EPOCHS // 10
            points.append(
                Growth("stage2", f"{few} epochs of implants", factor, value, seconds(partial(world.train, few), options))
            )
    return rows, points
