"""Which queries of many tasks are classified right, by cosine (paper 000, eq. 13; dense queries eq. 14).

Pooled queries, one vector each, go task by task: their vectors are gathered into a buffer of about a cache's size and meet
their task's prototypes in one product. Dense queries go image by image: an image's locations meet the prototypes of all tasks
that query it in one product, so that its map is read once however many tasks share it.

What depends on the image alone is computed once an image: norms, and exponentials against the stage-1 classes, so that the
joint softmax over all classes costs one small product of the locations' weights with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

_GATHER_BYTES = {"cpu": 5 << 19, "cuda": 1 << 30}
"""Bytes of pooled query vectors gathered at once."""
_GROUP_BYTES = {"cpu": 4 << 20, "cuda": 1 << 30}
"""Bytes of prototypes gathered for a group of dense images."""


@dataclass(frozen=True)
class Vectors:
    """The feature vectors of all images, k = 1 where they are pooled.

    Attributes:
        values: (M, k, d).
        squares: squared norms, (M, k).
    """

    values: Tensor
    squares: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Self:
        """With their norms."""
        return cls(values, values.square().sum(-1))


@dataclass(frozen=True)
class BaseVotes:
    """Softmax terms of all images' vectors against the stage-1 classes.

    Attributes:
        highest: greatest scaled cosine, (M, k).
        terms: exponentials of the differences to it, (M, k, C).
        sums: of these over the classes, (M, k).
        labels: stage-1 classes of the images, any number for others, (M,).
        right: whether an image is right among the stage-1 classes, (M,).
    """

    highest: Tensor
    terms: Tensor
    sums: Tensor
    labels: Tensor
    right: Tensor

    @classmethod
    def of(cls, vectors: Vectors, weight: Tensor, labels: Tensor, scale: float) -> Self:
        """Against class weights (C, d)."""
        logits = vectors.values @ F.normalize(weight, dim=-1).T
        logits *= (scale * _inverse_norms(vectors.squares)).unsqueeze(-1)
        highest = logits.amax(-1)
        terms = logits.sub_(highest.unsqueeze(-1)).exp_()
        sums = terms.sum(-1)
        guesses = (terms / sums.unsqueeze(-1)).mean(1).argmax(-1)
        return cls(highest, terms, sums, labels, guesses == labels)


@dataclass(frozen=True)
class Tasks:
    """What the queries of t tasks are held against.

    Attributes:
        prototypes: of unit length, (t, way, d).
        added: products (t, n, k, way) and squared norms (t, n, k) of channels beside the vectors', of each task's own queries;
            the prototypes are then of unit length with theirs.
    """

    prototypes: Tensor
    added: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Answers:
    """Which queries are right, bool (t, n), or (t, 0) where it was not asked for.

    Attributes:
        alone: among their task's classes.
        joint: among these and the stage-1 classes.
    """

    alone: Tensor
    joint: Tensor


def right(
    vectors: Vectors, queries: Tensor, tasks: Tasks, scale: float, base: BaseVotes | None = None, of_base: bool = False
) -> Answers:
    """Judge the queries of t tasks.

    Args:
        vectors: of all images.
        queries: (t, n) numbers of images: class by class, equally many of each, or base images.
        tasks: what they are held against.
        scale: tau.
        base: of the same vectors at the same scale; none: no joint answer.
        of_base: the queries are base images; only the joint answer is given.
    """
    judge = _task_by_task if vectors.values.shape[1] == 1 else _image_by_image
    return judge(vectors, queries, tasks, scale, base, of_base)


def _truth(queries: Tensor, way: int) -> Tensor:
    return torch.arange(way, device=queries.device).repeat_interleave(queries.shape[1] // way)


def _task_by_task(
    vectors: Vectors, queries: Tensor, tasks: Tasks, scale: float, base: BaseVotes | None, of_base: bool
) -> Answers:
    (count, n), (way, channels) = queries.shape, tasks.prototypes.shape[1:]
    values, rows = vectors.values[:, 0], queries.flatten()
    dots = values.new_empty(count, n, way)
    against = tasks.prototypes.transpose(1, 2)
    step = max(1, _GATHER_BYTES[values.device.type] // (n * channels * values.element_size()))
    buffer = values.new_empty(min(step, count) * n, channels)
    for start in range(0, count, step):
        end = min(start + step, count)
        gathered = torch.index_select(values, 0, rows[start * n : end * n], out=buffer[: (end - start) * n])
        torch.bmm(gathered.view(end - start, n, channels), against[start:end], out=dots[start:end])
    if tasks.added is not None:
        dots += tasks.added[0].squeeze(2)
    nothing = torch.zeros(count, 0, dtype=torch.bool, device=queries.device)
    alone = nothing if of_base else dots.argmax(-1) == _truth(queries, way)  # a query's length does not change its arg-max
    if base is None:
        return Answers(alone, nothing)
    best = dots.amax(-1) * (scale * _inverse_norms(vectors.squares[:, 0]))[queries]
    best_other = base.highest[:, 0][queries]
    return Answers(alone, base.right[queries] & (best_other >= best) if of_base else alone & (best > best_other))


def _image_by_image(
    vectors: Vectors, queries: Tensor, tasks: Tasks, scale: float, base: BaseVotes | None, of_base: bool
) -> Answers:
    (count, n), (way, channels) = queries.shape, tasks.prototypes.shape[1:]
    asked = (not of_base, base is not None)
    alone, joint = (torch.zeros(count, n if one else 0, dtype=torch.bool, device=queries.device) for one in asked)
    truth, rows = _truth(queries, way), tasks.prototypes.flatten(0, 1)
    classes = torch.arange(way, device=queries.device).unsqueeze(-1)
    for group in _groups(queries, way * channels * rows.element_size()):
        size, most = group.places.shape
        wanted = (group.places // n * way).unsqueeze(1) + classes  # (g, way, s)
        against = rows.index_select(0, wanted.flatten()).view(size, way * most, channels)
        logits = (vectors.values[group.images] @ against.transpose(1, 2)).view(size, -1, way, most)
        squares = vectors.squares[group.images].unsqueeze(-1)  # (g, k, 1)
        if tasks.added is not None:
            dots, more = (part.flatten(0, 1)[group.places] for part in tasks.added)  # (g, s, k, way), (g, s, k)
            logits += dots.permute(0, 2, 3, 1)
            squares = squares + more.transpose(1, 2)
        logits *= (scale * _inverse_norms(squares)).unsqueeze(2)
        highest = logits.amax(2)
        terms = logits.sub_(highest.unsqueeze(2)).exp_()
        sums, there, places = terms.sum(2), group.there, group.places[group.there]
        own = truth[group.places % len(truth)]
        if not of_base:
            alone.view(-1)[places] = (_first_best((terms / sums.unsqueeze(2)).sum(1)) == own)[there]
        if base is None:
            continue
        # The softmax over all classes from its two parts, each with the exponent of its own highest cosine.
        of_stage1 = base.highest[group.images].unsqueeze(-1)
        top = torch.maximum(highest, of_stage1)
        share, others_share = (highest - top).exp_(), (of_stage1 - top).exp_()
        total = sums * share + base.sums[group.images].unsqueeze(-1) * others_share
        votes = (terms * (share / total).unsqueeze(2)).sum(1)  # (g, way, s)
        others = (others_share / total).transpose(1, 2) @ base.terms[group.images]  # (g, s, C)
        best, best_other = votes.amax(1), others.amax(-1)
        if of_base:
            answer = (others.argmax(-1) == base.labels[group.images].unsqueeze(-1)) & (best_other >= best)
        else:
            answer = (_first_best(votes) == own) & (best > best_other)
        joint.view(-1)[places] = answer[there]
    return Answers(alone, joint)


@dataclass(frozen=True)
class _Group:
    """The queries of a few images, padded.

    Attributes:
        images: their numbers, (g,).
        places: number t * n + i of every query of an image, (g, s).
        there: which of them are no padding, (g, s).
    """

    images: Tensor
    places: Tensor
    there: Tensor


def _groups(queries: Tensor, bytes_per_query: int) -> Iterator[_Group]:
    """Queries (t, n) by image, in groups of images that are queried about equally often, so that little is padded."""
    sorted_images, order = queries.flatten().sort(stable=True)
    images, counts = torch.unique_consecutive(sorted_images, return_counts=True)
    starts = counts.cumsum(0) - counts
    counts, by_count = counts.sort(descending=True)
    images, starts = images[by_count], starts[by_count].unsqueeze(-1)
    sizes, limit, first = counts.tolist(), _GROUP_BYTES[queries.device.type], 0
    while first < len(sizes):
        part = slice(first, first + max(1, limit // (sizes[first] * bytes_per_query)))
        steps = torch.arange(sizes[first], device=queries.device)
        there = steps < counts[part].unsqueeze(-1)
        yield _Group(images[part], order[starts[part] + steps * there], there)
        first = part.stop


def _inverse_norms(squares: Tensor) -> Tensor:
    return squares.sqrt().clamp_min(1e-12).reciprocal()


def _first_best(votes: Tensor) -> Tensor:
    """(g, c, s) -> (g, s): the arg-max over c; over the last axis it is many times faster than over another."""
    return votes.transpose(1, 2).contiguous().argmax(-1)
