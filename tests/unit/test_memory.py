"""Memory is bounded by chunks, never by the number of tasks: of ten times as many tasks no tensor is larger.

But for what is said of each query: two numbers of it, `SAID` bytes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fewshot import adaptation, nearest_prototype
from fewshot.config import ImplantingSettings, NetworkSettings, SquaredEuclideanSettings
from fewshot.episodes import Episodes, draw_tasks
from fewshot.evaluation import _BLOCK_BYTES, ClassWeights, Evaluator
from fewshot.features import Features
from fewshot.methods import implanting
from fewshot.models.network import Network

CPU = torch.device("cpu")
CLASSES, IMAGES, WAY, SHOT, QUERIES = 6, 30, 3, 2, 4
FEW, MANY = 40, 400
SAID = 16 * MANY * WAY * QUERIES


class Largest(TorchDispatchMode):
    """The most bytes of a tensor that any operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor):
                self.bytes = max(self.bytes, one.untyped_storage().nbytes())
        return made


def largest(work: Callable[[], object]) -> int:
    with Largest() as mode:
        work()
    return mode.bytes


@pytest.fixture(scope="module")
def features() -> Features:
    values = torch.randn(CLASSES * IMAGES, 4, 8, generator=torch.Generator().manual_seed(0))
    return Features(values, np.arange(len(values)), {})


def tasks(number: int) -> Episodes:
    rows = [np.arange(IMAGES - 5) + IMAGES * i for i in range(CLASSES)]
    held_out = np.concatenate([np.arange(IMAGES - 5, IMAGES) + IMAGES * i for i in range(CLASSES)])
    return Episodes(*draw_tasks(rows, held_out, WAY, SHOT, QUERIES, number, 0), {})


@pytest.mark.parametrize("pair", [("gap", "gap"), ("gmp", "gap"), ("gap", "dense"), ("flatten", "flatten")])
def test_of_the_evaluation(features: Features, pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewshot.evaluation._BLOCK_BYTES", dict.fromkeys(_BLOCK_BYTES, 20_000))
    for name in ("_GATHER_BYTES", "_PRODUCT_BYTES", "_GROUP_BYTES"):
        monkeypatch.setattr(f"fewshot.votes.{name}", {"cpu": 20_000})
    classes = ClassWeights(torch.randn(CLASSES, 8), torch.arange(CLASSES).repeat_interleave(IMAGES))
    evaluator = Evaluator(features, CPU, classes)
    populations = ("novel",) if "flatten" in pair else ("novel", "base", "both")
    few, many = (largest(lambda n=n: evaluator.accuracies(tasks(n), *pair, 10.0, populations)) for n in (FEW, MANY))
    assert few > 0
    assert many <= max(few, SAID)


def test_of_the_evaluation_by_a_distance(features: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_prototype, "CHUNK_BYTES", {"cpu": 20_000})
    squared = SquaredEuclideanSettings(name="squared_euclidean")
    few, many = (
        largest(lambda n=n: nearest_prototype.accuracies(features, tasks(n), "flatten", squared, CPU)) for n in (FEW, MANY)
    )
    assert few > 0
    assert many <= max(few, SAID)


def test_of_implants(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(NetworkSettings.model_validate({"backbone": {"name": "resnet12", "widths": [4, 4, 6, 8]}}), 5, 32).eval()
    stream = implanting.frozen_stream(
        network, np.random.default_rng(0).integers(0, 256, (CLASSES * IMAGES, 32, 32, 3), np.uint8)
    )
    settings = ImplantingSettings(method="implanting", width=2, epochs=1)
    monkeypatch.setattr(adaptation, "CHUNK_BYTES", {"cpu": 1 << 20})
    at_once = adaptation.tasks_at_once(stream, WAY, SHOT, CPU)
    assert 1 <= at_once <= adaptation.CHUNK["cpu"]

    def adapt(number: int) -> None:
        drawn = tasks(number)
        numbers = torch.from_numpy(np.concatenate([drawn.support.reshape(number, -1), drawn.query.reshape(number, -1)], axis=1))
        for start in range(0, number, at_once):
            part = list(range(start, min(start + at_once, number)))
            implanting.adapt_tasks(stream, numbers[part], WAY, SHOT, part, settings, 0, lambda *told: None)

    assert largest(lambda: adapt(2 * at_once)) == largest(lambda: adapt(8 * at_once)) > 0
