import pytest
import torch

from fewshot.config import FinetuningSettings, NetworkSettings, OptimizerSettings, ScheduleSettings
from fewshot.models.network import Network
from fewshot.optimization import Draw, build_optimizer, generator, learning_rate_factor


def test_steps_are_the_table_of_the_recipe():
    schedule = ScheduleSettings()
    at = {t: learning_rate_factor(schedule, t, 60) for t in (0, 19, 20, 39, 40, 49, 50, 59)}
    assert at == {0: 1, 19: 1, 20: 0.06, 39: 0.06, 40: 0.012, 49: 0.012, 50: 0.0024, 59: 0.0024}


def test_cosine_constant_and_warmup():
    assert learning_rate_factor(ScheduleSettings(kind="cosine"), 50, 100) == pytest.approx(0.5)
    constant = ScheduleSettings(kind="constant", warmup=4)
    assert [learning_rate_factor(constant, t, 100) for t in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_exponential_decay_is_the_papers():
    """Paper 001: x0.94 every four epochs; here of 25 iterations each."""
    schedule = ScheduleSettings(kind="exponential", decay=0.94, decay_every=100)
    at = [learning_rate_factor(schedule, t, 1000) for t in (0, 99, 100, 250, 999)]
    assert at == pytest.approx([1, 1, 0.94, 0.94**2, 0.94**9])


def test_generators_are_independent_streams():
    streams = [(seed, draw, number) for seed in (0, 1) for draw in Draw for number in (0, 1)]
    draws = {tuple(torch.rand(3, generator=generator(*stream)).tolist()) for stream in streams}
    assert len(draws) == len(streams) == 4 * len(set(map(int, Draw)))
    again = (torch.rand(3, generator=generator(0, Draw.TASKS, 5)) for _ in range(2))
    assert torch.equal(*again)


@pytest.mark.parametrize(("name", "kind"), [("sgd", "SGD"), ("adam", "Adam"), ("adamw", "AdamW"), ("rmsprop", "RMSprop")])
def test_every_optimizer_gets_its_settings(name, kind):
    network = Network(NetworkSettings.model_validate({"backbone": {"name": "conv64"}}), 3, 32)
    network.classifier.scale.requires_grad_(False)
    optimizer = build_optimizer(OptimizerSettings(name=name, lr=0.3, weight_decay=0.02), [network], {}, fused=False)
    assert type(optimizer).__name__ == kind
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.3, 0.02)
    assert not any(parameter is network.classifier.scale for parameter in group["params"])
    if name == "sgd":
        assert group["nesterov"]
    if name == "rmsprop":
        assert (group["alpha"], group["eps"]) == (0.99, 1e-8)


def test_new_layers_learn_by_their_factor():
    network = Network(NetworkSettings.model_validate({"backbone": {"name": "conv64"}}), 3, 32)
    optimizer = build_optimizer(OptimizerSettings(), [network], {network.classifier: 10.0}, fused=False)
    factors = {id(one): group["factor"] for group in optimizer.param_groups for one in group["params"]}
    assert factors[id(network.classifier.weight)] == 10.0
    assert {factors[id(one)] for one in network.backbone.parameters()} == {1.0}
    assert len(factors) == len(list(network.parameters()))


@pytest.mark.parametrize("kind", ["steps", "cosine", "exponential", "constant"])
def test_warm_up_goes_with_every_schedule(kind):
    plain, warm = (ScheduleSettings(kind=kind, warmup=warmup) for warmup in (0, 4))
    ratios = [learning_rate_factor(warm, t, 100) / learning_rate_factor(plain, t, 100) for t in range(6)]
    assert ratios == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_momentum_is_as_set(name):
    network = Network(NetworkSettings.model_validate({"backbone": {"name": "conv64"}}), 3, 32)
    for momentum, nesterov in ((0.5, True), (0.5, False), (0.0, True)):
        settings = OptimizerSettings(name=name, momentum=momentum, nesterov=nesterov)
        (group,) = build_optimizer(settings, [network], {}, fused=False).param_groups
        assert group["momentum"] == momentum
        assert group.get("nesterov", False) == (name == "sgd" and nesterov and momentum > 0)


def test_rmsprop_is_tensorflows_where_the_mean_of_squares_begins_at_one():
    """Against its recurrences, written out; epsilon is added to the root here and inside it there."""
    settings = FinetuningSettings().optimizer
    assert (settings.name, settings.smoothing, settings.epsilon, settings.mean_square) == ("rmsprop", 0.9, 1e-5, 1.0)
    layer = torch.nn.Linear(3, 1, bias=False)
    start = layer.weight.detach().double()
    optimizer = build_optimizer(settings, [layer], {}, fused=False)
    assert (optimizer.param_groups[0]["alpha"], optimizer.param_groups[0]["eps"]) == (0.9, 1e-5)
    square, step, moved = torch.ones_like(start), torch.zeros_like(start), torch.zeros_like(start)
    for number in range(60):
        gradient = torch.tensor([[1e-3, -0.5, 2.0]], dtype=torch.float64) * (1 + number % 3)
        layer.weight.grad = gradient.float()
        optimizer.step()
        square = 0.9 * square + 0.1 * gradient**2
        step = 0.9 * step + settings.lr * gradient / (square + 1e-10).sqrt()
        moved += step
    assert torch.allclose(start - layer.weight.detach().double(), moved, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize(("mean_square", "first"), [(0.0, 1e-3), (1.0, 1e-7)])
def test_the_first_step_of_rmsprop_by_what_its_mean_of_squares_begins_at(mean_square, first):
    """A gradient of 0.001 at a rate of 1e-4: from zero ten times the rate, smoothing 0.99."""
    layer = torch.nn.Linear(1, 1, bias=False)
    before = layer.weight.detach().clone()
    settings = OptimizerSettings(name="rmsprop", lr=1e-4, weight_decay=0.0, mean_square=mean_square)
    optimizer = build_optimizer(settings, [layer], {}, fused=False)
    layer.weight.grad = torch.full((1, 1), 1e-3)
    optimizer.step()
    assert float(before - layer.weight.detach()) == pytest.approx(first, rel=0.02, abs=2e-8)


def test_rmsprop_goes_on_from_a_saved_state_of_its_mean():
    settings, gradients = OptimizerSettings(name="rmsprop", lr=1e-3, mean_square=1.0), torch.randn(6, 2, 3)

    def steps(layer, optimizer, some):
        for gradient in some:
            layer.weight.grad = gradient.clone()
            optimizer.step()

    whole, first, second = (torch.nn.Linear(3, 2, bias=False) for _ in range(3))
    first.load_state_dict(whole.state_dict())
    steps(whole, build_optimizer(settings, [whole], {}, fused=False), gradients)
    halfway = build_optimizer(settings, [first], {}, fused=False)
    steps(first, halfway, gradients[:3])
    second.load_state_dict(first.state_dict())
    later = build_optimizer(settings, [second], {}, fused=False)
    later.load_state_dict(halfway.state_dict())
    steps(second, later, gradients[3:])
    assert torch.equal(second.weight, whole.weight)
