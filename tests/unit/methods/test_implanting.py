"""Implants against a plain implementation with convolutions, one task at a time, and explicit leave-one-out loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fewshot.config import ImplantingSettings, NetworkSettings
from fewshot.errors import ConfigError
from fewshot.methods.implanting import (
    Implants,
    frozen_stream,
    leave_one_out,
    leave_one_out_loss,
    train_implants,
)
from fewshot.models.heads import locations, pool_locations
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


def chosen(**changes):
    return ImplantingSettings(method="implanting", width=3, epochs=4, **changes)


def kernel(taps, width):
    """(c, 9 w) of the batched form -> the (w, c, 3, 3) weight of an ordinary convolution."""
    return taps.view(-1, width, 3, 3).permute(1, 0, 2, 3).flip(2, 3)


def plain_implants(implants, task, network, batch, support):
    """Section 3.2.1 with ordinary convolutions of concatenated maps; statistics from the support images."""
    p = {name: value[task].detach() for name, value in implants.parameters.items()}
    block, width = network.backbone.last_block, implants.width
    x, a1, a2 = block.hidden(network.backbone.trunk(network.normalise(torch.from_numpy(batch))))

    def norm(values, name):
        if not implants.settings.batch_norm:
            return values
        seen = values[:support]
        mean, variance = seen.mean((0, 2, 3), keepdim=True), seen.var((0, 2, 3), correction=0, keepdim=True)
        gain, bias = p[f"gain{name}"].view(1, -1, 1, 1), p[f"bias{name}"].view(1, -1, 1, 1)
        return (values - mean) / (variance + 1e-5).sqrt() * gain + bias

    i1 = F.silu(norm(F.conv2d(x, kernel(p["w1"], width), padding=1), "1"))
    weight = torch.cat([kernel(p["w2"], width), kernel(p["v2"], width)], dim=1)
    i2 = F.silu(norm(F.conv2d(torch.cat([a1, i1], 1), weight, padding=1), "2"))
    weight = torch.cat([kernel(p["w3"], width), kernel(p["v3"], width)], dim=1)
    i3 = norm(F.conv2d(torch.cat([a2, i2], 1), weight, padding=1), "3")
    if implants.settings.shortcut:
        i3 = i3 + norm(F.conv2d(x, p["shortcut"].T[:, :, None, None]), "s")
    return locations(F.max_pool2d(F.silu(i3), 2))


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
            expected = plain_implants(implants, task, network, images[index[task].numpy()], 2)
            torch.testing.assert_close(got[task], expected, atol=1e-5, rtol=1e-4)


def test_the_frozen_stream_is_the_network(network, images):
    stream = frozen_stream(network, images)
    with torch.no_grad():
        expected = locations(network(network.normalise(torch.from_numpy(images))))
    torch.testing.assert_close(stream.features, expected)
    assert stream.side == 4
    assert [tuple(values.shape) for values in stream.inputs] == [(40, 16, 8), (40, 16, 10), (40, 16, 10)]


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


def loop_loss(features, way, shot, support_kind, query_kind, scale):
    """Equations (11) and (12), subtask by subtask, prototypes from means."""
    losses, right = [], []
    labels = [i // shot for i in range(way * shot)]
    for i in range(way * shot):
        prototypes = []
        for j in range(way):
            others = [pool_locations(features[s], support_kind)[0] for s in range(way * shot) if labels[s] == j and s != i]
            prototypes.append(torch.stack(others).mean(0))
        vote = torch.zeros(way)
        for query in pool_locations(features[i], query_kind):
            logits = torch.stack([scale * F.cosine_similarity(query, p, dim=0) for p in prototypes])
            losses.append(F.cross_entropy(logits, torch.tensor(labels[i])))
            vote += logits.softmax(0)
        right.append(float(vote.argmax() == labels[i]))
    return torch.stack(losses).mean(), np.mean(right)


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
            expected, expected_right = loop_loss(features[task], way, shot, support_kind, query_kind, 10.0)
            assert losses[task].item() == pytest.approx(expected.item(), rel=1e-8)
            assert right[task].item() == pytest.approx(expected_right)


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


def test_gradient_is_that_of_the_plain_form(network, images):
    """One step's gradient through the cached stream equals that through convolutions of the whole concatenation."""
    stream = frozen_stream(network, images)
    index = torch.arange(WAY * SHOT)[None]
    implants = Implants([0], (8, 10), chosen(), 0, torch.device("cpu"))
    seen = stream.take(index)
    base, added = (leave_one_out(f, WAY, "gap", "gap") for f in (seen.features, implants(seen)))
    leave_one_out_loss((base + added).cosines(), WAY, 10.0)[0].sum().backward()
    got = implants.parameters["w2"].grad[0].clone()
    eps, flat = 1e-2, int(got.abs().argmax())
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            implants.parameters["w2"][0].view(-1)[flat] += sign * eps
            features = torch.cat([seen.features, implants(seen)], dim=-1)[0]
            values.append(float(loop_loss(features, WAY, SHOT, "gap", "gap", 10.0)[0]))
            implants.parameters["w2"][0].view(-1)[flat] -= sign * eps
    assert got.view(-1)[flat].item() == pytest.approx((values[0] - values[1]) / (2 * eps), rel=0.02)


def test_one_shot_is_refused_and_says_why(network, images):
    stream = frozen_stream(network, images)
    with pytest.raises(ConfigError, match="at least two support images a class"):
        train_implants(stream, torch.arange(3).view(1, 3, 1), [0], chosen(), 0)


def test_a_backbone_without_residual_blocks_is_refused(images):
    network = Network(NetworkSettings.model_validate({"backbone": {"name": "c128f"}}), 5, 32)
    with pytest.raises(ConfigError, match="resnet12"):
        frozen_stream(network, images)


def test_zero_last_starts_from_the_base_network(network, images):
    stream = frozen_stream(network, images)
    settings_ = chosen(init="zero_last").model_copy(update={"epochs": 0})
    implants, statistics = train_implants(stream, torch.arange(6).view(1, 3, 2), [0], settings_, 0)
    assert not implants(stream.take(torch.arange(6)[None]), statistics).any()


def test_parameter_count_is_the_papers():
    """facts.md 1.4: 36,864 + 76,032 + 76,032 weights for 16 channels beside 256 -> 512."""
    settings_ = ImplantingSettings(method="implanting", batch_norm=False)
    implants = Implants([0], (256, 512), settings_, 0, torch.device("cpu"))
    assert sum(value.numel() for value in implants.parameters.values()) == 188_928
