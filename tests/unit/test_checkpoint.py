import json

import pytest
import torch
from safetensors.torch import load_file

from fewshot import checkpoint
from fewshot.checkpoint import _stored, load_network, save_network
from fewshot.config import NetworkSettings
from fewshot.errors import DataError
from fewshot.files import write_record
from fewshot.models.network import Network


@pytest.fixture(autouse=True)
def another_process(monkeypatch):
    """Which has looked at no weights yet."""
    monkeypatch.setattr(checkpoint, "_probed", set())


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


@pytest.mark.parametrize("rows", [slice(None), slice(1, 2)])
def test_weights_too_small_for_half_precision_are_kept_in_single(saved, tmp_path, rows):
    """A cosine classifier sees directions: weights of a deviation of 4e-8 predict as those of 1 do, one row of them too."""
    network, _ = saved
    with torch.no_grad():
        network.classifier.weight[rows] *= 3.8e-8 / network.classifier.weight.std()
    save_network(network, tmp_path / "small", {"classes": list("abcd"), "image_size": 32, "name": "n"})
    assert torch.equal(load_network(tmp_path / "small")[0].classifier.weight, network.classifier.weight)


def test_rows_of_nothing_and_the_usual_weights_take_half_precision():
    torch.manual_seed(0)
    for deviation in (3e-4, 0.01, 1.0, 100.0):
        weights = torch.randn(64, 32, 3, 3) * deviation
        weights[5] = 0.0
        half = _stored(weights)
        assert half.dtype == torch.float16
        change = (half.double() - weights.double()).flatten(1).norm(dim=1)
        assert (change <= 2.0**-10 * weights.double().flatten(1).norm(dim=1)).all()


def test_a_resnet_12_takes_less_than_16_mebibytes(tmp_path):
    settings = NetworkSettings.model_validate({"backbone": {"name": "resnet12"}})
    save_network(Network(settings, 64, 84), tmp_path / "net", {"classes": ["a"] * 64, "image_size": 84, "name": "n"})
    assert (tmp_path / "net" / "model.safetensors").stat().st_size < 16 * 2**20


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


@pytest.mark.parametrize("backbone", [{"name": "c128f"}, {"name": "resnet12", "widths": [4, 6, 8, 10]}])
def test_code_that_computes_other_features_with_the_same_weights_is_found(tmp_path, monkeypatch, backbone):
    """Weights trained with one activation are no network with another, though they load."""
    network = Network(NetworkSettings.model_validate({"backbone": backbone}), 4, 32)
    network.train()
    for _ in range(3):
        network(torch.randn(8, 3, 32, 32))
    save_network(network, tmp_path / "net", {"classes": list("abcd"), "image_size": 32, "name": "n"})
    assert network.training
    assert len(json.loads((tmp_path / "net/model.json").read_text())["probe"]) == 16
    load_network(tmp_path / "net")
    checkpoint._probed.clear()
    for name in ("relu", "silu"):
        monkeypatch.setattr(torch.nn.functional, name, lambda x, inplace=False: torch.sigmoid(x))
    said = f"the present code of {backbone['name']} computes other features .*`fewshot train --force`"
    with pytest.raises(DataError, match=said):
        load_network(tmp_path / "net")


def test_a_record_of_an_earlier_version_tells_no_features_and_is_read(saved, monkeypatch):
    info = json.loads((saved[1] / "model.json").read_text())
    del info["probe"], info["files"], info["seal"]
    write_record(saved[1] / "model.json", info, ("model.safetensors",))
    monkeypatch.setattr(torch.nn.functional, "relu", lambda x, inplace=False: torch.sigmoid(x))
    load_network(saved[1])


SAVED_AND_LOADED = [
    {"backbone": {"name": "conv64", "last_pool": False}},
    {"backbone": {"name": "c128f"}, "embedding": 8},
    {"backbone": {"name": "resnet12", "widths": [4, 6, 8, 10]}, "training": {"augmentation": {"crop": 32}}},
    {"backbone": {"name": "wide_resnet", "depth": 10, "width": 1}},
    {"backbone": {"name": "resnet18"}},
]


@pytest.mark.parametrize("settings", SAVED_AND_LOADED)
def test_a_network_that_is_what_it_was_is_read_whatever_the_process_computes_in(tmp_path, settings):
    """Nor does saving one draw from the generators or change its mode."""
    network = Network(NetworkSettings.model_validate(settings), 4, 40).train()
    before = torch.get_rng_state()
    save_network(network, tmp_path / "net", {"classes": list("abcd"), "image_size": 40, "name": "n"})
    assert network.training
    assert torch.equal(torch.get_rng_state(), before)
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            load_network(tmp_path / "net")
    finally:
        torch.set_float32_matmul_precision(precision)


def test_features_that_are_not_finite_and_those_of_unknown_code_are_not_compared(saved, tmp_path, monkeypatch):
    network, _ = saved
    told = {"classes": list("abcd"), "image_size": 32, "name": "n"}
    save_network(network, tmp_path / "imprinted", {**told, "probe": None})  # on a network of an earlier version
    monkeypatch.setattr(torch.nn.functional, "relu", lambda x, inplace=False: torch.sigmoid(x))
    load_network(tmp_path / "imprinted")
    with torch.no_grad():
        network.backbone.convolutions[3][1].bias.fill_(float("inf"))
    save_network(network, tmp_path / "broken", told)
    assert json.loads((tmp_path / "broken/model.json").read_text())["probe"] is None
    load_network(tmp_path / "broken")


def test_a_process_looks_at_the_same_weights_once(saved, monkeypatch):
    looked = []
    probe = checkpoint._probe
    monkeypatch.setattr(checkpoint, "_probe", lambda *args: looked.append(1) or probe(*args))
    for _ in range(3):
        load_network(saved[1])
    assert looked == [1]
