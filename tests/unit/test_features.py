from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from fewshot import features, stages
from fewshot.checkpoint import load_network, save_network
from fewshot.config import NetworkSettings
from fewshot.errors import DataError
from fewshot.models import inference
from fewshot.models.heads import locations, pool_locations
from fewshot.models.network import Network
from fewshot.plan import Plan


@pytest.fixture
def trained(tmp_path, tiny_store):
    torch.manual_seed(0)
    settings = NetworkSettings.model_validate({"backbone": {"name": "c128f", "widths": [4, 4, 8, 8]}})
    network = Network(settings, tiny_store.num_base, tiny_store.image_size, tiny_store.mean, tiny_store.std)
    names = list(tiny_store.classes["name"][: tiny_store.num_base])
    save_network(network, tmp_path / "net", {"classes": names, "image_size": 16, "name": "n"})
    return load_network(tmp_path / "net")


def test_features_are_the_networks_feature_maps_by_location(trained, tiny_store, tmp_path):
    network, info = trained
    features.extract(network, info, tiny_store, ["test", "held_out"], tmp_path / "f")
    table = features.load(tmp_path / "f", info["sha256"])
    expected_rows = np.sort(np.concatenate([tiny_store.rows("test"), tiny_store.rows("held_out")]))
    np.testing.assert_array_equal(table.rows, expected_rows)
    some = table.rows[[3, 40]]
    with torch.no_grad():
        batch = network.normalise(torch.from_numpy(np.array(tiny_store.images[some])))
        expected = locations(network(batch)).numpy()
    np.testing.assert_allclose(table.values[table.index(some)], expected, atol=1e-5)
    held = replace(table, values=table.tensor("cpu"))
    for one in (table, held):
        np.testing.assert_allclose(one.of(some).numpy(), expected, atol=1e-5)
        np.testing.assert_array_equal(one.tensor("cpu").numpy(), table.values)


def test_batches_do_not_change_the_result(trained, tiny_store, monkeypatch):
    network, _ = trained
    whole = features.compute(network, tiny_store.images[:50], progress=False)
    monkeypatch.setattr(inference, "BATCH", {"cpu": 7 * tiny_store.image_size**2})
    assert inference.batch_size(torch.device("cpu"), tiny_store.image_size) == 7
    torch.testing.assert_close(features.compute(network, tiny_store.images[:50], progress=False), whole, atol=1e-5, rtol=1e-4)


def test_pooled_features_are_those_of_the_locations_pooled(trained, tiny_store, tmp_path):
    network, info = trained
    features.extract(network, info, tiny_store, ["base"], tmp_path / "all")
    features.extract(network, info, tiny_store, ["base"], tmp_path / "gap", "gap")
    whole, pooled = features.load(tmp_path / "all"), features.load(tmp_path / "gap")
    assert pooled.values.shape == (len(whole.values), 1, whole.values.shape[2])
    np.testing.assert_allclose(pooled.values[:, 0], whole.values.mean(1), atol=1e-5)
    assert (pooled.meta["map"], pooled.meta["pooling"], whole.meta["pooling"]) == ([1, 1], "gap", "dense")


@pytest.mark.parametrize("pooling", ["gap", "gmp", "flatten"])
def test_features_pooled_once_are_those_of_each_image_pooled(trained, tiny_store, tmp_path, monkeypatch, pooling):
    network, info = trained
    features.extract(network, info, tiny_store, ["test"], tmp_path / "f")
    table = features.load(tmp_path / "f")
    monkeypatch.setattr(features, "READ_AT_ONCE", 7)
    some = table.rows[[5, 0, 11]]
    for one in (table, replace(table, values=table.tensor("cpu"))):
        pooled = one.pooled(pooling)
        torch.testing.assert_close(pooled.of(some), pool_locations(table.of(some), pooling))
        assert (pooled.meta["pooling"], pooled.meta["map"]) == (pooling, [1, 1])
    direct = features.compute(network, tiny_store.images, some, pooling=pooling, progress=False)
    torch.testing.assert_close(direct, pool_locations(table.of(some), pooling))


def test_rows_without_features_and_foreign_features_are_refused(trained, tiny_store, tmp_path):
    network, info = trained
    features.extract(network, info, tiny_store, ["test"], tmp_path / "f")
    table = features.load(tmp_path / "f")
    with pytest.raises(DataError, match=r"^2 images have no features, the first in row \d+ of the store"):
        table.index(tiny_store.rows("base")[:2])
    with pytest.raises(DataError, match="another network"):
        features.load(tmp_path / "f", "0" * 64)
    (tmp_path / "f/features.npy").write_bytes(b"x")
    with pytest.raises(DataError, match="damaged"):
        features.load(tmp_path / "f")


def test_another_image_size_is_refused(trained, tiny_store, tmp_path):
    network, info = trained
    with pytest.raises(DataError, match="takes 84 px images"):
        features.extract(network, info | {"image_size": 84}, tiny_store, ["test"], tmp_path / "f")


def test_a_network_that_gives_no_numbers_is_refused(trained, tiny_store, tmp_path):
    network, info = trained
    with torch.no_grad():
        network.backbone.convolutions[0][0].weight.fill_(float("nan"))
    with pytest.raises(DataError, match="not finite"):
        features.extract(network, info, tiny_store, ["test"], tmp_path / "f")
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize("pooling", ["gap", "gmp"])
def test_several_locations_are_pooled_to_one(tiny_store, tmp_path, pooling):
    """Of 2 x 2: the network of the tests above has a single location at 16 pixels."""
    settings = NetworkSettings.model_validate({"backbone": {"name": "conv64", "widths": [4, 4, 8, 8], "last_pool": False}})
    network = Network(settings, tiny_store.num_base, tiny_store.image_size, tiny_store.mean, tiny_store.std).eval()
    info = {"image_size": tiny_store.image_size, "sha256": "0"}
    features.extract(network, info, tiny_store, ["test"], tmp_path / "all")
    features.extract(network, info, tiny_store, ["test"], tmp_path / pooling, pooling)
    whole, pooled = features.load(tmp_path / "all"), features.load(tmp_path / pooling)
    assert whole.values.shape[1:] == (4, 8)
    assert pooled.values.shape[1:] == (1, 8)
    wanted = whole.values.mean(1) if pooling == "gap" else whole.values.max(1)
    np.testing.assert_allclose(pooled.values[:, 0], wanted, atol=1e-5)
    assert (whole.meta["map"], pooled.meta["map"]) == ([2, 2], [1, 1])


def test_features_that_another_process_made_meanwhile_are_not_made_again(tiny_config, run_stages, tmp_path, monkeypatch):
    """Runs that share a network share its features: one process writes them, and none into what another reads."""
    monkeypatch.chdir(tmp_path)
    plan = run_stages(Plan(tiny_config), last="extract")
    job, made, right = plan.networks[0], [], features.extract
    monkeypatch.setattr(features, "extract", lambda *args: made.append(args[4]) or right(*args))
    asked = []

    @contextmanager
    def waited_for(folder, since):
        asked.append(folder)
        yield since

    folder = plan.features_dir(job)
    for since, times in ((0.0, 0), (None, 1)):
        monkeypatch.setattr(stages, "only_one", lambda out, since=since: waited_for(out, since))
        stages.extract(plan, job, plan.evaluated_part, threads=1)
        assert made == [folder] * times
    assert asked == [folder] * 2
