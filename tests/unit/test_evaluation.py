"""The evaluator against a slow, plain loop over tasks, queries, locations and classes."""

import numpy as np
import pytest
import torch

from fewshot.episodes import Episodes
from fewshot.errors import ConfigError
from fewshot.evaluation import ClassWeights, Evaluator, interval
from fewshot.features import Features

WAY, SHOT, QUERIES, TASKS, IMAGES, LOCATIONS, CHANNELS, BASE = 3, 2, 4, 7, 60, 4, 5, 6


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(IMAGES, LOCATIONS, CHANNELS)).astype(np.float32)
    rows = np.arange(100, 100 + 2 * IMAGES, 2)  # store rows that are not positions
    support = np.empty((TASKS, WAY, SHOT), dtype=np.int64)
    query = np.empty((TASKS, WAY, QUERIES), dtype=np.int64)
    for t in range(TASKS):
        chosen = rng.permutation(40)[: WAY * (SHOT + QUERIES)].reshape(WAY, -1)
        support[t], query[t] = rows[chosen[:, :SHOT]], rows[chosen[:, SHOT:]]
    base = rows[rng.integers(40, IMAGES, size=(TASKS, WAY * QUERIES))]
    labels = rng.integers(0, BASE, size=IMAGES)
    weights = rng.normal(size=(BASE, CHANNELS)).astype(np.float32)
    return Features(values, rows, {}), Episodes(support, query, base, {}), labels, weights


def pooled(image, kind):
    if kind == "gap":
        return [image.mean(axis=0)]
    if kind == "gmp":
        return [image.max(axis=0)]
    return list(image)


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def predicted(vectors, classes, scale):
    """Equation (14); for one vector this is equation (13)."""
    votes = np.zeros(len(classes))
    for vector in vectors:
        exponentials = np.exp([scale * cosine(vector, c) for c in classes])
        votes += exponentials / exponentials.sum()
    return int(np.argmax(votes))


def plain(features, episodes, labels, weights, support_kind, query_kind, scale, added=None):
    out = {"novel": [], "base": [], "both": []}
    where = {row: i for i, row in enumerate(features.rows)}
    for t in range(len(episodes.support)):
        extra = iter(added[t]) if added is not None else None

        def image(row, extra=extra):
            base = features.values[where[row]].astype(np.float64)
            return base if extra is None else np.concatenate([base, next(extra).astype(np.float64)], axis=1)

        prototypes = [np.mean([pooled(image(row), support_kind)[0] for row in rows], axis=0) for rows in episodes.support[t]]
        novel, both = [], []
        for j, rows in enumerate(episodes.query[t]):
            for row in rows:
                vectors = pooled(image(row), query_kind)
                novel.append(predicted(vectors, prototypes, scale) == j)
                if added is None:
                    both.append(predicted(vectors, [*weights, *prototypes], scale) == BASE + j)
        out["novel"].append(100 * np.mean(novel))
        if added is None:
            base = []
            for row in episodes.base[t]:
                vectors = pooled(features.values[where[row]].astype(np.float64), query_kind)
                base.append(predicted(vectors, list(weights), scale) == labels[where[row]])
                both.append(predicted(vectors, [*weights, *prototypes], scale) == labels[where[row]])
            out["base"].append(100 * np.mean(base))
            out["both"].append(100 * np.mean(both))
    return out


@pytest.mark.parametrize("support_kind", ["gap", "gmp"])
@pytest.mark.parametrize("query_kind", ["gap", "gmp", "dense"])
def test_all_poolings_and_populations_equal_the_plain_loop(world, support_kind, query_kind, monkeypatch):
    features, episodes, labels, weights = world
    monkeypatch.setattr("fewshot.evaluation._CHUNK_BYTES", {"cpu": 3 * WAY * QUERIES * CHANNELS * 4})  # several chunks
    classes = ClassWeights(torch.from_numpy(weights), torch.from_numpy(labels))
    evaluator = Evaluator(features, torch.device("cpu"), classes)
    got = evaluator.accuracies(episodes, support_kind, query_kind, 4.0, ("novel", "base", "both"))
    expected = plain(features, episodes, labels, weights, support_kind, query_kind, 4.0)
    for population, values in got.items():
        np.testing.assert_allclose(values, expected[population], atol=1e-4, err_msg=population)


@pytest.mark.parametrize("query_kind", ["gap", "gmp", "dense"])
def test_adapted_channels_stand_beside_the_networks_own(world, query_kind):
    features, episodes, labels, weights = world
    rng = np.random.default_rng(1)
    added = (2 * rng.normal(size=(TASKS, WAY * (SHOT + QUERIES), LOCATIONS, 2))).astype(np.float16)
    evaluator = Evaluator(features, torch.device("cpu"))
    got = evaluator.accuracies(episodes, "gap", query_kind, 4.0, adapted=added)
    expected = plain(features, episodes, labels, weights, "gap", query_kind, 4.0, added)
    np.testing.assert_allclose(got["novel"], expected["novel"], atol=1e-4)
    without = evaluator.accuracies(episodes, "gap", query_kind, 4.0)["novel"]
    nothing = evaluator.accuracies(episodes, "gap", query_kind, 4.0, adapted=added[..., :0])["novel"]
    np.testing.assert_array_equal(nothing, without)
    assert not np.array_equal(got["novel"], without)


def test_image_by_image_equals_task_by_task(world, monkeypatch):
    features, episodes, *_ = world
    evaluator = Evaluator(features, torch.device("cpu"))
    query = torch.from_numpy(features.index(episodes.query)).flatten(1)
    prototypes = torch.nn.functional.normalize(torch.randn(TASKS, WAY, CHANNELS), dim=-1)
    for kind in ("dense", "gap"):
        expected = evaluator._cosines(query, kind, prototypes)
        torch.testing.assert_close(evaluator._cosines_image_major(query, kind, prototypes), expected)
    calls = []
    monkeypatch.setattr(Evaluator, "_cosines_image_major", lambda *args: calls.append(1) or evaluator._cosines(*args[1:]))
    evaluator.accuracies(episodes, "gap", "dense", 4.0)
    evaluator.accuracies(episodes, "gap", "gap", 4.0)
    assert calls == [1], "taken where a query has more vectors than its task has prototypes"


def test_fewer_tasks_are_the_first_ones(world):
    features, episodes, *_ = world
    evaluator = Evaluator(features, torch.device("cpu"))
    whole = evaluator.accuracies(episodes, "gap", "gap", 1.0)["novel"]
    np.testing.assert_array_equal(evaluator.accuracies(episodes, "gap", "gap", 1.0, tasks=3)["novel"], whole[:3])


def test_base_without_class_weights_is_refused(world):
    features, episodes, *_ = world
    with pytest.raises(ConfigError, match="class weights"):
        Evaluator(features, torch.device("cpu")).accuracies(episodes, "gap", "gap", 1.0, ("base",))


def test_interval_is_the_papers_formula():
    mean, half = interval(np.array([60.0, 70.0, 80.0, 90.0]))
    assert mean == 75.0
    assert half == pytest.approx(1.96 * np.sqrt((225 + 25 + 25 + 225) / 3) / 2)
    assert interval(np.array([50.0])) == (50.0, 0.0)
