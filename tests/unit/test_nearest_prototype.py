import numpy as np
import pytest
import torch

from fewshot import nearest_prototype
from fewshot.config import CosineDistanceSettings, LeakySquaredEuclideanSettings, SquaredEuclideanSettings
from fewshot.episodes import Episodes, draw_tasks
from fewshot.errors import DataError
from fewshot.evaluation import Evaluator
from fewshot.features import Features

CPU = torch.device("cpu")
SQUARED = SquaredEuclideanSettings()


@pytest.fixture
def features(rng):
    classes = rng.normal(size=(6, 1, 4, 8))
    values = (classes + rng.normal(size=(6, 15, 4, 8)) * 1.5).reshape(90, 4, 8)
    return Features(values.astype(np.float32), np.arange(1000, 1090), {})


@pytest.fixture
def episodes(features):
    rows = [features.rows[i : i + 15] for i in range(0, 90, 15)]
    return Episodes(*draw_tasks(rows, rows[0][:0], 5, 2, 7, 40, seed=1), {})


@pytest.mark.parametrize("pooling", ["flatten", "gap", "gmp"])
def test_the_nearest_prototype_by_loops(features, episodes, pooling):
    found = nearest_prototype.accuracies(features, episodes, pooling, SQUARED, CPU)["novel"]
    pooled = {
        "flatten": features.values.reshape(90, -1), "gap": features.values.mean(1), "gmp": features.values.max(1),
    }[pooling].astype(float)  # fmt: skip
    vector = dict(zip(features.rows.tolist(), pooled, strict=True))
    for task in range(40):
        prototypes = [sum(vector[row] for row in rows) / 2 for rows in episodes.support[task].tolist()]
        right = 0
        for c, rows in enumerate(episodes.query[task].tolist()):
            for row in rows:
                right += int(np.argmin([((vector[row] - prototype) ** 2).sum() for prototype in prototypes])) == c
        assert found[task] == pytest.approx(100 * right / 35)
    assert 30 < found.mean() < 99


def test_a_leak_changes_no_accuracy(features, episodes):
    leaky = LeakySquaredEuclideanSettings(name="leaky_squared_euclidean", s=1.0, r=0.25)
    both = [nearest_prototype.accuracies(features, episodes, "flatten", one, CPU)["novel"] for one in (SQUARED, leaky)]
    np.testing.assert_array_equal(*both)


def test_cosine_distances_are_the_cosines_of_the_evaluation(features, episodes):
    cosine = CosineDistanceSettings(name="cosine")
    found = nearest_prototype.accuracies(features, episodes, "gap", cosine, CPU)
    np.testing.assert_array_equal(found["novel"], Evaluator(features, CPU).accuracies(episodes, "gap", "gap", 10.0)["novel"])


def test_chunks_and_fewer_tasks_are_the_first_of_the_same(features, episodes, monkeypatch):
    whole = nearest_prototype.accuracies(features, episodes, "flatten", SQUARED, CPU)["novel"]
    monkeypatch.setattr(nearest_prototype, "CHUNK_BYTES", {"cpu": 1})
    np.testing.assert_array_equal(nearest_prototype.accuracies(features, episodes, "flatten", SQUARED, CPU)["novel"], whole)
    part = nearest_prototype.accuracies(features, episodes, "flatten", SQUARED, CPU, tasks=7)["novel"]
    np.testing.assert_array_equal(part, whole[:7])


def test_what_does_not_fit_is_refused(features, episodes):
    with pytest.raises(ValueError, match="single vectors"):
        nearest_prototype.accuracies(features, episodes, "dense", SQUARED, CPU)
    other = Features(features.values, features.rows + 1, {})
    with pytest.raises(DataError, match="no features"):
        nearest_prototype.accuracies(other, episodes, "gap", SQUARED, CPU)


@pytest.mark.parametrize("at_once", [7, 40, 41])
def test_the_last_chunk_may_be_smaller(features, episodes, monkeypatch, at_once):
    whole = nearest_prototype.accuracies(features, episodes, "gap", SQUARED, CPU)["novel"]
    monkeypatch.setattr(nearest_prototype, "CHUNK_BYTES", {"cpu": at_once * 5 * (2 + 7) * 8 * 4})
    np.testing.assert_array_equal(nearest_prototype.accuracies(features, episodes, "gap", SQUARED, CPU)["novel"], whole)
    assert len(whole) == 40
