"""Class activation maps of two networks side by side: figure 3 of paper 000.

At every location of the feature map the true class's probability (eq. 9), for base images among the classes that the
network was trained on by the class weights of stage 1, for novel images among the classes of a task by the prototypes of its
support images (eq. 1). Images are judged in a seeded order and shown as they come, none picked by eye: the first of each
case. What the paper says of the maps, that those of dense classification are smoother, is measured over all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from fewshot import features
from fewshot.checkpoint import load_network
from fewshot.data.store import Part, Store, open_store, require_images
from fewshot.device import select_device
from fewshot.errors import ConfigError
from fewshot.models.heads import PoolingKind, pool_locations, predict, scaled_cosine
from fewshot.models.network import Network
from fewshot.plan import Plan
from fewshot.report import drawing, map_drawing
from fewshot.report.assembly import write_csv
from fewshot.report.map_statistics import statistics_table

Case = tuple[str, bool, bool]
"""Population, whether the first network is right, whether the second is."""

CASES: dict[Case, str] = {
    ("base", True, True): "base, both right",
    ("novel", True, True): "novel, both right",
    ("novel", False, True): "novel, only {1} right",
    ("novel", True, False): "novel, only {0} right",
}
"""The paper's four, top to bottom; {0}, {1}: networks."""

SEED = 0
QUERIES = 15
BASE_IMAGES, BASE_CHUNK = 2048, 256
ROUNDS, TASKS_A_ROUND = 12, 3
"""How many images and tasks are judged."""


@dataclass(frozen=True)
class Subject:
    """One of the two networks.

    Attributes:
        name: in the config.
    """

    name: str
    network: Network

    @property
    def poolings(self) -> tuple[PoolingKind, PoolingKind]:
        """Of the support images of its prototypes, and of the images it judges: `dense` (eq. 14) where it was trained densely.

        Maps are of single locations, so features that are flattened in training are averaged here.
        """
        classifier = self.network.settings.classifier
        return ("gap", "gap") if classifier.pooling == "flatten" else classifier.testing

    def judge(self, values: Tensor, weights: Tensor | None, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predictions and maps of images, and how much of each map finds the class by itself.

        Args:
            values: features by location (M, r, d).
            weights: prototypes (c, d); None: the classes of the network's own classifier.
            truth: (M,) the true class of each.

        Returns:
            Predicted classes (M,), the true class's probability at each location (M, r), and the share of locations (M,), 0 to
            1, whose most probable class is the true one.
        """

        def logits(vectors: Tensor) -> Tensor:
            if weights is None:
                scores: Tensor = self.network.classifier(vectors)
                return scores
            return scaled_cosine(vectors, weights, self.network.test_scale)

        dense = logits(values)
        maps = dense.softmax(-1).gather(2, truth[:, None, None].expand(-1, values.shape[1], 1)).squeeze(-1)
        located = (dense.argmax(-1) == truth[:, None]).float().mean(1)
        return predict(logits(pool_locations(values, self.poolings[1]))), maps, located


@dataclass(frozen=True)
class Example:
    """An image as it was judged: its store row and class id, and of each network the class id it took it for, its map (h, w)
    and the share of locations, 0 to 1, that find the class by themselves."""

    case: Case
    row: int
    label: int
    predictions: tuple[int, int]
    maps: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
    located: tuple[float, float]


def draw_activation_maps(plan: Plan) -> None:
    """Write results/<run>/figures/activation_maps.png, map_statistics.svg and their .csv for the two networks of the config.

    Raises:
        ConfigError: the config names none.
        DataError: the store or a network is missing, damaged, or the two do not belong together, or a class has too few images.
    """
    settings = plan.config.activation_maps
    if settings is None:
        raise ConfigError(f"run {plan.config.run} names no networks for activation maps; add activation_maps to its config")
    part: Part = plan.config.evaluation.part
    device = select_device(plan.config.device)
    store = open_store(plan.store_dir)
    require_images(store, part, {"shot": settings.shot}, where="activation_maps")
    subjects = [_subject(plan, store, name, device) for name in settings.networks]
    judged = list(judge_images(store, subjects, settings.shot, part))
    examples = find_examples(judged, settings.images_per_case)
    cases = {case: words.format(*settings.networks) for case, words in CASES.items()}
    folder = plan.results / "figures"
    write_csv(folder / "activation_maps.csv", maps_table(store, subjects, examples, cases))
    statistics = statistics_table(judged, cases, settings.networks)
    write_csv(folder / "map_statistics.csv", statistics)
    with drawing.style():
        figure = map_drawing.map_statistics(statistics, f"Activation maps in numbers (run {plan.config.run})")
        drawing.save(figure, folder / "map_statistics.svg")
        figure = map_drawing.activation_maps(
            {
                words: [_panel(store, subjects, example) for example in examples if example.case == case]
                for case, words in cases.items()
            },
            settings.images_per_case,
            f"Class activation maps (run {plan.config.run})",
        )
        drawing.save(figure, folder / "activation_maps.png")


def _panel(store: Store, subjects: Sequence[Subject], example: Example) -> map_drawing.Panel:
    titles = (drawing.class_words(store.classes["name"][example.label]), *(subject.name for subject in subjects))
    image = np.asarray(store.images[example.row])
    parts = [subject.network.seen(len(image)) for subject in subjects]  # of networks trained on crops, the central crop
    seen = [image[part, part] for part in parts]
    return map_drawing.Panel(max(seen, key=len), seen, example.maps, titles)


def _subject(plan: Plan, store: Store, name: str, device: torch.device) -> Subject:
    network, _ = load_network(plan.network_dir(plan.network(name, plan.config.seeds[0])), device, store.data_hash)
    return Subject(name, network)


# --- the images ------------------------------------------------------------------------------------------------------


def judge_images(store: Store, subjects: Sequence[Subject], shot: int, part: Part = "test") -> Iterator[Example]:
    """Base images, then queries of novel tasks, as both networks judge them, always the same in the same order.

    Args:
        store: held-out base images (all base images where none are held out) and the novel classes are looked at.
        subjects: the two networks.
        shot: support images a class of the novel tasks.
        part: of the novel classes, each of more than `shot` images.
    """
    rng = np.random.default_rng(SEED)
    for batches in (_base(store, subjects, rng), _novel(store, subjects, shot, part, rng)):
        for batch in batches:
            yield from batch


def find_examples(judged: Sequence[Example], images_per_case: int) -> list[Example]:
    """The first `images_per_case` images of each case, of as many classes as can be, in the order of CASES."""
    return [found for case in CASES for found in _varied([one for one in judged if one.case == case], images_per_case)]


def _varied(examples: Sequence[Example], count: int) -> list[Example]:
    """The first `count`, classes not seen before first."""
    first: dict[int, Example] = {}
    for example in examples:
        first.setdefault(example.label, example)
    chosen = list(first.values())
    rows = {example.row for example in chosen}
    chosen += list({example.row: example for example in examples if example.row not in rows}.values())
    return chosen[:count]


def _base(store: Store, subjects: Sequence[Subject], rng: np.random.Generator) -> Iterator[list[Example]]:
    rows = store.rows("held_out")
    rows = rng.permutation(rows if len(rows) else store.rows("base"))[:BASE_IMAGES]
    names = np.arange(len(store.classes))  # the networks number their classes, base or base and validation, as the store does
    for start in range(0, len(rows), BASE_CHUNK):
        chunk = rows[start : start + BASE_CHUNK]
        truth = store.labels[chunk]
        yield _examples("base", subjects, _features(store, subjects, chunk), [None, None], chunk, truth, names)


def _novel(
    store: Store, subjects: Sequence[Subject], shot: int, part: Part, rng: np.random.Generator
) -> Iterator[list[Example]]:
    rows = store.rows(part)
    labels = store.labels[rows]
    classes = np.unique(labels)
    if len(classes) < 2:
        return
    way = min(5, len(classes))
    for _ in range(ROUNDS):
        tasks = []
        for _ in range(TASKS_A_ROUND):
            chosen = rng.choice(classes, way, replace=False)
            images = [rng.permutation(rows[labels == label])[: shot + QUERIES] for label in chosen]
            tasks.append((chosen, images))
        batch = np.unique(np.concatenate([image for _, images in tasks for image in images]))
        both = _features(store, subjects, batch)  # of all tasks of the round at once
        examples = []
        for chosen, images in tasks:
            support = torch.from_numpy(np.searchsorted(batch, np.stack([image[:shot] for image in images])))
            prototypes = [
                pool_locations(values[support], subject.poolings[0]).squeeze(-2).mean(1)
                for subject, values in zip(subjects, both, strict=True)
            ]
            queries = np.concatenate([image[shot:] for image in images])
            truth = np.repeat(np.arange(way), [len(image) - shot for image in images])
            index = torch.from_numpy(np.searchsorted(batch, queries))
            values = [part[index] for part in both]
            examples += _examples("novel", subjects, values, prototypes, queries, truth, chosen)
        yield examples


def _features(store: Store, subjects: Sequence[Subject], rows: npt.NDArray[np.int64]) -> list[Tensor]:
    order = np.argsort(rows)  # the store is read in the order in which it lies on disk
    images = np.ascontiguousarray(store.images[rows[order]])
    back = torch.from_numpy(np.argsort(order))
    return [features.compute(subject.network, images, progress=False)[back] for subject in subjects]


@torch.inference_mode()
def _examples(
    population: str,
    subjects: Sequence[Subject],
    values: Sequence[Tensor],
    weights: Sequence[Tensor | None],
    rows: npt.NDArray[np.int64],
    truth: npt.NDArray[np.int64],
    classes: npt.NDArray[np.int64],
) -> list[Example]:
    """Judge images: values and weights one a network; truth counts in `classes`, the class ids."""
    target = torch.from_numpy(np.ascontiguousarray(truth))
    judged = []
    for subject, features_, prototypes in zip(subjects, values, weights, strict=True):
        device = subject.network.mean.device
        at_home = None if prototypes is None else prototypes.to(device)
        predicted, maps, located = subject.judge(features_.to(device), at_home, target.to(device))
        shaped = maps.cpu().float().reshape(-1, *subject.network.feature_shape[1:])
        judged.append((predicted.cpu().numpy(), shaped.numpy(), located.cpu().tolist()))
    (first, first_maps, first_located), (second, second_maps, second_located) = judged
    return [
        Example(
            (population, bool(first[i] == truth[i]), bool(second[i] == truth[i])), int(row), int(classes[truth[i]]),
            (int(classes[first[i]]), int(classes[second[i]])), (first_maps[i], second_maps[i]),
            (first_located[i], second_located[i]),
        )
        for i, row in enumerate(rows)
    ]  # fmt: skip


# --- what is written -------------------------------------------------------------------------------------------------


def maps_table(store: Store, subjects: Sequence[Subject], examples: Sequence[Example], cases: dict[Case, str]) -> pd.DataFrame:
    """One row an image and network; `probability`: the true class's at each location, row by row, four digits."""
    files = pd.read_csv(store.path / "images.csv", usecols=["file"], dtype=str)["file"]
    names = store.classes["name"]
    found = [
        {
            "case": cases[example.case], "file": files[example.row], "class": names[example.label], "network": subject.name,
            "predicted": names[predicted], "right": "yes" if predicted == example.label else "no",
            "height": values.shape[0], "width": values.shape[1],
            "probability": " ".join(f"{value:.4f}" for value in values.ravel()),
        }
        for example in examples
        for subject, predicted, values in zip(subjects, example.predictions, example.maps, strict=True)
    ]  # fmt: skip
    columns = ["case", "file", "class", "network", "predicted", "right", "height", "width", "probability"]
    return pd.DataFrame(found, columns=columns)
