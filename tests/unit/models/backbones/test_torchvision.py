import pickle
import urllib.error

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from fewshot.config import NetworkSettings, TorchvisionSettings
from fewshot.errors import DataError
from fewshot.models.backbones import build_backbone, feature_shape, parameter_count
from fewshot.models.backbones.torchvision import STATISTICS
from fewshot.models.network import Network

NAMES = ("googlenet", "resnet18", "resnet50")


def _model(name):
    return models.get_model(name, weights=None, **({"aux_logits": True, "init_weights": True} if name == "googlenet" else {}))


@pytest.mark.parametrize(
    ("name", "parameters", "large", "small"),
    [
        ("googlenet", 5_599_904, (1024, 7, 7), (1024, 1, 1)),
        ("resnet18", 11_176_512, (512, 7, 7), (512, 1, 1)),
        ("resnet50", 23_508_032, (2048, 7, 7), (2048, 1, 1)),
    ],
)
def test_shapes_and_parameter_counts(name, parameters, large, small):
    backbone = build_backbone(TorchvisionSettings(name=name))
    assert parameter_count(backbone) == parameters
    assert feature_shape(backbone, 224) == large
    assert feature_shape(backbone, 32) == small


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("name", ["googlenet", "resnet18"])
def test_weights_of_a_file_give_torchvisions_own_features(name, ending, tmp_path):
    """Pooled features and torchvision's own fully connected layer give what torchvision's whole model gives."""
    torch.manual_seed(0)
    model, file = _model(name), tmp_path / f"weights.{ending}"
    with torch.no_grad():
        for module in model.modules():  # statistics of no use would hide a confusion of layers
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    state = model.state_dict()
    save_file(state, str(file)) if ending == "safetensors" else torch.save(state, file)
    network = Network(NetworkSettings(backbone={"name": name, "weights": str(file)}), 3, 64, (0.1, 0.2, 0.3), (1, 1, 1))
    network.load_pretrained()
    statistics = (0.5, 0.5) if name == "googlenet" else (0.485, 0.229)
    assert (network.mean[0].item(), network.std[0].item()) == pytest.approx(statistics)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        ours = model.fc(network.eval()(images).mean((2, 3)))
        torch.testing.assert_close(ours, model.eval()(images))


def test_without_weights_the_images_are_normalised_by_their_own_statistics():
    network = Network(NetworkSettings(backbone={"name": "resnet18"}), 3, 32, (0.1, 0.2, 0.3), (1, 1, 1))
    network.load_pretrained()
    assert network.mean.tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_imagenet_weights_that_cannot_be_had_name_the_file_to_bring(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    network = Network(NetworkSettings(backbone={"name": "googlenet", "weights": "imagenet"}), 3, 32)
    with pytest.raises(DataError, match=r"googlenet.*no route.*bring \S+/googlenet-1378be20\.pth.*`weights`") as error:
        network.load_pretrained()
    assert "\n" not in str(error.value)


def test_bad_files_of_weights(tmp_path):
    def load(file):
        Network(NetworkSettings(backbone={"name": "resnet18", "weights": str(file)}), 3, 32).load_pretrained()

    with pytest.raises(DataError, match="no such file of weights"):
        load(tmp_path / "nothing.pth")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(DataError, match="not a file of plain tensors"):
        load(tmp_path / "text.pth")
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(DataError, match="not a readable"):
        load(tmp_path / "text.safetensors")
    torch.save(_model("resnet18"), tmp_path / "pickled.pth")  # a whole model: code, which is never run
    with pytest.raises(DataError, match="not a file of plain tensors"):
        load(tmp_path / "pickled.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(DataError, match="not a state dict"):
        load(tmp_path / "list.pth")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "shape.pth")
    with pytest.raises(DataError, match=r"conv1\.weight is \(1,\), this resnet18 has \(64, 3, 7, 7\)"):
        load(tmp_path / "shape.pth")
    torch.save({}, tmp_path / "empty.pth")
    with pytest.raises(DataError, match=r"conv1\.weight is missing"):
        load(tmp_path / "empty.pth")


def test_a_harmful_pickle_is_not_run(tmp_path):
    class Harm:
        def __reduce__(self):
            return (tmp_path.joinpath("harmed").touch, ())

    file = tmp_path / "harm.pth"
    file.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(DataError, match="not a file of plain tensors"):
        Network(NetworkSettings(backbone={"name": "resnet18", "weights": str(file)}), 3, 32).load_pretrained()
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_images_are_normalised_as_torchvision_says_of_its_weights(name):
    said = models.get_model_weights(name)["IMAGENET1K_V1"].transforms()
    assert STATISTICS[name] == (tuple(said.mean), tuple(said.std))
