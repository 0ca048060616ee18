import json

import pytest
import torch

from fewshot.checkpoint import atomic, atomic_folder, load_network, read_json, save_network
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
    torch.testing.assert_close(loaded.logits(loaded.normalise(images)), network.logits(network.normalise(images)))
    assert not loaded.training
    assert info["network"] == network.settings.as_dict()
    assert loaded.settings == network.settings


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


def test_missing_and_damaged_json_are_named(tmp_path):
    with pytest.raises(DataError, match=r"x\.json: missing"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        read_json(tmp_path / "x.json")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "out"
    with atomic_folder(folder) as building:
        (building / "one").write_text("1")
    with pytest.raises(RuntimeError), atomic_folder(folder) as building:
        (building / "two").write_text("2")
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["one"]
    with atomic_folder(folder) as building:
        (building / "three").write_text("3")
    assert [path.name for path in folder.iterdir()] == ["three"]
    assert list(tmp_path.iterdir()) == [folder]
