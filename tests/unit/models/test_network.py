import pytest
import torch
from torch.nn import functional as F

from fewshot.config import NetworkSettings
from fewshot.models.network import Network


def test_normalise_is_the_textbook_formula_in_channels_last_memory():
    settings = NetworkSettings.model_validate({"backbone": {"name": "conv64"}})
    network = Network(settings, 3, 32, mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4))
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    out = network.normalise(images)
    expected = (images.float() / 255 - torch.tensor([0.1, 0.5, 0.9])) / torch.tensor([0.2, 0.3, 0.4])
    torch.testing.assert_close(out, expected.permute(0, 3, 1, 2))
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert network.logits(out).shape == (2, 1, 3)


@pytest.mark.parametrize(
    ("classifier", "scale"), [({}, 10.0), ({"scale": 7}, 7.0), ({"kind": "linear", "scale": 7}, 7.0), ({"kind": "none"}, 1.0)]
)
def test_prototypes_are_compared_at_the_scale_of_the_classifier_or_of_the_settings_where_it_has_none(classifier, scale):
    kind = "episodic" if classifier.get("kind") == "none" else "classification"
    settings = {"backbone": {"name": "c128f"}, "classifier": classifier, "training": {"objective": {"kind": kind}}}
    network = Network(NetworkSettings.model_validate(settings), 3, 32)
    assert network.test_scale == scale


def test_an_embedding_is_the_linear_layer_of_the_pooled_features():
    """A 1x1 convolution of the map, averaged, is the linear layer of the average: what the paper's embedding is."""
    torch.manual_seed(0)
    network = Network(NetworkSettings(backbone={"name": "conv64"}, embedding=5), 3, 32).eval()
    images = torch.randn(2, 3, 32, 32)
    assert network.feature_shape == (5, 2, 2)
    assert network.classifier.weight.shape == (3, 5)
    expected = F.linear(network.backbone(images).mean((2, 3)), network.embedding.weight[:, :, 0, 0], network.embedding.bias)
    torch.testing.assert_close(network(images).mean((2, 3)), expected)


def test_a_network_without_an_embedding_has_the_parameters_it_always_had():
    names = {name.split(".")[0] for name in Network(NetworkSettings(backbone={"name": "conv64"}), 3, 32).state_dict()}
    assert names == {"backbone", "classifier", "mean", "std"}


def test_larger_images_are_cropped_at_their_centre_when_tested():
    settings = NetworkSettings(backbone={"name": "conv64"}, training={"augmentation": {"crop": 16}})
    network, images = Network(settings, 3, 20), torch.randint(0, 256, (2, 20, 20, 3), dtype=torch.uint8)
    assert network.feature_shape == (64, 1, 1)
    assert torch.equal(network.normalise(images), network.normalise(images[:, 2:18, 2:18]))
