"""Implants against a plain implementation with convolutions, one task at a time, and explicit leave-one-out loops."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import plain
from fewshot.config import ImplantingSettings, NetworkSettings
from fewshot.errors import ConfigError, DataError
from fewshot.methods import implanting
from fewshot.methods.implanting import (
    Implants,
    frozen_stream,
    leave_one_out,
    leave_one_out_loss,
    train_implants,
)
from fewshot.models.heads import locations
from fewshot.models.network import Network

WAY, SHOT = 3, 2


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    settings = NetworkSettings.model_validate({"backbone": {"name": "resnet12", "widths": [4, 6, 8, 10]}})
    network = Network(settings, 5, 32)
    network.train()  # move the running statistics away from their start
    for _ in range(3):
        network(torch.randn(16, 3, 32, 32))
    return network.eval()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def whole_precision(monkeypatch):
    """Half precision of the stored stream has a test of its own."""
    monkeypatch.setattr(implanting, "STORED", torch.float32)


def block_input(network, batch):
    with torch.no_grad():
        return network.backbone.trunk(network.normalise(torch.from_numpy(batch)))


def chosen(**changes):
    return ImplantingSettings(method="implanting", width=3, epochs=4, **changes)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("shortcut", [True, False])
def test_batched_implants_equal_plain_convolutions(network, images, batch_norm, shortcut):
    settings_ = chosen(batch_norm=batch_norm, shortcut=shortcut)
    stream = frozen_stream(network, images)
    implants = Implants([0, 1], (8, 10), settings_, 0, torch.device("cpu"))
    index = torch.tensor([[0, 5, 7, 9], [3, 2, 11, 30]])
    statistics = {}
    with torch.no_grad():
        implants(stream.take(index[:, :2]), statistics)
        got = implants(stream.take(index), statistics)
        for task in range(2):
            p = {name: value[task] for name, value in implants.parameters.items()}
            x = block_input(network, images[index[task].numpy()])
            plain.implanted(network.backbone.last_block, x[:2], p, settings_, kept := {})
            expected = plain.implanted(network.backbone.last_block, x, p, settings_, kept)
            torch.testing.assert_close(got[task], expected[..., -3:], atol=1e-5, rtol=1e-4)


def test_the_frozen_stream_is_the_network(network, images):
    stream = frozen_stream(network, images)
    with torch.no_grad():
        expected = locations(network(network.normalise(torch.from_numpy(images))))
    torch.testing.assert_close(stream.features, expected)
    assert stream.side == 4
    assert [tuple(values.shape) for values in stream.inputs] == [(40, 16, 8), (40, 16, 10), (40, 16, 10)]


def test_the_stream_is_stored_in_half_precision_and_used_in_single(network, images, monkeypatch):
    whole = frozen_stream(network, images)
    monkeypatch.setattr(implanting, "STORED", torch.float16)
    half = frozen_stream(network, images)
    assert torch.equal(half.features, whole.features)
    for stored, exact in zip(half.inputs, whole.inputs, strict=True):
        assert stored.dtype == torch.float16
        torch.testing.assert_close(stored.float(), exact, rtol=2**-11, atol=2**-24)
    assert all(values.dtype == torch.float32 for values in half.take(torch.arange(3)).inputs)


def test_a_stream_that_half_precision_cannot_hold_is_refused_and_says_whose_it_is(network, images, monkeypatch):
    large = copy.deepcopy(network)
    with torch.no_grad():
        large.backbone.last_block.convolutions[0][1].weight.mul_(1e6)
    assert all(values.isfinite().all() for values in frozen_stream(large, images).inputs), "in single precision it fits"
    monkeypatch.setattr(implanting, "STORED", torch.float16)
    with pytest.raises(DataError, match="the network's activations in its last block are not finite in half precision"):
        frozen_stream(large, images)


def test_with_zero_width_the_network_is_the_base_network_bit_for_bit(network, images):
    stream = frozen_stream(network, images)
    support = torch.arange(WAY * SHOT).view(1, WAY, SHOT)
    settings_ = chosen().model_copy(update={"width": 0})
    implants, statistics = train_implants(stream, support, [0], settings_, 0)
    seen = stream.take(torch.arange(20)[None])
    widened = torch.cat([seen.features, implants(seen, statistics)], dim=-1)
    with torch.no_grad():
        expected = locations(network(network.normalise(torch.from_numpy(images))))
    assert torch.equal(widened[0], expected[:20])


def test_the_base_network_does_not_change(network, images):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()  # as a careless caller would hand it over: its running statistics must not move
    stream = frozen_stream(network, images)
    features = stream.features.clone()
    train_implants(stream, torch.arange(WAY * SHOT).view(1, WAY, SHOT), [0], chosen(), 0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(stream.features, features)
    assert all(parameter.grad is None for parameter in network.parameters())


@settings(max_examples=20, deadline=None)
@given(
    way=st.integers(2, 4), shot=st.integers(2, 4), seed=st.integers(0, 99),
    support_kind=st.sampled_from(["gap", "gmp"]), query_kind=st.sampled_from(["gap", "gmp", "dense"]),
)  # fmt: skip
def test_closed_form_leave_one_out_equals_the_loop(way, shot, seed, support_kind, query_kind):
    features = torch.randn(2, way * shot, 4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    together = leave_one_out(features, way, support_kind, query_kind)
    parts = leave_one_out(features[..., :4], way, support_kind, query_kind)
    parts = parts + leave_one_out(features[..., 4:], way, support_kind, query_kind)
    for products in (together, parts):
        losses, right = leave_one_out_loss(products.cosines(), way, 10.0)
        for task in range(2):
            expected, expected_right = plain.leave_one_out(features[task], way, support_kind, query_kind, 10.0)
            assert losses[task].item() == pytest.approx(expected.item(), rel=1e-8)
            assert right[task].item() == pytest.approx(expected_right.item())


def test_training_lowers_the_loss_and_tasks_do_not_depend_on_each_other(network, images):
    stream = frozen_stream(network, images)
    support = torch.randperm(40, generator=torch.Generator().manual_seed(1))[: 4 * WAY * SHOT].view(4, WAY, SHOT)
    curves = []
    settings_ = chosen().model_copy(update={"epochs": 30, "lr": 1e-2})
    together, statistics = train_implants(
        stream, support, [4, 5, 6, 7], settings_, 0, lambda epoch, losses, right: curves.append(losses)
    )
    assert (curves[-1] < curves[0]).all()
    alone, _ = train_implants(stream, support[2:3], [6], settings_, 0)
    for name, value in alone.parameters.items():
        torch.testing.assert_close(value[0], together.parameters[name][2], atol=1e-5, rtol=1e-4)
    assert statistics["1"][0].shape == (4, 1, 3)


@pytest.mark.parametrize(("query_pooling", "batch_norm_init"), [("gap", "ones"), ("dense", "ones"), ("gap", "block")])
def test_training_equals_the_plain_loop(network, images, query_pooling, batch_norm_init):
    """Losses and weights after some steps: those of the whole block, forward and backward, one task after the other."""
    settings_ = chosen(query_pooling=query_pooling, shortcut=True, batch_norm_init=batch_norm_init)
    settings_ = settings_.model_copy(update={"epochs": 5, "lr": 1e-2})
    stream = frozen_stream(network, images)
    support = torch.tensor([[0, 5, 7, 9, 11, 2], [3, 2, 11, 30, 31, 8]])
    curves = []
    got, _ = train_implants(
        stream, support.view(2, WAY, SHOT), [4, 9], settings_, 0, lambda epoch, losses, right: curves.append(losses)
    )
    initial = implanting.untrained(stream, [4, 9], settings_, 0).parameters
    for task in range(2):
        start = {name: value[task] for name, value in initial.items()}
        x = block_input(network, images[support[task].numpy()])
        expected, curve = plain.train_implants(network.backbone.last_block, x, WAY, start, settings_)
        assert [float(losses[task]) for losses in curves] == pytest.approx(curve, rel=1e-3)
        for name, value in expected.items():
            moved, wanted = got.parameters[name][task].detach() - start[name], value - start[name]
            assert (moved - wanted).norm() < 0.02 * wanted.norm(), name


def test_one_shot_is_refused_and_says_why(network, images):
    stream = frozen_stream(network, images)
    with pytest.raises(ConfigError, match="at least two support images a class"):
        train_implants(stream, torch.arange(3).view(1, 3, 1), [0], chosen(), 0)


def test_a_backbone_without_residual_blocks_is_refused(images):
    network = Network(NetworkSettings.model_validate({"backbone": {"name": "c128f"}}), 5, 32)
    with pytest.raises(ConfigError, match="resnet12"):
        frozen_stream(network, images)


@pytest.mark.parametrize("name", ["w1", "w2", "v2", "w3", "v3", "shortcut"])
def test_both_initialisations(name):
    """He's deviation is sqrt(2 / fan-out); that of a convolution of PyTorch is measured on one."""
    drawn = {
        init: Implants(
            [0], (256, 512), ImplantingSettings(method="implanting", shortcut=True, init=init), 0, torch.device("cpu")
        )
        for init in ("he_normal", "fan_in")
    }
    side = 1 if name == "shortcut" else 3
    inputs = 256 if name in ("w1", "shortcut") else 512 + 16
    usual = torch.nn.Conv2d(inputs, 16, side, bias=False).weight.std().item()
    assert drawn["fan_in"].parameters[name].std().item() == pytest.approx(usual, rel=0.05)
    he = (2 / (side * side * 16)) ** 0.5
    assert drawn["he_normal"].parameters[name].std().item() == pytest.approx(he, rel=0.05)


def test_batch_normalisation_begins_as_the_blocks_own(network, images):
    """Implants have the size of the block's other channels then, however far its training has shrunk them."""
    shrunk = copy.deepcopy(network)
    block = shrunk.backbone.last_block
    generator = torch.Generator().manual_seed(0)
    layers = {"1": block.convolutions[0], "2": block.convolutions[1], "3": block.convolutions[2], "s": block.shortcut}
    with torch.no_grad():
        for layer in layers.values():
            layer[1].weight.uniform_(-0.05, 0.2, generator=generator)
            layer[1].bias.uniform_(-0.1, 0.1, generator=generator)
    stream = frozen_stream(shrunk, images)
    support = torch.arange(WAY * SHOT).view(1, WAY, SHOT)
    sizes = {}
    for init in ("ones", "block"):
        settings_ = chosen(batch_norm_init=init).model_copy(update={"epochs": 0, "width": 8})
        implants, statistics = train_implants(stream, support, [0], settings_, 0)
        for name, layer in layers.items():
            gain, bias = (
                (layer[1].weight.abs().mean(), layer[1].bias.mean()) if init == "block" else (torch.ones(()), torch.zeros(()))
            )
            assert (implants.parameters[f"gain{name}"] == gain).all()
            assert (implants.parameters[f"bias{name}"] == bias).all()
        with torch.no_grad():
            sizes[init] = implants(stream.take(support.flatten(1)), statistics).square().mean()
    own = stream.features[support.flatten()].square().mean()
    assert own / 3 < sizes["block"] < own * 3
    assert sizes["ones"] > own * 20


def test_parameter_count_is_the_papers():
    """facts.md 1.4: 36,864 + 76,032 + 76,032 weights for 16 channels beside 256 -> 512."""
    settings_ = ImplantingSettings(method="implanting", batch_norm=False, shortcut=False)
    implants = Implants([0], (256, 512), settings_, 0, torch.device("cpu"))
    assert sum(value.numel() for value in implants.parameters.values()) == 188_928


def test_every_seed_and_task_has_initial_weights_of_its_own():
    drawn = [
        Implants([task], (8, 10), chosen(), seed, torch.device("cpu")).parameters["w1"]
        for seed, task in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[3])


@pytest.mark.parametrize("query_kind", ["gap", "dense"])
def test_images_without_features_cost_no_numbers(query_kind):
    """A vector of no length has the cosine 0 with all, and a gradient that is finite."""
    features = torch.randn(1, 6, 4, 5, generator=torch.Generator().manual_seed(0))
    features[0, 2:4] = 0  # a whole class
    features.requires_grad_()
    losses, _ = leave_one_out_loss(leave_one_out(features, 3, "gap", query_kind).cosines(), 3, 10.0)
    expected, _ = plain.leave_one_out(features[0].detach(), 3, "gap", query_kind, 10.0)
    assert losses.item() == pytest.approx(expected.item(), rel=1e-5)
    losses.sum().backward()
    assert features.grad.isfinite().all()
