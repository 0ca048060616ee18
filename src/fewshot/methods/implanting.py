"""Implanting (stage 2): new channels beside the last residual block, trained on a task's support set.

Y. Lifchitz, Y. Avrithis, S. Picard, A. Bursuc. Dense Classification and Implanting for Few-Shot Learning. CVPR 2019,
arXiv 1903.05050: section 3.2, equations (11) and (12).

An implant stands beside each of the block's three 3x3 convolutions. The first sees the block's input, the next ones the
concatenation of the base network's hidden activation and the previous implant's. The base network is frozen, so its
activations are computed once an image (`FrozenStream`). Many tasks train at once: every parameter has a leading task axis T.

Unpublished and therefore settings: batch normalisation (over the task's support set, whose statistics also serve the
queries), initialisation, residual shortcut, learning rate. See docs/methods/implanting.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fewshot.config import ImplantingSettings
from fewshot.errors import ConfigError, DataError
from fewshot.methods.taskwise import TAPS, convolve
from fewshot.models.backbones.resnet12 import ResidualBlock, ResNet12
from fewshot.models.heads import PoolingKind, locations, pool_locations
from fewshot.models.inference import batch_size
from fewshot.models.network import Network
from fewshot.optimization import Draw, generator

Norms = Mapping[str, tuple[float, float]]
"""Mean size of the gains and mean bias of batch normalisations: of the convolutions 1, 2 and 3, and of the shortcut, s."""
ONES: Norms = dict.fromkeys("123s", (1.0, 0.0))

STORED = torch.float16
"""What the implants see is stored in half precision: at 84 px 256 kB an image instead of 512. Computed is in float32."""
_EPS = 1e-5


@dataclass(frozen=True)
class FrozenStream:
    """What the implants see of the frozen network, for M images, by location before the last pooling (P = H W).

    Attributes:
        inputs: of the three convolutions, (M, P, c), (M, P, d), (M, P, d); stored as `STORED`.
        features: the network's own feature vectors, float32 (M, r, d).
        side: H = W of the map before the last pooling.
        norms: of the block's own batch normalisations.
    """

    inputs: tuple[Tensor, Tensor, Tensor]
    features: Tensor
    side: int
    norms: Norms

    def take(self, index: Tensor) -> FrozenStream:
        """The stream of some images in float32; `index` of any shape replaces the leading axis."""
        first, second, third = (values[index].float() for values in self.inputs)
        return FrozenStream((first, second, third), self.features[index], self.side, self.norms)


@torch.inference_mode()
def frozen_stream(network: Network, images: npt.NDArray[np.uint8]) -> FrozenStream:
    """Run the frozen network once over images (M, H, W, 3), in evaluation mode.

    Raises:
        ConfigError: the backbone has no residual blocks.
        DataError: activations are not finite, or too large for half precision.
    """
    backbone = network.backbone
    if not isinstance(backbone, ResNet12):
        raise ConfigError("implants go beside the last block of resnet12; this network has another backbone")
    network.eval()  # or the base's batch normalisation would learn, and the frozen network would not be frozen
    out: list[Tensor] = []
    side, finite = 0, torch.ones((), dtype=torch.bool, device=network.mean.device)
    count = batch_size(network.mean.device, images.shape[1])
    for start in range(0, len(images), count):
        batch = torch.from_numpy(np.array(images[start : start + count])).to(network.mean.device)
        hidden = backbone.last_block.hidden(backbone.trunk(network.normalise(batch)))
        maps = [*hidden, backbone.last_block.finish(hidden[0], hidden[2])]
        side = hidden[0].shape[-1]
        values = [locations(one) for one in maps]
        if not out:  # the whole at once: gigabytes at 84 px, which are not to be held twice
            kinds = [STORED, STORED, STORED, torch.float32]
            out = [
                torch.empty(len(images), *one.shape[1:], device=one.device, dtype=kind)
                for one, kind in zip(values, kinds, strict=True)
            ]
        for whole, part in zip(out, values, strict=True):
            whole[start : start + len(part)] = part
            finite &= whole[start : start + len(part)].isfinite().all()
    if not finite:
        raise DataError(
            "the network's activations in its last block are not finite in half precision, in which implants keep them; "
            "train it again with a lower learning rate"
        )
    first, second, third, features = out
    return FrozenStream((first, second, third), features, side, _norms(backbone.last_block))


def _norms(block: ResidualBlock) -> Norms:
    """Gains by their size: a channel of a negative one is as long as that of a positive."""
    layers = zip("123s", (*block.convolutions, block.shortcut), strict=True)
    return {name: (float(layer[1].weight.abs().mean()), float(layer[1].bias.mean())) for name, layer in layers}


class Implants:
    """The implants of T tasks: parameters and forward pass.

    Args:
        tasks: numbers of the tasks; task t draws its initial weights from (seed, t), whatever the others are.
        channels: of the block's input (c) and of its output (d).
        settings: width w and the unpublished choices.
        seed: of the initialisation.
        device: of the parameters.
        norms: where gains and biases of the batch normalisation begin.
    """

    def __init__(
        self,
        tasks: list[int],
        channels: tuple[int, int],
        settings: ImplantingSettings,
        seed: int,
        device: torch.device,
        norms: Norms = ONES,
    ) -> None:
        self.settings = settings
        self.width = width = settings.width
        inputs, outputs = channels
        # Frozen inputs and implant inputs have weights of their own: the same convolution of the
        # concatenation [a, a'], with no gradient to compute for the frozen part.
        sizes = {"w1": inputs, "w2": outputs, "v2": width, "w3": outputs, "v3": width}
        shapes: dict[str, tuple[int, ...]] = {name: (width, 3, 3, size) for name, size in sizes.items()}
        if settings.shortcut:
            shapes["shortcut"] = (inputs, width)

        def drawn(task: int) -> list[Tensor]:
            random = generator(seed, Draw.IMPLANTS, task)
            return [torch.randn(shape, generator=random) for shape in shapes.values()]

        with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # a GPU would wait for hundreds of tasks' draws
            draws = zip(*threads.map(drawn, tasks), strict=True)
        self.parameters = {
            name: torch.stack(values) * _deviation(name, channels, settings) for name, values in zip(shapes, draws, strict=True)
        }
        if settings.batch_norm:
            for name in ("1", "2", "3") + (("s",) if settings.shortcut else ()):
                for kind, value in zip(("gain", "bias"), norms[name], strict=True):
                    self.parameters[kind + name] = torch.full((len(tasks), 1, width), value)
        self.parameters = {name: value.to(device).requires_grad_() for name, value in self.parameters.items()}

    def __call__(self, stream: FrozenStream, statistics: dict[str, tuple[Tensor, Tensor]] | None = None) -> Tensor:
        """Implant features of n images a task.

        Args:
            stream: of (T, n) images.
            statistics: of the batch normalisation; an empty dict is filled from these images, a full one is used.
                None: from these images, not kept.

        Returns:
            (T, n, r, w).
        """
        statistics = {} if statistics is None else statistics
        tasks, images = stream.features.shape[:2]
        side, p = stream.side, self.parameters
        if self.width == 0:
            return stream.features[..., :0]

        def convolved(values: Tensor, name: str) -> Tensor:
            return convolve(values.view(tasks, images, side * side, -1), p[name], side)

        def normalised(values: Tensor, name: str) -> Tensor:
            if not self.settings.batch_norm:
                return values
            if name not in statistics:
                variance, mean = torch.var_mean(values, dim=1, correction=0, keepdim=True)
                statistics[name] = (mean, variance)
            mean, variance = statistics[name]
            return (values - mean) * torch.rsqrt(variance + _EPS) * p[f"gain{name}"] + p[f"bias{name}"]

        first, second, third = stream.inputs
        a = F.silu(normalised(convolved(first, "w1"), "1"))
        a = F.silu(normalised(convolved(second, "w2") + convolved(a, "v2"), "2"))
        a = normalised(convolved(third, "w3") + convolved(a, "v3"), "3")
        if self.settings.shortcut:
            a = a + normalised(first.flatten(1, 2) @ p["shortcut"], "s")
        maps = F.silu(a).view(tasks * images, side, side, self.width).permute(0, 3, 1, 2)
        return locations(F.max_pool2d(maps, 2)).view(tasks, images, -1, self.width)


def untrained(stream: FrozenStream, tasks: list[int], settings: ImplantingSettings, seed: int) -> Implants:
    """The implants of T tasks beside the block whose stream this is, as their training begins; arguments: see `Implants`."""
    channels = stream.inputs[0].shape[-1], stream.inputs[1].shape[-1]
    norms = stream.norms if settings.batch_norm_init == "block" else ONES
    return Implants(tasks, channels, settings, seed, stream.features.device, norms)


def _deviation(name: str, channels: tuple[int, int], settings: ImplantingSettings) -> float:
    """Of the initial weights. A frozen and an implanted input of one convolution count together."""
    inputs, outputs = channels
    fan_in = {"w1": inputs, "shortcut": inputs}.get(name, outputs + settings.width)
    taps = 1 if name == "shortcut" else TAPS
    variance = 2 / max(taps * settings.width, 1) if settings.init == "he_normal" else 1 / (3 * taps * fan_in)
    return float(variance**0.5)


@dataclass(frozen=True)
class Products:
    """Dot products and squared norms of a group of channels; those of two groups add up to those of both.

    Attributes:
        dots: of queries and leave-one-out prototypes, (T, n, k, way).
        prototypes: squared norms, (T, n, way): the prototypes differ from query image to query image.
        queries: squared norms, (T, n, k).
    """

    dots: Tensor
    prototypes: Tensor
    queries: Tensor

    def __add__(self, other: Products) -> Products:
        return Products(self.dots + other.dots, self.prototypes + other.prototypes, self.queries + other.queries)

    def cosines(self) -> Tensor:
        """(T, n, k, way)."""
        norms = (self.prototypes.unsqueeze(2) * self.queries.unsqueeze(-1)).clamp_min(1e-12).sqrt()
        return self.dots / norms


def leave_one_out(features: Tensor, way: int, support_pooling: PoolingKind, query_pooling: PoolingKind) -> Products:
    """Products for the n leave-one-out subtasks of every task in closed form (section 3.2.2).

    The query's own class has the prototype (k p - x) / (k - 1), the others k / k p; since cosines do not see length, sums
    stand for means.

    Args:
        features: (T, n, r, e), n = way * shot, images of a class beside each other.
        way: classes.
        support_pooling: gap or gmp.
        query_pooling: gap, gmp (eq. 11) or dense (eq. 12).
    """
    tasks, images = features.shape[:2]
    support = pool_locations(features, support_pooling).squeeze(2)
    queries = pool_locations(features, query_pooling)
    sums = support.view(tasks, way, images // way, -1).sum(2)
    own = torch.eye(way, device=features.device).repeat_interleave(images // way, dim=0)  # (n, way)
    dots = queries.flatten(1, 2) @ sums.transpose(1, 2)
    dots = dots.view(tasks, images, -1, way)
    itself = (queries * support.unsqueeze(2)).sum(-1)
    with_sum = (support @ sums.transpose(1, 2)) * own
    squares = support.square().sum(-1, keepdim=True)
    return Products(
        dots - itself.unsqueeze(-1) * own.unsqueeze(1),
        sums.square().sum(-1).unsqueeze(1) - 2 * with_sum + squares * own,
        queries.square().sum(-1),
    )


def leave_one_out_loss(cosines: Tensor, way: int, scale: float) -> tuple[Tensor, Tensor]:
    """From cosines (T, n, k, way): cross-entropy (T,) averaged over subtasks and locations, and accuracy (T,) of subtasks."""
    tasks, images, vectors = cosines.shape[:3]
    truth = torch.arange(way, device=cosines.device).repeat_interleave(images // way)
    labels = truth.view(1, images, 1).expand(tasks, images, vectors)
    losses = F.cross_entropy((scale * cosines).flatten(0, 2), labels.flatten(), reduction="none").view(tasks, -1).mean(1)
    votes = (scale * cosines.detach()).softmax(-1).mean(2).argmax(-1)
    return losses, (votes == truth).float().mean(1)


def train_implants(
    stream: FrozenStream,
    support: Tensor,
    tasks: list[int],
    settings: ImplantingSettings,
    seed: int,
    report: Callable[[int, Tensor, Tensor], None] = lambda epoch, losses, accuracies: None,
) -> tuple[Implants, dict[str, tuple[Tensor, Tensor]]]:
    """Train the implants of T tasks on their support sets.

    Args:
        stream: of all images.
        support: (T, way, shot) numbers of the support images in `stream`.
        tasks: the tasks' own numbers, which seed their initialisation.
        settings: of the method.
        seed: of the network.
        report: called every epoch with losses and accuracies (T,) of the leave-one-out subtasks.

    Returns:
        The implants and the statistics of their batch normalisation on the support set.

    Raises:
        ConfigError: one shot a class, for which the leave-one-out loss is not defined.
    """
    way, shot = support.shape[1:]
    if shot < 2:
        raise ConfigError("implants at 1 shot: the leave-one-out loss (eq. 11) needs at least two support images a class")
    seen = stream.take(support.flatten(1))
    implants = untrained(stream, tasks, settings, seed)
    optimizer = torch.optim.AdamW(implants.parameters.values(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
    poolings = settings.support_pooling, settings.query_pooling
    base = leave_one_out(seen.features, way, *poolings)  # the frozen channels' share, once a task
    for epoch in range(settings.epochs if settings.width else 0):  # without implants there is nothing to learn
        added = leave_one_out(implants(seen), way, *poolings)
        losses, accuracies = leave_one_out_loss((base + added).cosines(), way, settings.scale)
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]  # a task's gradient is its own: nothing is shared
        optimizer.step()
        report(epoch, losses.detach(), accuracies)
    statistics: dict[str, tuple[Tensor, Tensor]] = {}
    with torch.no_grad():
        implants(seen, statistics)
    return implants, statistics


def adapt_tasks(
    stream: FrozenStream,
    images: Tensor,
    way: int,
    shot: int,
    tasks: list[int],
    settings: ImplantingSettings,
    seed: int,
    report: Callable[[int, Tensor, Tensor], None],
) -> Tensor:
    """The channels that T tasks' implants add to the features of all their images: the method as stage 2 calls it.

    Args:
        stream: of all images.
        images: (T, n) numbers of each task's images in `stream`, the way * shot support images first, class by class.
        way, shot: of the tasks.
        tasks, settings, seed, report: see `train_implants`.

    Returns:
        (T, n, r, w).
    """
    support = images[:, : way * shot].view(-1, way, shot)
    implants, statistics = train_implants(stream, support, tasks, settings, seed, report)
    with torch.no_grad():  # piece by piece: as much in memory as training needs, however many queries a task has
        return torch.cat([implants(stream.take(part), statistics) for part in torch.split(images, way * shot, dim=1)], dim=1)
