"""Episodic evaluation from cached features (paper 000, sections 3.3 and 5.1).

A prototype is the mean of the pooled support features (eq. 1). A query is compared by cosine: pooled (eq. 13), or densely,
where each location votes with its softmax (eq. 14). Populations: `novel`, the task's queries against its prototypes; `base`,
held-out base images against the stage-1 class weights; `both`, all of them against class weights and prototypes jointly.

Tasks are judged in blocks (`fewshot.votes`), so that memory does not grow with their number. What all blocks and settings
share is computed once an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
from fewshot.votes import BaseVotes, Tasks, Vectors, right, task_by_task

Accuracies = dict[str, npt.NDArray[np.float64]]
_BLOCK_BYTES = {("cpu", True): 16 << 20, ("cpu", False): 256 << 20, ("cuda", True): 256 << 20, ("cuda", False): 256 << 20}
"""Bytes of prototypes and added channels of a block of tasks, by device and whether it is judged task by task: then so many
that queries of one class follow each other, and so few that they stay in the cache; image by image, the more tasks share a map,
the better."""


@dataclass(frozen=True)
class ClassWeights:
    """The stage-1 classifier, for the base and both populations.

    Attributes:
        weight: (C, d).
        labels: int64 (M,), base class of each feature row (any number for novel images).
    """

    weight: Tensor
    labels: Tensor


def class_weights(network: Network, labels: npt.NDArray[np.int64]) -> ClassWeights | None:
    """The class weights (C, d) of a network, for feature rows with labels (M,); None for a classifier of flattened features.

    Weights on flattened features have one part a location, so pooled features cannot be held against them.
    """
    weight = network.classifier.weight
    if weight is None or network.settings.classifier.pooling == "flatten":
        return None
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
        self._pooled: dict[PoolingKind, Vectors] = {}
        self._base_votes: dict[tuple[PoolingKind, float], BaseVotes] = {}

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

        Raises:
            ConfigError: the base or both population of a network without class weights for them.
            DataError: a task names an image without features.
        """
        count = len(episodes.support) if tasks is None else tasks
        vectors, joint = self._pool(query_pooling), "both" in populations
        base = self._against_base(query_pooling, scale) if {"base", "both"} & set(populations) else None
        found: dict[str, list[Tensor]] = {population: [] for population in populations}
        size = self._block(episodes, vectors, adapted)
        for start in range(0, count, size):
            part = slice(start, min(start + size, count))
            query, extra = self._rows(episodes.query[part]).flatten(1), self._extra(adapted, part)
            held = self._tasks(self._rows(episodes.support[part]), query, support_pooling, query_pooling, extra)
            answers = right(vectors, query, held, scale, base if joint else None)
            right_in = {"novel": answers.alone}
            if base is not None:
                others = self._rows(episodes.base[part])
                right_in["base"] = base.right[others]
                if joint:
                    of_base = right(vectors, others, held, scale, base, of_base=True)
                    right_in["both"] = torch.cat([answers.joint, of_base.joint], dim=1)
            for population, parts in found.items():
                parts.append(right_in[population].double().mean(1))
        return {name: torch.cat(parts).mul(100).cpu().numpy() for name, parts in found.items()}

    @cached_property
    def values(self) -> Tensor:
        """Features of all images (M, r, d), on the device: of settings that are judged by predictions alone none are read."""
        return self.features.tensor(self.device)

    def _pool(self, kind: PoolingKind) -> Vectors:
        if kind not in self._pooled:
            self._pooled[kind] = Vectors.of(pool_locations(self.values, kind))
        return self._pooled[kind]

    def _against_base(self, kind: PoolingKind, scale: float) -> BaseVotes:
        if self.classes is None:
            raise ConfigError(
                "populations base and both need the class weights of a cosine classifier on gap, gmp or dense features"
            )
        if (kind, scale) not in self._base_votes:
            self._base_votes[kind, scale] = BaseVotes.of(self._pool(kind), self.classes.weight, self.classes.labels, scale)
        return self._base_votes[kind, scale]

    def _rows(self, rows: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.features.index(rows)).to(self.device)

    def _extra(self, adapted: npt.NDArray[np.float16] | None, part: slice) -> Tensor | None:
        return None if adapted is None else torch.from_numpy(np.array(adapted[part])).to(self.device).float()

    def _block(self, episodes: Episodes, vectors: Vectors, adapted: npt.NDArray[np.float16] | None) -> int:
        """Tasks to judge at once."""
        way, queries = episodes.query.shape[1:]
        locations, channels = vectors.values.shape[1:]
        values = way * channels
        if adapted is not None:
            values += 2 * adapted[0].size + way * queries * locations * (way + 1)
        limit = _BLOCK_BYTES[self.device.type, task_by_task(locations, way)]
        return max(1, limit // (4 * int(values)))

    def _tasks(
        self, support: Tensor, query: Tensor, support_pooling: PoolingKind, query_pooling: PoolingKind, extra: Tensor | None
    ) -> Tasks:
        """Prototypes (eq. 1) of unit length, since only their direction matters."""
        tasks, way, shot = support.shape
        values = self._pool(support_pooling).values[:, 0]
        sums = F.embedding_bag(support.flatten(0, 1), values, mode="sum").view(tasks, way, -1)
        if extra is None:
            return Tasks(sums.div_(sums.norm(dim=-1, keepdim=True).clamp_min_(1e-12)))  # in place: new memory costs as much
        added = pool_locations(extra[:, : way * shot], support_pooling).view(tasks, way, shot, -1).sum(2)
        prototypes = F.normalize(torch.cat([sums, added], dim=-1), dim=-1)
        own, beside = prototypes.split([sums.shape[-1], added.shape[-1]], dim=-1)  # type: ignore[no-untyped-call]
        queries = pool_locations(extra[:, -query.shape[1] :], query_pooling)
        dots = (queries.flatten(1, 2) @ beside.transpose(1, 2)).view(*queries.shape[:3], way)
        return Tasks(own.contiguous(), (dots, queries.square().sum(-1)))
