"""Memory is bounded by chunks, never by the number of tasks: of ten times as many tasks no tensor is larger.

But for what is said of each query: two numbers of it, `SAID` bytes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fewshot import adaptation, nearest_prototype
from fewshot.config import ImplantingSettings, NetworkSettings, SquaredEuclideanSettings
from fewshot.data.store import Store
from fewshot.episodes import Episodes, draw, draw_tasks
from fewshot.evaluation import _BLOCK_BYTES, ClassWeights, Evaluator
from fewshot.features import Features
from fewshot.models.network import Network
from fewshot.plan import AdaptationJob, EpisodeJob, NetworkJob

CPU = torch.device("cpu")
CLASSES, IMAGES, WAY, SHOT, QUERIES = 6, 30, 3, 2, 4
FEW, MANY = 40, 1200
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


def test_of_implants(tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four tasks at once: of 32 of them no tensor is larger than of 8."""
    settings = NetworkSettings.model_validate({"backbone": {"name": "resnet12", "widths": [4, 4, 6, 8]}})
    network = Network(settings, tiny_store.num_base, tiny_store.image_size).eval()
    implants = ImplantingSettings(method="implanting", width=2, epochs=1)
    monkeypatch.setattr(adaptation, "CHUNK", {"cpu": 4})

    def adapt(number: int) -> None:
        episodes = EpisodeJob(WAY, SHOT, QUERIES, number, "test", 0)
        job = AdaptationJob(NetworkJob("n", "n", 0, settings), "implants", "implants", episodes, number, implants)
        drawn = draw(tiny_store, episodes)
        rows = tiny_store.rows("test")  # the frozen stream is of all images, however many of them tasks name
        monkeypatch.setattr(adaptation, "_used_images", lambda *args: (_numbers(drawn, rows), rows))
        adaptation.adapt(network, "hash", tiny_store, drawn, job, tmp_path / str(number))

    adapt(4)  # and computed once
    few, many = (largest(lambda n=n: adapt(n)) for n in (8, 32))
    assert few > 0
    assert many <= few


def _numbers(drawn: Episodes, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    images = np.concatenate([drawn.support.reshape(len(drawn.support), -1), drawn.query.reshape(len(drawn.query), -1)], axis=1)
    return np.searchsorted(rows, images)
