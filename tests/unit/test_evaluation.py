"""The evaluator against the plain form, one task after the other."""

import numpy as np
import pytest
import torch

from benchmarks import plain
from fewshot.config import NetworkSettings
from fewshot.episodes import Episodes
from fewshot.errors import ConfigError
from fewshot.evaluation import _BLOCK_BYTES, ClassWeights, Evaluator, class_weights
from fewshot.features import Features
from fewshot.models.heads import pool_locations
from fewshot.models.network import Network
from fewshot.votes import BaseVotes, Tasks, Vectors, _image_by_image, _task_by_task, right, task_by_task

WAY, SHOT, QUERIES, TASKS, IMAGES, LOCATIONS, CHANNELS, BASE = 3, 2, 4, 7, 60, 4, 5, 6


@pytest.fixture(scope="module")
def world():
    return made(WAY)


def made(way):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(IMAGES, LOCATIONS, CHANNELS)).astype(np.float32)
    rows = np.arange(100, 100 + 2 * IMAGES, 2)  # store rows that are not positions
    support = np.empty((TASKS, way, SHOT), dtype=np.int64)
    query = np.empty((TASKS, way, QUERIES), dtype=np.int64)
    for t in range(TASKS):
        chosen = rng.permutation(40)[: way * (SHOT + QUERIES)].reshape(way, -1)
        support[t], query[t] = rows[chosen[:, :SHOT]], rows[chosen[:, SHOT:]]
    base = rows[rng.integers(40, IMAGES, size=(TASKS, way * QUERIES))]
    labels = rng.integers(0, BASE, size=IMAGES)
    weights = rng.normal(size=(BASE, CHANNELS)).astype(np.float32)
    return Features(values, rows, {}), Episodes(support, query, base, {}), labels, weights


def expected(world, support_kind, query_kind, scale, adapted=None):
    """The plain form, in double precision."""
    features, episodes, labels, weights = world
    way = episodes.support.shape[1]
    values, weights = torch.from_numpy(features.values).double(), torch.from_numpy(weights).double()
    support, query, base = (features.index(rows) for rows in (episodes.support, episodes.query, episodes.base))
    if adapted is None:
        of_support, of_query = (pool_locations(values, kind) for kind in (support_kind, query_kind))
        return plain.accuracies(of_support[:, 0], of_query, support, query, scale, (base, torch.from_numpy(labels), weights))
    found = []
    for t in range(len(support)):  # every task has features of its own
        images = torch.from_numpy(np.concatenate([support[t].ravel(), query[t].ravel()]))
        own = torch.cat([values[images], torch.from_numpy(adapted[t]).double()], dim=-1)
        of_support, of_query = (pool_locations(own, kind) for kind in (support_kind, query_kind))
        numbers = np.arange(len(images))
        split = numbers[: support[t].size].reshape(1, way, -1), numbers[support[t].size :].reshape(1, way, -1)
        found += plain.accuracies(of_support[:, 0], of_query, *split, scale)["novel"]
    return {"novel": found}


@pytest.mark.parametrize("support_kind", ["gap", "gmp"])
@pytest.mark.parametrize("query_kind", ["gap", "gmp", "dense"])
def test_all_poolings_and_populations_equal_the_plain_loop(world, support_kind, query_kind, monkeypatch):
    features, episodes, labels, weights = world
    monkeypatch.setattr("fewshot.evaluation._BLOCK_BYTES", dict.fromkeys(_BLOCK_BYTES, 4 * 4 * WAY * CHANNELS))
    monkeypatch.setattr("fewshot.votes._GATHER_BYTES", {"cpu": 3 * WAY * QUERIES * CHANNELS * 4})
    monkeypatch.setattr("fewshot.votes._PRODUCT_BYTES", {"cpu": 2 * WAY * QUERIES * WAY * 4})
    monkeypatch.setattr("fewshot.votes._GROUP_BYTES", {"cpu": 5 * WAY * CHANNELS * 4})
    classes = ClassWeights(torch.from_numpy(weights), torch.from_numpy(labels))
    evaluator = Evaluator(features, torch.device("cpu"), classes)
    got = evaluator.accuracies(episodes, support_kind, query_kind, 4.0, ("novel", "base", "both"))
    wanted = expected(world, support_kind, query_kind, 4.0)
    for population, values in got.items():
        np.testing.assert_allclose(values, wanted[population], atol=1e-4, err_msg=population)


@pytest.mark.parametrize("query_kind", ["gap", "gmp", "dense"])
@pytest.mark.parametrize("way", [LOCATIONS - 1, LOCATIONS + 1])  # dense queries go image by image, and task by task
def test_adapted_channels_stand_beside_the_networks_own(way, query_kind):
    world = features, episodes, *_ = made(way)
    assert task_by_task(LOCATIONS, way) == (way > LOCATIONS)
    rng = np.random.default_rng(1)
    added = (2 * rng.normal(size=(TASKS, way * (SHOT + QUERIES), LOCATIONS, 2))).astype(np.float16)
    evaluator = Evaluator(features, torch.device("cpu"))
    got = evaluator.accuracies(episodes, "gap", query_kind, 4.0, adapted=added)
    np.testing.assert_allclose(got["novel"], expected(world, "gap", query_kind, 4.0, added)["novel"], atol=1e-4)
    without = evaluator.accuracies(episodes, "gap", query_kind, 4.0)["novel"]
    nothing = evaluator.accuracies(episodes, "gap", query_kind, 4.0, adapted=added[..., :0])["novel"]
    np.testing.assert_array_equal(nothing, without)
    assert not np.array_equal(got["novel"], without)


@pytest.mark.parametrize("query_kind", ["gap", "dense"])
@pytest.mark.parametrize("scale", [0.1, 10.0, 1000.0])
def test_any_scale_is_safe(world, query_kind, scale):
    """No exponential overflows, and none that matters vanishes.

    At a great scale a location's vote is all or nothing, so classes tie; single and double precision may break a tie apart.
    """
    features, episodes, labels, weights = world
    classes = ClassWeights(torch.from_numpy(weights), torch.from_numpy(labels))
    got = Evaluator(features, torch.device("cpu"), classes).accuracies(
        episodes, "gap", query_kind, scale, ("novel", "base", "both")
    )
    for population, values in expected(world, "gap", query_kind, scale).items():
        wrong = np.abs(got[population] - values)
        assert wrong.max() < 100 / (WAY * QUERIES) + 1e-4, population
        assert (wrong > 1e-4).sum() <= (1 if scale == 1000.0 else 0), population


@pytest.mark.parametrize("way", [WAY, 2 * LOCATIONS])
def test_task_by_task_equals_image_by_image(world, way, monkeypatch):
    features, _, labels, weights = world
    generator = torch.Generator().manual_seed(0)
    vectors = Vectors.of(torch.from_numpy(features.values))
    base = BaseVotes.of(vectors, torch.from_numpy(weights), torch.from_numpy(labels), 4.0)
    tasks = Tasks(torch.nn.functional.normalize(torch.randn(TASKS, way, CHANNELS, generator=generator), dim=-1))
    queries = torch.randint(IMAGES, (TASKS, way * QUERIES), generator=generator)
    for of_base in (False, True):
        one, other = (path(vectors, queries, tasks, 4.0, base, of_base) for path in (_task_by_task, _image_by_image))
        assert torch.equal(one.alone, other.alone)
        assert torch.equal(one.joint, other.joint)
        assert one.joint.any()
    slower = "_image_by_image" if way >= LOCATIONS else "_task_by_task"
    monkeypatch.setattr(f"fewshot.votes.{slower}", lambda *_: pytest.fail("the path that was measured to be slower"))
    right(vectors, queries, tasks, 4.0)


def test_equal_features_are_no_better_than_chance(world):
    """A collapsed network: all cosines are equal, and the first class is the answer."""
    features, episodes, labels, weights = world
    same = Features(np.ones_like(features.values), features.rows, {})
    classes = ClassWeights(torch.from_numpy(np.ones_like(weights)), torch.from_numpy(labels))
    for query_kind in ("gap", "dense"):
        got = Evaluator(same, torch.device("cpu"), classes).accuracies(episodes, "gap", query_kind, 10.0, ("novel", "both"))
        assert got["novel"].mean() == pytest.approx(100 / WAY, abs=1e-4)
        assert got["both"].mean() < 50


def test_fewer_tasks_are_the_first_ones(world):
    features, episodes, *_ = world
    evaluator = Evaluator(features, torch.device("cpu"))
    whole = evaluator.accuracies(episodes, "gap", "gap", 1.0)["novel"]
    np.testing.assert_array_equal(evaluator.accuracies(episodes, "gap", "gap", 1.0, tasks=3)["novel"], whole[:3])


def test_base_without_class_weights_is_refused(world):
    features, episodes, *_ = world
    with pytest.raises(ConfigError, match="class weights"):
        Evaluator(features, torch.device("cpu")).accuracies(episodes, "gap", "gap", 1.0, ("base",))


@pytest.mark.parametrize("query_kind", ["gap", "gmp", "dense"])
@pytest.mark.parametrize("way", [LOCATIONS - 1, LOCATIONS + 1])  # dense queries go image by image, and task by task
def test_vectors_of_length_zero_have_no_direction_and_spoil_nothing(way, query_kind):
    """What a ReLU leaves of a location, an image, or all exemplars of a class: its cosines are 0, as in the plain form."""
    world = features, episodes, labels, weights = made(way)
    features.values[:, 1] = 0
    features.values[::7] = 0
    features.values[features.index(episodes.support[0, 0])] = 0
    classes = ClassWeights(torch.from_numpy(weights), torch.from_numpy(labels))
    got = Evaluator(features, torch.device("cpu"), classes).accuracies(
        episodes, "gap", query_kind, 4.0, ("novel", "base", "both")
    )
    for population, values in expected(world, "gap", query_kind, 4.0).items():
        np.testing.assert_allclose(got[population], values, atol=1e-4, err_msg=population)


@pytest.mark.parametrize("query_kind", ["gap", "dense"])
def test_of_classes_that_tie_the_first_is_the_answer(world, query_kind):
    """All vectors, prototypes and the first class weight point one way, exactly: the base classes come first."""
    features, episodes, labels, _ = world
    values = np.zeros_like(features.values)
    values[..., 0] = 1
    classes = ClassWeights(torch.eye(BASE, CHANNELS), torch.from_numpy(labels))
    same = Features(values, features.rows, {})
    got = Evaluator(same, torch.device("cpu"), classes).accuracies(episodes, "gap", query_kind, 10.0, ("novel", "base", "both"))
    right = 100 * (labels[features.index(episodes.base)] == 0).mean(1)
    np.testing.assert_allclose(got["novel"], 100 / WAY)
    np.testing.assert_allclose(got["base"], right)
    np.testing.assert_allclose(got["both"], right / 2)
    assert right.any()


def test_one_evaluator_serves_several_scales(world):
    features, episodes, labels, weights = world
    classes = ClassWeights(torch.from_numpy(weights), torch.from_numpy(labels))
    evaluator = Evaluator(features, torch.device("cpu"), classes)
    for scale in (0.1, 30.0):
        got = evaluator.accuracies(episodes, "gap", "dense", scale, ("base", "both"))
        wanted = expected(world, "gap", "dense", scale)
        for population, values in got.items():
            np.testing.assert_allclose(values, wanted[population], atol=1e-4, err_msg=population)
    low, high = (expected(world, "gap", "dense", scale)["both"] for scale in (0.1, 30.0))
    assert not np.allclose(low, high)


def test_weights_on_flattened_features_do_not_serve_pooled_ones():
    labels = np.zeros(3, dtype=np.int64)
    for pooling, there in (("gap", True), ("flatten", False)):
        settings = {"backbone": {"name": "conv64", "widths": [4, 4, 8, 8]}, "classifier": {"pooling": pooling}}
        network = Network(NetworkSettings.model_validate(settings), 3, 32)
        assert (class_weights(network, labels) is not None) == there
