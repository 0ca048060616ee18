"""One's own images: queries among classes that a few support images stand for, by a trained network.

The same prototypes, poolings and implants as in the evaluation (paper 000, eq. 1, 11-14), on one task that has no truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from fewshot import features
from fewshot.checkpoint import load_network
from fewshot.config import ImplantingSettings
from fewshot.data.loose import class_folders, decoded, listed, named
from fewshot.data.sources.folder import beside
from fewshot.device import select_device
from fewshot.errors import ConfigError, DataError
from fewshot.methods import implanting
from fewshot.methods.prototypical import distances, prototypes
from fewshot.models.heads import pool_locations, probabilities, scaled_cosine
from fewshot.models.network import Network
from fewshot.transfer import network_folder

NEAREST = 3
SHOWN = 112
"""Pixels of the pictures to look at."""


@dataclass(frozen=True)
class Answer:
    """What the network says of Q queries among c classes that S support images stand for.

    Attributes:
        classes: names of the sub-folders.
        support, queries: the image files.
        pictures: of the support images and then of the queries, uint8 (S + Q, SHOWN, SHOWN, 3).
        labels: int64 (S,), class of each support image.
        probabilities: (Q, c), they add up to 1.
        maps: (Q, h, w), the predicted class's probability at every location; none for features without locations.
        nearest: int64 (Q, n), the support images nearest to each query, nearest first.
        skipped: what is not an image, or lies beside the class folders, with the reason.
        table: one row a query: file, prediction, probability, nearest (file), and `P(<class>)` of every class.
        how: the method in words.
        model: the network in words: its name, seed and what it was trained on.
        scale: tau of the cosines; none: the network compares by a distance.
    """

    classes: list[str]
    support: list[Path]
    queries: list[Path]
    pictures: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    maps: npt.NDArray[np.float32] | None
    nearest: npt.NDArray[np.int64]
    skipped: list[tuple[str, str]]
    table: pd.DataFrame
    how: str
    model: str
    scale: float | None


def classify(
    model: str | Path,
    support: str | Path,
    query: str | Path,
    *,
    implant: ImplantingSettings | None = None,
    scale: float | None = None,
    strict: bool = False,
    device: str = "auto",
) -> Answer:
    """Classify the images under `query` among the classes whose images lie in the sub-folders of `support`.

    Args:
        model: a network's folder, or its archive as `fewshot pack` writes it.
        support: one sub-folder a class; one image is enough, two or more for implants.
        query: images, in folders or not.
        implant: train implants on the support images with these settings. They are trained on as many images of each class as
            the smallest class has; prototypes are made of all.
        scale: tau of the cosines; none: the network's own.
        strict: refuse files that are not images, or beside the class folders, which are else skipped and listed.
        device: auto, cpu or cuda.

    Raises:
        DataError: a folder, an image or the network is missing or unfit.
        ConfigError: implants on another backbone than ResNet-12, or with one image a class; no such device.
    """
    place = select_device(device)
    with network_folder(Path(model)) as folder:
        network, info = load_network(folder, place)
    size = int(info["image_size"])
    files: list[Path] = []
    pictures: list[list[npt.NDArray[np.uint8]]] = []
    counts: list[int] = []
    classes = class_folders(Path(support))
    strays = beside(Path(support))
    if strict and strays:
        raise DataError(f"{strays[0]}: not in a class folder; move it into one, or leave --strict out to skip it")
    skipped = [(path, "not in a class folder") for path in strays]
    for one in classes:
        good, images, others = decoded(listed(one), (size, SHOWN), strict)
        if not good:
            raise DataError(f"{one}: no image in this class folder{_first(others)}; add one or remove the folder")
        files += good
        pictures.append(images)
        counts.append(len(good))
        skipped += others
    queries, images, others = decoded(listed(Path(query)), (size, SHOWN), strict)
    if not queries:
        raise DataError(f"{query}: no image among its files{_first(others)}; name a folder of images to classify")
    skipped += others
    everything, shown = (np.concatenate(parts) for parts in zip(*pictures, images, strict=True))
    labels = np.repeat(np.arange(len(classes)), counts)
    if implant is None:
        values = features.compute(network, everything, progress=False, to=place)
    else:
        values = _with_implants(network, everything, dict(zip((one.name for one in classes), counts, strict=True)), implant)
    tau = scale or network.test_scale
    found = _judge(network, values, labels, tau)
    names = [one.name for one in classes]
    order = found.probabilities.argmax(1)
    table = pd.DataFrame(
        {
            "file": named(queries, Path(query)),
            "prediction": [names[i] for i in order],
            "probability": found.probabilities.max(1),
            "nearest": [files[i].relative_to(support).as_posix() for i in found.nearest[:, 0]],
            **{f"P({name})": found.probabilities[:, i] for i, name in enumerate(names)},
        }
    )
    said = [(path.as_posix(), reason) for path, reason in skipped]
    poolings = "/".join(network.settings.classifier.testing)
    how = f"{poolings} pooling of support / queries" + ("" if implant is None else ", implants")
    return Answer(
        classes=names, support=files, queries=queries, pictures=shown, labels=labels, probabilities=found.probabilities,
        maps=found.maps, nearest=found.nearest, skipped=said, table=table, how=how, model=_words(info),
        scale=tau if network.settings.distance is None else None,
    )  # fmt: skip


def _first(others: Sequence[tuple[Path, str]]) -> str:
    """Why the first of some files is no image, in brackets; nothing where there is none."""
    return f" ({others[0][0].name}: {others[0][1]})" if others else ""


def _words(info: dict[str, Any]) -> str:
    """A network as its model.json tells of it; the store's name is that of the data set, the size and a hash."""
    known = len(info["classes"]) - len(info.get("imprinted", []))
    data = info["store"].rpartition("-")[0]
    return f"{info['name']}, seed {info['seed']}, trained on {data}: {info['training_images']:,} images of {known} classes"


@dataclass(frozen=True)
class _Judged:
    probabilities: npt.NDArray[np.float32]
    maps: npt.NDArray[np.float32] | None
    nearest: npt.NDArray[np.int64]


@torch.inference_mode()
def _judge(network: Network, values: Tensor, labels: npt.NDArray[np.int64], scale: float) -> _Judged:
    """Probabilities and maps of the queries, which stand behind the support images in `values` (S + Q, r, d)."""
    settings = network.settings
    pooling, query_pooling = settings.classifier.testing
    support, queries = values[: len(labels)], values[len(labels) :]
    vectors = pool_locations(support, pooling).squeeze(1)
    centres = torch.stack([prototypes(vectors[torch.from_numpy(labels == i)]) for i in range(int(labels.max()) + 1)])

    def logits(features_: Tensor, against: Tensor) -> Tensor:
        if settings.distance is not None:
            return -distances(features_, against, settings.distance)
        return scaled_cosine(features_, against, scale)

    likely = probabilities(logits(pool_locations(queries, query_pooling), centres))
    maps = None
    if "flatten" not in (pooling, query_pooling):
        side = network.feature_shape[1:]
        everywhere = logits(queries, centres).softmax(-1)
        chosen = likely.argmax(1).view(-1, 1, 1).expand(-1, everywhere.shape[1], 1)
        maps = everywhere.gather(2, chosen).reshape(-1, *side).cpu().numpy()
    alike = logits(pool_locations(queries, pooling), vectors).squeeze(1)
    nearest = alike.topk(min(NEAREST, len(vectors)), dim=1).indices
    return _Judged(likely.cpu().numpy(), maps, nearest.cpu().numpy())


def _with_implants(
    network: Network, images: npt.NDArray[np.uint8], classes: dict[str, int], settings: ImplantingSettings
) -> Tensor:
    """Features of all images, (S + Q, r, d + w); the support images stand first, so many of each class."""
    counts = list(classes.values())
    shot, way = min(counts), len(counts)
    if shot < 2:
        few = next(name for name, images in classes.items() if images < 2)
        raise ConfigError(f"--implant needs two support images a class at least; {few} has one: add images, or leave it out")
    if network.settings.backbone.name != "resnet12":
        raise ConfigError(f"implants go beside the last block of resnet12; this network is a {network.settings.backbone.name}")
    if network.settings.embedding is not None:
        raise ConfigError("implants go beside the last block of resnet12; this network has an embedding layer above it")
    stream = implanting.frozen_stream(network, images)
    starts = np.cumsum([0, *counts])
    first = np.concatenate([np.arange(shot) + start for start in starts[:-1]])
    order = np.concatenate([first, np.setdiff1d(np.arange(len(images)), first)])
    index = torch.from_numpy(order).to(stream.features.device)
    added = implanting.adapt_tasks(stream, index[None], way, shot, [0], settings, 0, lambda epoch, losses, accuracies: None)
    beside = torch.empty_like(added[0])
    beside[index] = added[0]
    return torch.cat([stream.features, beside], dim=-1)
