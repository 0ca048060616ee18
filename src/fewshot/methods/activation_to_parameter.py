"""Predicting parameters from activations (stage 2): a mapping from activations to class weights, learnt on the base classes.

S. Qiao, C. Liu, W. Shen, A. Yuille. Few-Shot Image Recognition by Predicting Parameters from Activations. CVPR 2018
("paper 004"); settings from its authors' code, joe-siyuan-qiao/FewShot-CVPR.

The mapping phi is L2 normalisation, linear, ReLU, linear, L2 normalisation; both linear layers start as the identity, so that
at first a (non-negative) activation is its own class weight. It is trained on cached activations of the network: an iteration
takes one statistic of every base class, mostly a single activation, sometimes the class mean, and classifies one further
activation of each class by its dot products with what phi makes of the statistics.

A novel class gets phi of its support images' mean activation. In the joint set of base and novel classes the base classes get
phi of their mean activation too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from fewshot.config import ActivationMappingSettings
from fewshot.data.trained_images import trained_on
from fewshot.device import to_device
from fewshot.errors import FewshotError
from fewshot.methods.base import Curve, Extend, Ground, Rows, Task, decide
from fewshot.optimization import Draw, generator

ROWS = 4096
"""Images whose logits are held at once."""
CURVE = 250
"""Iterations an entry of the curve: an epoch of the authors' code."""


class ActivationMapping(nn.Module):
    """phi: activations (..., d) -> class weights (..., d) of unit length."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(channels, channels), nn.Linear(channels, channels)
        for layer in (self.first, self.second):
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, activations: Tensor) -> Tensor:
        """See the class."""
        hidden = F.relu(self.first(F.normalize(activations, dim=-1)))
        return F.normalize(self.second(hidden), dim=-1)


class ClassActivations:
    """Activations of the training images, class by class.

    Args:
        activations: (N, d).
        labels: int64 (N,), 0 .. C - 1, every class at least once.
    """

    def __init__(self, activations: Tensor, labels: Tensor) -> None:
        order = torch.argsort(labels, stable=True)
        self.values = activations[order]
        self.sizes = torch.bincount(labels)
        self.starts = self.sizes.cumsum(0) - self.sizes
        self.means = class_means(activations, labels, len(self.sizes))

    def draw(self, mean_share: float, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """A statistic and a query of every class, (C, d) each.

        Args:
            mean_share: probability that a class's statistic is its mean, and not one of its activations.
            random: of the CPU.
        """
        shares = to_device(torch.rand(3, len(self.sizes), generator=random, dtype=torch.float64), self.values.device)
        picks = self.starts + (shares[:2] * self.sizes).long()
        single, queries = self.values[picks[0]], self.values[picks[1]]
        return torch.where((shares[2] < mean_share).unsqueeze(1), self.means, single), queries


def class_means(activations: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean activation of each class: (n, d) and int64 (n,) -> (classes, d)."""
    sums = torch.zeros(classes, activations.shape[1], device=activations.device).index_add_(0, labels, activations)
    return sums / torch.bincount(labels, minlength=classes).unsqueeze(1)


def train(classes: ClassActivations, settings: ActivationMappingSettings, seed: int) -> tuple[ActivationMapping, Curve]:
    """The mapping, trained by SGD on cross-entropy over the training classes, and its curve (means over `CURVE` iterations).

    Raises:
        FewshotError: the loss is not finite.
    """
    device, count = classes.values.device, len(classes.sizes)
    mapping = ActivationMapping(classes.values.shape[1]).to(device)
    optimizer = torch.optim.SGD(
        mapping.parameters(), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    truth, curve, sums = torch.arange(count, device=device), Curve(), torch.zeros(2, device=device)
    for iteration in tqdm(range(settings.iterations), desc="activations to parameters", unit="it", mininterval=5):
        statistics, queries = classes.draw(settings.mean_share, generator(seed, Draw.STATISTICS, iteration))
        logits = queries @ mapping(statistics).T
        loss = F.cross_entropy(logits, truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        sums += torch.stack([loss.detach(), 100 * (logits.argmax(1) == truth).float().mean()])
        if (iteration + 1) % CURVE == 0 or iteration + 1 == settings.iterations:
            since = iteration % CURVE + 1
            found, right = (sums / since).tolist()
            if not np.isfinite(found):
                raise FewshotError(
                    f"activation_to_parameter: the loss is {found} by iteration {iteration + 1}; lower stage2's lr"
                )
            curve.append({"epoch": iteration // CURVE + 1, "loss": found, "training_accuracy": right})
            sums.zero_()
    return mapping.eval().requires_grad_(False), curve


_last: list[tuple[tuple[object, ...], tuple[ActivationMapping, Curve]]] = []
"""The last mapping and what it was learnt from: jobs of one process with other shots share it, and its time is the first's."""


def learnt(
    of: str | None, classes: ClassActivations, settings: ActivationMappingSettings, seed: int
) -> tuple[ActivationMapping, Curve]:
    """`train`, or what it last gave for the same.

    Args:
        of: hash of the network whose activations these are; None: train in any case.
        classes, settings, seed: see `train`.

    Raises:
        FewshotError: the loss is not finite.
    """
    key = (of, seed, classes.values.device, settings.model_copy(update={"views": 0}))
    if of is None or not _last or _last[0][0] != key:
        _last[:] = [(key, train(classes, settings, seed))]
    return _last[0][1]


def prepare(ground: Ground, settings: ActivationMappingSettings) -> Extend:
    """The method of a job, as stage 2 calls it (see `fewshot.extension`): the mapping is trained here, once for all tasks."""
    return _Mapped(ground, settings)


class _Mapped:
    def __init__(self, ground: Ground, settings: ActivationMappingSettings) -> None:
        self.ground, self.settings = ground, settings
        self.device = ground.network.mean.device
        rows, names = trained_on(ground.store, ground.network.settings.training)
        labels = torch.from_numpy(ground.store.labels[rows]).to(self.device)
        assert ground.trained is not None  # noqa: S101  its settings say that it learns from them
        known = ground.trained.of(rows)[:, 0]
        base = ClassActivations(known.to(self.device), labels)
        with torch.inference_mode(mode=False), torch.enable_grad():
            of = ground.trained.meta.get("network_sha256")
            self.mapping, self.curve = learnt(of, base, settings, ground.seed)
        # With the validation classes among those trained on there are more classes than the base classes that tests know.
        self.num_base, self.with_base = len(names), len(names) == ground.store.num_base
        self.known = self.mapping(base.means)
        self.tested = ground.features.pooled(settings.pooling(ground.network.settings), self.device)

    @torch.no_grad()
    def __call__(self, task: Task, state: Path) -> tuple[npt.NDArray[np.int32], Curve]:
        """See `fewshot.methods.base.Extend`."""
        rows, classes = task.exemplars
        novel = self.mapping(class_means(self._of(rows), torch.from_numpy(classes).to(self.device), task.way))
        weights = torch.cat([self.known, novel]) if self.with_base else novel
        images = np.concatenate([task.query, task.base])
        logits = torch.cat([self._of(images[i : i + ROWS]) @ weights.T for i in range(0, len(images), ROWS)])
        return decide(logits, len(task.query), self.num_base, self.with_base), self.curve

    def _of(self, rows: Rows) -> Tensor:
        """Activations (n, d) of store rows."""
        return self.tested.of(rows)[:, 0]
