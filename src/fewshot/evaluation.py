"""Episodic evaluation from cached features (paper 000, sections 3.3 and 5.1).

A prototype is the mean of the pooled support features (eq. 1). A query is compared by cosine: pooled (eq. 13), or densely,
where each location votes with its softmax (eq. 14). Populations: `novel`, the task's queries against its prototypes; `base`,
held-out base images against the stage-1 class weights; `both`, all of them against class weights and prototypes jointly.

Tasks are handled in chunks: gather the queries' features, one batched product with the prototypes, divide by the norms. The
norms and the base-class cosines are computed once an image. On a CPU that gather is what costs; where a query has more vectors
than its task has prototypes, the prototypes of all tasks that query an image are gathered instead, image by image. Memory is
bounded by the chunk, never by the number of tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fewshot.episodes import Episodes
from fewshot.errors import ConfigError
from fewshot.features import Features
from fewshot.models.heads import PoolingKind, pool_locations
from fewshot.models.network import Network

Accuracies = dict[str, npt.NDArray[np.float64]]
_CHUNK_BYTES = {"cpu": 24 << 20, "cuda": 1 << 30}
"""Bytes of gathered query features a chunk: about the cache on a CPU."""
_IMAGE_MAJOR_BYTES = 256 << 20
"""Bytes of cosines a chunk when tasks are handled image by image: the more tasks share an image, the better."""


@dataclass(frozen=True)
class ClassWeights:
    """The stage-1 classifier, for the base and both populations.

    Attributes:
        weight: (C, d).
        labels: int64 (M,), base class of each feature row (any number for novel images).
    """

    weight: Tensor
    labels: Tensor


@dataclass(frozen=True)
class _Pooled:
    """Pooled features of all images: vectors (M, k, d) and their squared norms (M, k)."""

    values: Tensor
    squares: Tensor

    @classmethod
    def of(cls, features: Tensor, kind: PoolingKind) -> _Pooled:
        values = pool_locations(features, kind)
        return cls(values, values.square().sum(-1))


def class_weights(network: Network, labels: npt.NDArray[np.int64]) -> ClassWeights | None:
    """The class weights of a network, for feature rows with these labels; None for a classifier of flattened features.

    Weights on flattened features have one part a location, so pooled features cannot be held against them.
    """
    if network.settings.classifier.pooling == "flatten":
        return None
    weight = network.classifier.weight
    return ClassWeights(weight.detach(), torch.from_numpy(labels).to(weight.device))


class Evaluator:
    """Evaluates settings on the features of one network; what settings share is computed once.

    Args:
        features: of all images that the tasks name.
        device: where to compute.
        classes: for the base and both populations; may be None when neither is asked for.
    """

    def __init__(self, features: Features, device: torch.device, classes: ClassWeights | None = None) -> None:
        self.features = features
        self.device = device
        self.classes = classes
        self._values = torch.from_numpy(np.array(features.values)).to(device)
        self._pooled: dict[str, _Pooled] = {}
        self._against_base: dict[str, Tensor] = {}

    def _pool(self, kind: PoolingKind) -> _Pooled:
        if kind not in self._pooled:
            self._pooled[kind] = _Pooled.of(self._values, kind)
        return self._pooled[kind]

    def _rows(self, rows: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.features.index(rows)).to(self.device)

    def _chunk(self, queries: int, way: int, vectors: Tensor, image_major: bool) -> int:
        per_task = queries * vectors.shape[1] * (way if image_major else vectors.shape[2]) * vectors.element_size()
        return max(1, (_IMAGE_MAJOR_BYTES if image_major else _CHUNK_BYTES[self.device.type]) // per_task)

    @torch.inference_mode()
    def accuracies(
        self,
        episodes: Episodes,
        support_pooling: PoolingKind,
        query_pooling: PoolingKind,
        scale: float,
        populations: tuple[str, ...] = ("novel",),
        tasks: int | None = None,
        adapted: npt.NDArray[np.float16] | None = None,
    ) -> Accuracies:
        """Accuracy of every task in percent, one array of T a population.

        Args:
            episodes: the tasks.
            support_pooling: gap or gmp.
            query_pooling: gap, gmp or dense.
            scale: tau of dense queries (eq. 14); without effect on pooled ones.
            populations: novel, base, both.
            tasks: only the first so many.
            adapted: (T', way (shot + queries), r, e) channels a stage-2 method added, the support images first;
                beside the network's own channels. Only for the novel population.
        """
        count = len(episodes.support) if tasks is None else tasks
        found: dict[str, list[Tensor]] = {population: [] for population in populations}
        base_right = None
        if "base" in found:
            base_right = _vote(self._base_cosines(query_pooling), scale) == self._known.labels
        vectors, way = self._pool(query_pooling).values, episodes.support.shape[1]
        image_major = vectors.shape[1] > way and self.device.type == "cpu" and adapted is None and "both" not in found
        chunk = self._chunk(episodes.query[0].size, way, vectors, image_major)
        for start, support, query, base in self._chunks(episodes, count, chunk):
            extra = None
            if adapted is not None:
                extra = torch.from_numpy(np.array(adapted[start : start + len(support)])).to(self.device).float()
            prototypes = self._prototypes(support, support_pooling, extra)
            if image_major:
                cosines = self._cosines_image_major(query, query_pooling, prototypes)
            else:
                cosines = self._cosines(query, query_pooling, prototypes, extra)
            truth = torch.arange(support.shape[1], device=self.device).repeat_interleave(query.shape[1] // support.shape[1])
            if "novel" in found:
                found["novel"].append((_vote(cosines, scale) == truth).float().mean(1))
            if base_right is not None:
                found["base"].append(base_right[base].float().mean(1))
            if "both" in found:
                found["both"].append(self._joint(query, base, truth, prototypes, cosines, query_pooling, scale))
        return {name: torch.cat(parts).double().mul(100).cpu().numpy() for name, parts in found.items()}

    def _chunks(self, episodes: Episodes, count: int, size: int) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        support = self._rows(episodes.support[:count])
        query = self._rows(episodes.query[:count]).flatten(1)
        base = self._rows(episodes.base[:count]) if episodes.base.shape[1] and self.classes is not None else query[:, :0]
        for start in range(0, count, size):
            part = slice(start, start + size)
            yield start, support[part], query[part], base[part]

    def _prototypes(self, support: Tensor, kind: PoolingKind, extra: Tensor | None) -> Tensor:
        """Prototypes (t, way, d) (eq. 1), scaled to unit length, since only their direction matters."""
        values = self._pool(kind).values[support, 0]
        if extra is not None:
            images = extra[:, : support[0].numel()]
            values = torch.cat([values, pool_locations(images, kind).reshape(*support.shape, -1)], dim=-1)
        return F.normalize(values.mean(2), dim=-1)

    def _cosines(self, query: Tensor, kind: PoolingKind, prototypes: Tensor, extra: Tensor | None = None) -> Tensor:
        """Cosine of every query vector with every prototype of its task: (t, n, k, way)."""
        pooled = self._pool(kind)
        values, squares = pooled.values[query], pooled.squares[query]
        channels = values.shape[-1]
        dots = values.flatten(1, 2) @ prototypes[..., :channels].transpose(1, 2)
        if extra is not None:
            added = pool_locations(extra[:, -query.shape[1] :], kind)
            dots += added.flatten(1, 2) @ prototypes[..., channels:].transpose(1, 2)
            squares = squares + added.square().sum(-1)
        return dots.view(*query.shape, -1, prototypes.shape[1]) / squares.sqrt().clamp_min(1e-12).unsqueeze(-1)

    def _cosines_image_major(self, query: Tensor, kind: PoolingKind, prototypes: Tensor) -> Tensor:
        """As `_cosines`, image by image: one product of its vectors with the prototypes of all tasks that query it."""
        pooled = self._pool(kind)
        queries, (way, channels) = query.shape[1], prototypes.shape[1:]
        out = torch.empty(query.numel(), pooled.values.shape[1], way)
        images, order = query.flatten().sort(stable=True)
        used, counts = torch.unique_consecutive(images, return_counts=True)
        for image, places in zip(used.tolist(), torch.split(order, counts.tolist()), strict=True):
            against = prototypes[places // queries].view(-1, channels)
            dots = pooled.values[image] @ against.T
            cosines = dots / pooled.squares[image].sqrt().clamp_min(1e-12).unsqueeze(-1)
            out[places] = cosines.view(-1, len(places), way).transpose(0, 1)
        return out.view(*query.shape, -1, way)

    def _base_cosines(self, kind: PoolingKind) -> Tensor:
        """Cosine of every image's vectors with the class weights: (M, k, C)."""
        if kind not in self._against_base:
            pooled = self._pool(kind)
            cosines = pooled.values @ F.normalize(self._known.weight, dim=-1).T
            self._against_base[kind] = cosines / pooled.squares.sqrt().clamp_min(1e-12).unsqueeze(-1)
        return self._against_base[kind]

    @property
    def _known(self) -> ClassWeights:
        if self.classes is None:
            raise ConfigError(
                "populations base and both need the class weights of a cosine classifier on gap, gmp or dense features"
            )
        return self.classes

    def _joint(
        self,
        query: Tensor,
        base: Tensor,
        truth: Tensor,
        prototypes: Tensor,
        cosines: Tensor,
        kind: PoolingKind,
        scale: float,
    ) -> Tensor:
        """Share of novel and base queries right among all C + way classes (protocol of Gidaris and Komodakis, 2018)."""
        weights = self._base_cosines(kind)
        novel = _vote(torch.cat([weights[query], cosines], dim=-1), scale)
        others = _vote(torch.cat([weights[base], self._cosines(base, kind, prototypes)], dim=-1), scale)
        right = torch.cat([novel == truth + weights.shape[-1], others == self._known.labels[base]], dim=1)
        return right.float().mean(1)


def _vote(cosines: Tensor, scale: float) -> Tensor:
    """(..., k, c) -> (...): arg-max of the softmax averaged over the k locations (eq. 14); with k = 1 simply the arg-max."""
    if cosines.shape[-2] == 1:
        return cosines.squeeze(-2).argmax(-1)
    return (scale * cosines).softmax(-1).mean(-2).argmax(-1)


def interval(accuracies: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean over tasks and half the 95 % interval, 1.96 s / sqrt(T) with the sample deviation s, as the papers have it."""
    half = 1.96 * accuracies.std(ddof=1) / np.sqrt(len(accuracies)) if len(accuracies) > 1 else 0.0
    return float(accuracies.mean()), float(half)
