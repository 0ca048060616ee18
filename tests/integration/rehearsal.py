"""A run in seconds, made of any run file: the same jobs on small drawn images, all lengths and widths cut down.

The data set keeps its name, and with it the published numbers and what the report holds against the papers. And what a run must
leave, read off its run file alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fewshot.config import EpisodicSettings, FolderSettings, GlyphsSettings, NetworkSettings, RunConfig, TorchvisionSettings
from fewshot.data.prepare import write_source
from fewshot.data.sources import glyphs
from fewshot.models.backbones import build_backbone
from fewshot.plan import Plan

PARTS = ("base",) * 8 + ("val",) * 5 + ("test",) * 5
"""Of the drawn classes, in place of an archive's."""
IMAGES = 26
"""Of each class: 20 exemplars and 4 images to test on, as the largest number of shots wants."""
GLYPHS, FOLDERS = 32, 25
"""Classes of the set `glyphs` and of class folders, whose parts are shares of them."""
FEW_IMAGES, MANY_IMAGES = 8, 12
"""Of folders whose classes are told apart by their number of images."""
SIDE, CROP, CROPPED_FROM = 32, 16, 20
"""Pixels: two by two locations of a network that pools four times."""
MOST = {
    "base_at_least": MANY_IMAGES,
    "batch_size": 64,
    "crop": CROP,
    "decay_epochs": 1,
    "decay_every": 1,
    "depth": 10,
    "epochs": 1,
    "every": 1,
    "images": 2,
    "iterations": 2,
    "log_every": 1,
    "measure_every": 1,
    "queries": 3,
    "tasks": 4,
    "views": 2,
    "warmup": 1,
    "way": 5,
    "wide": 2,
    "width": 2,
}
"""Key of a run file, wherever it stands -> the most that a rehearsal has of it."""
WIDTHS = (4, 4, 8, 8)
SMALLER = {"resnet50": "resnet18"}
"""Backbone -> one of its family with fewer parameters."""
FEWER_TASKS = 2
"""Of a test that has fewer tasks than the others."""


def rehearsed(config: RunConfig, weights: Callable[[str], Path]) -> dict[str, Any]:
    """A run file's mapping: that of `config`, whose jobs are all there and take seconds.

    Args:
        config: any run.
        weights: a torchvision model's name -> a file that stands for its pretrained weights.
    """
    data: dict[str, Any] = _shortened(config.as_dict())
    data |= {"device": "cpu", "dataset": _dataset(config)}
    data["stage1"].pop("training")  # every network has its own, whole
    fewer = FEWER_TASKS
    for network in data["stage1"]["networks"].values():
        backbone = network["backbone"]
        if backbone.get("weights", "none") != "none":  # of torchvision, whose widths are not to be set
            backbone["name"] = SMALLER.get(backbone["name"], backbone["name"])
            backbone["weights"], fewer = str(weights(backbone["name"])), 1
    tests = zip(data["evaluation"]["tests"], config.evaluation.tests, strict=True)
    for short, test in tests:
        if (test.tasks or config.evaluation.tasks) < config.evaluation.tasks:
            short["tasks"] = min(test.tasks, fewer)
    return data


def _shortened(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {name: _shortened(inner, name) for name, inner in value.items()}
    if key == "widths":
        return [min(pair) for pair in zip(value, WIDTHS, strict=True)]
    if key == "histograms":
        return list(range(min(len(value), MOST["iterations"])))
    if isinstance(value, list):
        return [_shortened(inner) for inner in value]
    return min(value, MOST[key]) if key in MOST and isinstance(value, int) else value


def _dataset(config: RunConfig) -> dict[str, Any]:
    data = _shortened(config.dataset.as_dict())
    cropped = any(network.training.augmentation.crop for network in config.stage1.networks.values())
    if config.dataset.image_size is not None:
        data["image_size"] = CROPPED_FROM if cropped else SIDE
    if isinstance(config.dataset, GlyphsSettings):
        data |= {"classes": GLYPHS, "images_per_class": IMAGES}
    if isinstance(config.dataset, FolderSettings):
        data["split"] = None
    return data


def draw_images(plan: Plan, root: Path) -> None:
    """What a rehearsal finds where it runs, in `root`: class folders, or a store of drawn images in place of an archive's."""
    dataset = plan.config.dataset
    if isinstance(dataset, FolderSettings):
        _draw_folders(dataset, root)
    elif not isinstance(dataset, GlyphsSettings) and not (root / plan.store_dir).exists():
        settings = GlyphsSettings(name="glyphs", image_size=dataset.image_size, classes=len(PARTS), images_per_class=IMAGES)
        drawn = glyphs.source(settings)
        names = (name for name, _ in drawn.classes)
        write_source(
            replace(drawn, classes=tuple(zip(names, PARTS, strict=True))),
            dataset,
            root / plan.store_dir,
            workers=1,
            progress=False,
        )


def _draw_folders(settings: FolderSettings, root: Path) -> None:
    for label in range(FOLDERS if settings.base_at_least is None else len(PARTS)):
        images = IMAGES
        if settings.base_at_least is not None:
            images = MANY_IMAGES if label % 2 else FEW_IMAGES
        _draw_class(root / settings.folder, label, range(images))
        if settings.test_folder is not None:
            _draw_class(root / settings.test_folder, label, range(images, images + 3))


def _draw_class(folder: Path, label: int, numbers: range) -> None:
    (folder / f"figure {label}").mkdir(parents=True)
    for number in numbers:
        picture = Image.fromarray(np.asarray(glyphs.draw((label, number), seed=0, size=40)))
        picture.resize((40 + number, 44)).save(folder / f"figure {label}" / f"{number}.png")


def random_weights(name: str, folder: Path) -> Path:
    """A state dict of a torchvision model with random values, in place of the published one."""
    path = folder / f"{name}.pth"
    if not path.exists():
        torch.manual_seed(0)
        torch.save(build_backbone(TorchvisionSettings.model_validate({"name": name})).layers.state_dict(), path)
    return path


# --- what must come of it ---------------------------------------------------------------------------------------------

Cell = tuple[str, str, int, str, str]
"""Network, adaptation, shot, support/query pooling, population."""


def cells(config: RunConfig) -> dict[Cell, int]:
    """Everything that a run file asks to be measured -> over how many tasks."""
    found: dict[Cell, int] = {}
    evaluation = config.evaluation
    for test in evaluation.tests:
        tasks = min(test.tasks or evaluation.tasks, evaluation.tasks)
        for network in test.networks:
            for shot in test.shots or evaluation.shots:
                for pair in test.poolings:
                    for population in test.populations:
                        cell = (network, test.adaptation or "as-trained", shot, pair, population)
                        found[cell] = max(tasks, found.get(cell, 0))
    return found


def rows(config: RunConfig) -> Counter[tuple[Any, ...]]:
    """What tells the rows of summary.csv apart without their names: shot, tasks, population, poolings, seed."""
    return Counter(
        (shot, tasks, population, *pair.split("/"), seed)
        for (_, _, shot, pair, population), tasks in cells(config).items()
        for seed in config.seeds
    )


def pairs(config: RunConfig) -> int:
    """Rows of paired.csv: every two cells of one number of shots, population and seed."""
    alike = Counter((shot, population) for _, _, shot, _, population in cells(config))
    return len(config.seeds) * sum(comb(count, 2) for count in alike.values())


def has_gains(config: RunConfig) -> bool:
    """Whether a run tests an adaptation beside its network as trained, or networks of which the one is the other's baseline."""
    places = cells(config)
    adapted = {(cell[0], *cell[2:]) for cell in places if cell[1] != "as-trained"}
    trained = {(cell[0], *cell[2:]) for cell in places if cell[1] == "as-trained"}
    if adapted & trained:
        return True
    tested = {(cell[0], shot, population) for cell in trained for shot, population in [(cell[1], cell[3])]}
    for (first, *where), (second, *other) in combinations(sorted(tested), 2):
        if where == other and _is_baseline(config.stage1.networks[first], config.stage1.networks[second]):
            return True
    return False


def _is_baseline(first: NetworkSettings, second: NetworkSettings) -> bool:
    """Whether two networks differ in nothing but what a paper adds: dense classification, width, a leak of the distance."""
    one, other = (dict(_flat(network.as_dict())) for network in (first, second))
    differing = _differing(first, second)
    if isinstance(first.training.objective, EpisodicSettings):
        names = {one.get("training.objective.distance.name"), other.get("training.objective.distance.name")}
        return names == {"squared_euclidean", "leaky_squared_euclidean"} and differing == {
            f"training.objective.distance.{key}" for key in ("name", "s", "r")
        }
    if differing == {"classifier.pooling"}:
        return {first.classifier.pooling, second.classifier.pooling} == {"gap", "dense"}
    return differing == {"backbone.wide"} and 0 in (one["backbone.wide"], other["backbone.wide"])


def differ_in_one_of_the_leak(first: NetworkSettings, second: NetworkSettings) -> bool:
    """Whether two networks differ in s of the leaky distance alone or in r alone, whatever is recorded in their trainings."""
    leak = {f"training.objective.distance.{key}" for key in "sr"}
    differing = {key for key in _differing(first, second) if key != "training.objective.histograms"}
    return len(differing) == 1 and differing <= leak


def _differing(first: NetworkSettings, second: NetworkSettings) -> set[str]:
    one, other = (dict(_flat(network.as_dict())) for network in (first, second))
    return {key for key in {*one, *other} if one.get(key) != other.get(key)}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}".strip("."))
    else:
        yield path, value
