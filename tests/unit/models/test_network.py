import torch

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
