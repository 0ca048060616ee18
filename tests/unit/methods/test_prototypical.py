import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fewshot.config import CosineDistanceSettings, EpisodicSettings, LeakySquaredEuclideanSettings, SquaredEuclideanSettings
from fewshot.methods import prototypical
from fewshot.methods.prototypical import distances, histograms, leaky, loss, loss_gradient, prototypes, squared_euclidean


@pytest.fixture
def vectors():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(30, 576, generator=generator).relu() * 3 + 2, torch.randn(20, 576, generator=generator).relu() * 3 + 2


def lsed(s, r):
    return LeakySquaredEuclideanSettings(name="leaky_squared_euclidean", s=s, r=r)


def test_prototypes_are_class_means_by_a_loop():
    support = torch.randn(7, 5, 11)
    for i, prototype in enumerate(prototypes(support)):
        total = torch.zeros(11)
        for image in support[i]:
            total += image
        torch.testing.assert_close(prototype, total / 5)


def test_squared_euclidean_equals_the_definition_by_a_loop(vectors):
    queries, centres = vectors
    found = squared_euclidean(queries, centres)
    for i, query in enumerate(queries):
        for j, centre in enumerate(centres):
            exact = float(sum((float(a) - float(b)) ** 2 for a, b in zip(query, centre, strict=True)))
            assert float(found[i, j]) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
@pytest.mark.parametrize("channels", [64, 576, 1600, 3200])
def test_the_expanded_form_is_within_its_stated_error_of_the_exact_distance(offset, channels):
    generator = torch.Generator().manual_seed(channels)
    centres = torch.randn(60, channels, generator=generator) + offset
    queries = torch.cat([torch.randn(100, channels, generator=generator) + offset, centres, centres + 1e-3])
    exact = torch.cdist(queries.double(), centres.double(), compute_mode="donot_use_mm_for_euclid_dist") ** 2
    middle = centres.double().mean(0)
    moved = [(values.double() - middle).square().sum(-1) for values in (queries, centres)]
    # Moving by the mean rounds too: half a unit in the last place of what is moved.
    rounding = 2 * exact.sqrt() * math.sqrt(channels) * 2**-23 * (1 + 2 * offset)
    bound = 2**-20 * (moved[0][:, None] + moved[1][None]) + rounding
    found = squared_euclidean(queries, centres)
    assert (found >= 0).all()
    assert ((found - exact).abs() <= bound).all()


def test_no_distance_is_negative_where_rounding_would_make_it_so():
    centres = 100 * torch.randn(60, 1600, generator=torch.Generator().manual_seed(3))  # and every query is a centre
    moved = centres - centres.mean(0)
    raw = moved.square().sum(-1, keepdim=True) + moved.square().sum(-1) - 2 * moved @ moved.T
    assert raw.min() < 0
    assert squared_euclidean(centres, centres).min() == 0


def test_batches_of_tasks_are_tasks_one_by_one():
    queries, centres = torch.randn(4, 9, 32), torch.randn(4, 5, 32)
    together = squared_euclidean(queries, centres)
    for i in range(4):
        torch.testing.assert_close(together[i], squared_euclidean(queries[i], centres[i]))


@pytest.mark.parametrize("s", [0.0, 4.0, 50.0])
def test_a_leak_of_one_is_the_squared_euclidean_distance_exactly(vectors, s):
    assert torch.equal(distances(*vectors, lsed(s, 1.0)), distances(*vectors, SquaredEuclideanSettings()))


def test_the_leak_is_equation_6_by_a_loop():
    squared = torch.tensor([0.0, 1.0, 3.999, 4.0, 4.001, 10.0, 1500.0])
    for value, got in zip(squared.tolist(), leaky(squared, 4.0, 0.01).tolist(), strict=True):
        assert got == pytest.approx(value if value <= 4 else 4 + (value - 4) * 0.01, rel=1e-6)


def test_the_leak_keeps_the_order_of_prototypes(vectors):
    squared = squared_euclidean(*vectors)
    assert torch.equal(leaky(squared, 0.0, 0.01).argsort(-1), squared.argsort(-1))


@pytest.mark.parametrize(("s", "r"), [(0.0, 0.01), (800.0, 0.01), (1e9, 0.1)])
def test_the_gradient_through_the_leak_is_equation_5_times_its_slope(s, r):
    generator = torch.Generator().manual_seed(1)
    squared = (torch.rand(12, 6, generator=generator, dtype=torch.float64) * 1600).requires_grad_()
    labels = torch.randint(6, (12,), generator=generator)
    found = leaky(squared, s, r)
    loss(found, labels).backward()
    probabilities = (-found.detach()).softmax(-1)
    for i in range(12):
        for j in range(6):
            slope = 1.0 if squared[i, j] <= s else r
            # l falls with p(y = j), which falls with d: the softmax is over -d, so eq. (5) is the gradient by -d.
            expected = -(float(probabilities[i, j]) - float(labels[i] == j)) * slope / 12
            assert float(squared.grad[i, j]) == pytest.approx(expected, rel=1e-9, abs=1e-15)
    found = found.detach().requires_grad_()
    loss(found, labels).backward()
    torch.testing.assert_close(found.grad * 12, loss_gradient(found.detach(), labels))


def test_cosine_distances_by_numpy(vectors):
    queries, centres = (values.numpy() for values in vectors)
    found = distances(*vectors, CosineDistanceSettings(name="cosine", scale=3.0)).numpy()
    unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (queries, centres)]
    np.testing.assert_allclose(found, 3 * (1 - unit[0] @ unit[1].T), atol=1e-5)


def test_gradients_of_a_distance_between_equal_vectors_are_finite():
    centres = torch.randn(5, 8)
    queries = centres.clone().requires_grad_()
    squared_euclidean(queries, centres).sum().backward()
    assert torch.isfinite(queries.grad).all()


def test_histograms_count_every_distance_and_gradient_once(vectors):
    labels = torch.arange(30) % 20
    found = squared_euclidean(*vectors)
    kept = histograms(found, labels)
    for name, values in (
        ("distance", found.double().numpy()),
        ("log_gradient", np.log(np.abs(loss_gradient(found, labels).numpy()) + np.float32(1e-5)).astype(float)),
    ):
        one = kept[name]
        assert sum(one["counts"]) == 600
        counts, _ = np.histogram(values.clip(one["low"], one["high"]), bins=prototypical.BINS, range=(one["low"], one["high"]))
        assert np.abs(np.array(one["counts"]) - counts).sum() <= 4, "but for values on the edge of a bin"


def test_a_leak_makes_sparse_gradients_dense(vectors):
    labels = torch.arange(30) % 20
    middle = {}
    for r in (1.0, 0.01):
        kept = histograms(distances(*vectors, lsed(0.0, r)), labels)["log_gradient"]
        middle[r] = sum(kept["counts"][30:])  # |dl/dd| above about 3e-4
    assert middle[1.0] < 100
    assert middle[0.01] > 500


@pytest.mark.parametrize(
    "wrong",
    [
        {"distance": {"name": "leaky_squared_euclidean", "s": -1}},
        {"distance": {"name": "leaky_squared_euclidean", "r": 0}},
        {"distance": {"name": "leaky_squared_euclidean", "r": 1.01}},
        {"distance": {"name": "cosine", "scale": 0}},
        {"distance": {"name": "euclidean"}},
        {"way": 1}, {"shot": 0}, {"queries": 0}, {"histograms": [-1]},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        EpisodicSettings.model_validate({"kind": "episodic", **wrong})
