"""The plain forms: one task after the other, as the papers' equations read.

Tests hold `src` against them, and every ratio of the benchmark is one to them.

Paper 000: Y. Lifchitz et al., Dense Classification and Implanting for Few-Shot Learning, CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot.config import ImplantingSettings
from fewshot.models.backbones.resnet12 import ResidualBlock
from fewshot.models.heads import PoolingKind, locations, pool_locations

Index = npt.NDArray[np.int64]


def predict(queries: Tensor, classes: Tensor, scale: float) -> Tensor:
    """The class of every query by its softmax over cosines, averaged over its vectors (eq. 13 and 14).

    Args:
        queries: (n, k, d).
        classes: prototypes or class weights, (c, d).
        scale: tau.

    Returns:
        (n,) class numbers.
    """
    cosines = F.normalize(queries, dim=-1) @ F.normalize(classes, dim=-1).T
    return (scale * cosines).softmax(-1).mean(1).argmax(-1)


def accuracies(
    of_support: Tensor,
    of_query: Tensor,
    support: Index,
    query: Index,
    scale: float,
    base: tuple[Index, Tensor, Tensor] | None = None,
) -> dict[str, list[float]]:
    """Accuracies of tasks in percent.

    Args:
        of_support: pooled features of all images, (M, d).
        of_query: vectors of all images as queries, (M, k, d).
        support: (T, way, shot) numbers of images.
        query: (T, way, queries).
        scale: tau.
        base: (T, n) numbers of base images, the labels (M,) and the class weights (C, d); for the populations base and both.
    """
    out: dict[str, list[float]] = {"novel": []} if base is None else {"novel": [], "base": [], "both": []}
    device = of_query.device
    truth = torch.arange(support.shape[1], device=device).repeat_interleave(query.shape[2])
    for t in range(len(support)):
        prototypes = of_support[torch.from_numpy(support[t]).to(device)].mean(1)
        queries = of_query[torch.from_numpy(query[t]).flatten().to(device)]
        out["novel"].append(_percent(predict(queries, prototypes, scale) == truth))
        if base is not None:
            images = torch.from_numpy(base[0][t]).to(device)
            others, labels, weights = of_query[images], base[1][images], base[2]
            out["base"].append(_percent(predict(others, weights, scale) == labels))
            joint = predict(torch.cat([queries, others]), torch.cat([weights, prototypes]), scale)
            out["both"].append(_percent(joint == torch.cat([truth + len(weights), labels])))
    return out


def _percent(right: Tensor) -> float:
    return 100 * float(right.float().mean())


def implanted(
    block: ResidualBlock,
    x: Tensor,
    parameters: Mapping[str, Tensor],
    settings: ImplantingSettings,
    statistics: dict[str, tuple[Tensor, Tensor]] | None = None,
) -> Tensor:
    """The last block with implants beside its convolutions (section 3.2.1): features (n, r, d + w).

    Args:
        block: of the frozen network, in evaluation mode.
        x: its input, (n, c, H, W).
        parameters: of one task's implants, as `fewshot.methods.implanting.Implants` names them.
        settings: of the method.
        statistics: of the batch normalisation; filled where they are missing.
    """
    statistics = {} if statistics is None else statistics

    def normalised(maps: Tensor, name: str) -> Tensor:
        if not settings.batch_norm:
            return maps
        if name not in statistics:
            statistics[name] = maps.mean((0, 2, 3), keepdim=True), maps.var((0, 2, 3), correction=0, keepdim=True)
        mean, variance = statistics[name]
        gain, bias = (parameters[f"{kind}{name}"].view(1, -1, 1, 1) for kind in ("gain", "bias"))
        return (maps - mean) / (variance + 1e-5).sqrt() * gain + bias

    def convolution(maps: list[Tensor], *names: str) -> Tensor:  # of the concatenated maps: an ordinary (w, c, 3, 3) weight
        weight = torch.cat([parameters[name] for name in names], dim=-1).permute(0, 3, 1, 2)
        return F.conv2d(torch.cat(maps, dim=1), weight, padding=1)

    x, first, second = block.hidden(x)
    a = F.silu(normalised(convolution([x], "w1"), "1"))
    a = F.silu(normalised(convolution([first, a], "w2", "v2"), "2"))
    a = normalised(convolution([second, a], "w3", "v3"), "3")
    if settings.shortcut:
        a = a + normalised(F.conv2d(x, parameters["shortcut"].T[:, :, None, None]), "s")
    return torch.cat([locations(block.finish(x, second)), locations(F.max_pool2d(F.silu(a), 2))], dim=-1)


def leave_one_out(
    features: Tensor, way: int, support_pooling: PoolingKind, query_pooling: PoolingKind, scale: float
) -> tuple[Tensor, Tensor]:
    """Loss and accuracy of one task's leave-one-out subtasks (eq. 11 and 12).

    Args:
        features: (n, r, e), n = way * shot, class by class.
        way: classes.
        support_pooling: gap or gmp.
        query_pooling: gap, gmp or dense.
        scale: tau.
    """
    images = len(features)
    support = pool_locations(features, support_pooling).squeeze(1)
    queries = pool_locations(features, query_pooling)
    labels = torch.arange(way, device=features.device).repeat_interleave(images // way)
    losses, right = [], []
    for i in range(images):
        others = torch.arange(images, device=features.device) != i
        prototypes = torch.stack([support[(labels == j) & others].mean(0) for j in range(way)])
        logits = scale * F.cosine_similarity(queries[i].unsqueeze(1), prototypes.unsqueeze(0), dim=-1)
        losses.append(F.cross_entropy(logits, labels[i].expand(len(logits))))
        right.append(logits.softmax(-1).mean(0).argmax() == labels[i])
    return torch.stack(losses).mean(), torch.stack(right).float().mean()


def train_implants(
    block: ResidualBlock, x: Tensor, way: int, parameters: Mapping[str, Tensor], settings: ImplantingSettings
) -> tuple[dict[str, Tensor], list[float]]:
    """Train one task's implants (section 3.2.2): every epoch the whole block, forward and backward.

    Args:
        block: of the frozen network, in evaluation mode; its parameters do not learn.
        x: its input for the support images, (n, c, H, W).
        way: classes.
        parameters: initial values.
        settings: of the method.

    Returns:
        The trained parameters and the loss of every epoch.
    """
    trained = {name: nn.Parameter(value.detach().clone()) for name, value in parameters.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=settings.lr, weight_decay=settings.weight_decay)
    curve = []
    for _ in range(settings.epochs):
        features = implanted(block, x, trained, settings)
        loss, _ = leave_one_out(features, way, settings.support_pooling, settings.query_pooling, settings.scale)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        curve.append(float(loss.detach()))
    return {name: value.detach() for name, value in trained.items()}, curve
