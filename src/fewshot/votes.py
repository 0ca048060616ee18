"""Which queries of many tasks are classified right, by cosine (paper 000, eq. 13; dense queries eq. 14).

Queries with no more vectors than their task has prototypes go task by task, those of one class in all tasks one after the
other: their vectors are gathered into a buffer of about a cache's size and meet the prototypes in one product. Others go image
by image: an image's locations meet the prototypes of all tasks that query it in one product, so that its map is read once
however many tasks share it. Where the one overtakes the other was measured (docs/measured/benchmark.md).

What depends on the image alone is computed once an image: norms, and exponentials against the stage-1 classes, so that the
joint softmax over all classes costs one small product of the locations' weights with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

_GATHER_BYTES = {"cpu": 5 << 20, "cuda": 1 << 30}
"""Bytes of query vectors gathered at once, task by task."""
_PRODUCT_BYTES = {"cpu": 2 << 20, "cuda": 1 << 26}
"""Bytes of their products with the prototypes. Terms of the stage-1 classes beside them take more by as much as these are more:
for 5-way tasks and a thousand such classes 12.5 GiB on CUDA."""
_GROUP_BYTES = {"cpu": 4 << 20, "cuda": 1 << 30}
"""Bytes of prototypes gathered at once, image by image."""


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
    few = task_by_task(vectors.values.shape[1], tasks.prototypes.shape[1])
    return (_task_by_task if few else _image_by_image)(vectors, queries, tasks, scale, base, of_base)


def task_by_task(locations: int, way: int) -> bool:
    """Whether queries of so many vectors go task by task; else image by image. From measurements."""
    return locations <= way


@dataclass(frozen=True)
class _Stage1:
    """Stage-1 classes for a group of queries: their `BaseVotes`, broadcast to (g, k, s), labels and right to (g, s).

    Attributes:
        votes: from the locations' weights (g, k, s) to the votes of the classes (g, s, C).
    """

    highest: Tensor
    sums: Tensor
    labels: Tensor
    right: Tensor
    votes: Callable[[Tensor], Tensor]


def _answers(logits: Tensor, own: Tensor, stage1: _Stage1 | None, of_base: bool) -> tuple[Tensor | None, Tensor | None]:
    """The two answers (g, s), None where not asked for, from scaled cosines (g, k, way, s), which are overwritten."""
    if logits.shape[1] == 1:  # one vector: no exponentials are needed to compare two softmaxes of one sum
        alone = None if of_base else _first_best(logits[:, 0]) == own
        if stage1 is None:
            return alone, None
        best, others = logits[:, 0].amax(1), stage1.highest[:, 0]
        return alone, stage1.right & (others >= best) if alone is None else alone & (best > others)
    highest = logits.amax(2)
    terms = logits.sub_(highest.unsqueeze(2)).exp_()
    sums = terms.sum(2)
    alone = None if of_base else _first_best((terms / sums.unsqueeze(2)).sum(1)) == own
    if stage1 is None:
        return alone, None
    # The softmax over all classes from its two parts, each with the exponent of its own highest cosine.
    top = torch.maximum(highest, stage1.highest)
    share, others_share = (highest - top).exp_(), (stage1.highest - top).exp_()
    total = sums * share + stage1.sums * others_share
    votes = (terms * (share / total).unsqueeze(2)).sum(1)
    others = stage1.votes(others_share / total)
    best, best_other = votes.amax(1), others.amax(-1)
    if of_base:
        return None, (others.argmax(-1) == stage1.labels) & (best_other >= best)
    return alone, (_first_best(votes) == own) & (best > best_other)


def _task_by_task(
    vectors: Vectors, queries: Tensor, tasks: Tasks, scale: float, base: BaseVotes | None, of_base: bool
) -> Answers:
    (count, n), way, k = queries.shape, tasks.prototypes.shape[1], vectors.values.shape[1]
    alone, joint = _nothing_yet(queries, base, of_base)
    own, inverse = _truth(queries, way), scale * _inverse_norms(vectors.squares)
    size = max(1, _PRODUCT_BYTES[queries.device.type] // (4 * n * k * way))
    for start in range(0, count, size):
        part = slice(start, min(start + size, count))
        images = queries[part]
        logits = _products(vectors.values, images, tasks.prototypes[part], 1 if of_base else way)
        if tasks.added is not None:
            dots, more = (values[part] for values in tasks.added)
            logits += dots.permute(0, 2, 3, 1)
            logits *= (scale * _inverse_norms(vectors.squares[images] + more)).transpose(1, 2).unsqueeze(2)
        elif k > 1 or base is not None:  # else a query's length is a factor of all that is compared
            logits *= inverse[images].transpose(1, 2).unsqueeze(2)
        stage1 = None
        if base is not None:
            highest, sums = base.highest[images], base.sums[images]
            stage1 = _Stage1(
                highest.transpose(1, 2), sums.transpose(1, 2), base.labels[images],
                base.right[images], partial(_votes_of_places, base.terms, images),
            )  # fmt: skip
        for whole, answer in zip((alone, joint), _answers(logits, own, stage1, of_base), strict=True):
            if answer is not None:
                whole[part] = answer
    return Answers(alone, joint)


def _products(values: Tensor, images: Tensor, prototypes: Tensor, classes: int) -> Tensor:
    """Dot products (t, k, way, n) of the vectors of images (t, n), `classes` of equally many each, with prototypes (t, way, d).

    The queries of one class, in all tasks, come one after the other: their images lie together, so that most are in the cache.
    """
    (tasks, n), (_, k, channels), way = images.shape, values.shape, prototypes.shape[1]
    sets = images.view(tasks * classes, -1)  # of one class and task
    order = sets[:, 0].argsort()
    task, size = order // classes, k * sets.shape[1]
    locations = torch.arange(k, device=images.device).unsqueeze(-1)
    rows = (sets[order].unsqueeze(1) * k + locations).flatten()  # (sets, k, n / classes)
    dots = values.new_empty(len(sets), size, way)
    step = max(1, _GATHER_BYTES[values.device.type] // (size * channels * values.element_size()))
    buffer = values.new_empty(min(step, len(sets)) * size, channels)
    for start in range(0, len(sets), step):
        part = slice(start, min(start + step, len(sets)))
        wanted = rows[part.start * size : part.stop * size]
        gathered = torch.index_select(values.flatten(0, 1), 0, wanted, out=buffer[: len(wanted)]).view(-1, size, channels)
        torch.bmm(gathered, prototypes.index_select(0, task[part]).transpose(1, 2), out=dots[part])
    dots = dots.index_select(0, order.argsort()).view(tasks, classes, k, -1, way)
    dots = dots.transpose(1, 2).reshape(tasks, k, n, way).transpose(2, 3)
    return dots if k == 1 else dots.contiguous()  # reductions over classes are fast where these are not innermost


def _image_by_image(
    vectors: Vectors, queries: Tensor, tasks: Tasks, scale: float, base: BaseVotes | None, of_base: bool
) -> Answers:
    n, (way, channels) = queries.shape[1], tasks.prototypes.shape[1:]
    alone, joint = _nothing_yet(queries, base, of_base)
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
        stage1 = None
        if base is not None:
            highest, sums = base.highest[group.images], base.sums[group.images]
            stage1 = _Stage1(
                highest.unsqueeze(-1), sums.unsqueeze(-1), base.labels[group.images].unsqueeze(-1),
                base.right[group.images].unsqueeze(-1),
                partial(_votes_of_images, base.terms, group.images),
            )  # fmt: skip
        for whole, answer in zip((alone, joint), _answers(logits, truth[group.places % n], stage1, of_base), strict=True):
            if answer is not None:
                whole.view(-1)[group.places[group.there]] = answer[group.there]
    return Answers(alone, joint)


def _votes_of_places(terms: Tensor, images: Tensor, weights: Tensor) -> Tensor:
    """`_Stage1.votes` where each query is of an image of its own, (g, s)."""
    return terms[images].mul_(weights.transpose(1, 2).unsqueeze(-1)).sum(2)  # in place: it is the largest of all


def _votes_of_images(terms: Tensor, images: Tensor, weights: Tensor) -> Tensor:
    """`_Stage1.votes` where the queries of a row are of one image, (g,)."""
    return weights.transpose(1, 2) @ terms[images]


def _truth(queries: Tensor, way: int) -> Tensor:
    """Class in the task of every query, (n,)."""
    return torch.arange(way, device=queries.device).repeat_interleave(queries.shape[1] // way)


def _nothing_yet(queries: Tensor, base: BaseVotes | None, of_base: bool) -> tuple[Tensor, Tensor]:
    shapes = (queries.shape if asked else (len(queries), 0) for asked in (not of_base, base is not None))
    alone, joint = (torch.zeros(shape, dtype=torch.bool, device=queries.device) for shape in shapes)
    return alone, joint


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
