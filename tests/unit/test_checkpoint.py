import json

import pytest
import torch
from safetensors.torch import load_file

from fewshot.checkpoint import load_network, save_network
from fewshot.config import NetworkSettings
from fewshot.errors import DataError
from fewshot.models.network import Network


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(3)
    settings = NetworkSettings.model_validate({"backbone": {"name": "c128f"}, "classifier": {"pooling": "dense"}})
    network = Network(settings, 4, 32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2))
    save_network(network, tmp_path / "net", {"classes": ["a", "b", "c", "d"], "image_size": 32, "name": "n"})
    return network, tmp_path / "net"


def test_round_trip_gives_the_same_logits(saved):
    network, folder = saved
    loaded, info = load_network(folder)
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    network.eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.copy_(parameter.half())
    assert torch.equal(loaded.logits(loaded.normalise(images)), network.logits(network.normalise(images)))
    assert not loaded.training
    assert info["network"] == network.settings.as_dict()
    assert loaded.settings == network.settings


def test_kernels_are_kept_in_half_precision_unless_they_do_not_fit(saved, tmp_path):
    network, folder = saved
    kinds = {name: tensor.dtype for name, tensor in load_file(str(folder / "model.safetensors")).items()}
    assert kinds["classifier.weight"] == kinds["backbone.convolutions.0.0.weight"] == torch.float16
    assert kinds["classifier.scale"] == kinds["backbone.convolutions.0.1.running_var"] == torch.float32
    with torch.no_grad():
        network.classifier.weight[0, 0] = 1e6
    save_network(network, tmp_path / "large", {"classes": list("abcd"), "image_size": 32, "name": "n"})
    assert load_network(tmp_path / "large")[0].classifier.weight[0, 0] == 1e6


def test_a_network_of_other_data_is_refused(saved):
    with pytest.raises(DataError, match="trained on other data"):
        load_network(saved[1], data_hash="0" * 64)


def test_a_flipped_bit_is_found(saved):
    _, folder = saved
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-5] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(DataError, match=r"model\.safetensors: damaged"):
        load_network(folder)


@pytest.mark.parametrize("change", [{"format": 99}, {"network": {"backbone": {"name": "vgg"}}}, {"classes": ["a"]}])
def test_a_network_of_another_form_is_refused(saved, change):
    _, folder = saved
    info = json.loads((folder / "model.json").read_text()) | change
    (folder / "model.json").write_text(json.dumps(info))
    with pytest.raises(DataError):
        load_network(folder)
