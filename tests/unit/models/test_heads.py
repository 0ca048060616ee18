import math

import pytest
import torch

from fewshot.config import ClassifierSettings
from fewshot.models.heads import (
    CosineClassifier,
    LinearClassifier,
    build_classifier,
    classification_loss,
    pool,
    predict,
    scaled_cosine,
)


@pytest.fixture
def feature_map():
    return torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(0))


def test_poolings_against_loops(feature_map):
    dense = pool(feature_map, "dense")
    assert dense.shape == (3, 10, 4)
    for b in range(3):
        for y in range(2):
            for x in range(5):
                assert torch.equal(dense[b, 5 * y + x], feature_map[b, :, y, x])
    for b in range(3):
        for d in range(4):
            values = [float(feature_map[b, d, y, x]) for y in range(2) for x in range(5)]
            assert float(pool(feature_map, "gap")[b, 0, d]) == pytest.approx(sum(values) / 10, abs=1e-6)
            assert float(pool(feature_map, "gmp")[b, 0, d]) == max(values)
    assert pool(feature_map, "flatten").shape == (3, 1, 40)


def test_scaled_cosine_is_equation_7():
    x, w = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, -2.0]])
    torch.testing.assert_close(scaled_cosine(x, w, 10.0), torch.tensor([[6.0, -8.0]]))


def test_cosine_classifier_ignores_lengths_and_learns_its_scale(feature_map):
    classifier = CosineClassifier(4, 6, scale=10.0)
    dense = pool(feature_map, "dense")
    torch.testing.assert_close(classifier(3.0 * dense), classifier(dense))
    assert classifier(dense).abs().max() <= 10.0 + 1e-5
    classifier(dense).sum().backward()
    assert classifier.scale.grad is not None
    assert not CosineClassifier(4, 6, learn_scale=False).scale.requires_grad


def test_dense_loss_is_equation_10_averaged_over_images_and_locations(feature_map):
    classifier = CosineClassifier(4, 6, scale=7.0)
    labels = torch.tensor([5, 0, 2])
    loss = classification_loss(classifier(pool(feature_map, "dense")), labels)
    total = 0.0
    for b in range(3):
        for y in range(2):
            for x in range(5):
                a = feature_map[b, :, y, x]
                logits = [7.0 * float(a @ w) / (float(a.norm()) * float(w.norm())) for w in classifier.weight.detach()]
                total += math.log(sum(math.exp(v) for v in logits)) - logits[labels[b]]
    assert loss.item() == pytest.approx(total / 30, rel=1e-5)


def test_prediction_averages_the_locations_probabilities():
    # Two locations lean to class 1, one is sure of class 0: the sum of logits says 0, the mean probability says 1.
    logits = torch.tensor([[[0.0, 3.0, 0.0], [0.0, 3.0, 0.0], [40.0, 0.0, 0.0]]])
    assert logits.sum(1).argmax().item() == 0
    assert predict(logits).item() == 1


def test_flattened_weights_have_the_shape_of_the_map():
    classifier = build_classifier(ClassifierSettings(pooling="flatten"), (4, 2, 5), 6)
    assert classifier.weight.shape == (6, 40)
    linear = build_classifier(ClassifierSettings(kind="linear"), (4, 2, 5), 6)
    assert linear.weight.shape == (6, 4)
    assert float(linear.scale) == 1.0


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_class_weights_start_with_the_deviation_that_is_stated(kind):
    torch.manual_seed(0)
    weight = build_classifier(ClassifierSettings(kind=kind), (512, 5, 5), 400).weight
    assert weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)


def test_a_classifier_has_the_scale_of_its_settings():
    held = build_classifier(ClassifierSettings(scale=25.0, learn_scale=False), (4, 2, 5), 6)
    assert (float(held.scale), held.scale.requires_grad) == (25.0, False)
    assert build_classifier(ClassifierSettings(), (4, 2, 5), 6).scale.requires_grad


def test_a_linear_classifier_is_affine(feature_map):
    linear, features = LinearClassifier(4, 6), pool(feature_map, "dense")
    torch.nn.init.normal_(linear.bias)
    torch.testing.assert_close(linear(features), features @ linear.weight.T + linear.bias)
