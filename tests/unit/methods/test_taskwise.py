"""Task-wise convolutions against the sum over taps, and the two forms against each other, gradients included."""

import pytest
import torch

from fewshot.methods import taskwise

TASKS, IMAGES, SIDE, CHANNELS, WIDTH = 3, 2, 4, 5, 2


@pytest.fixture
def world():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(TASKS, IMAGES, SIDE * SIDE, CHANNELS, generator=generator, dtype=torch.float64)
    kernels = torch.randn(TASKS, WIDTH, 3, 3, CHANNELS, generator=generator, dtype=torch.float64)
    return x, kernels


def plain(x, kernels):
    out = torch.zeros(TASKS, IMAGES, SIDE, SIDE, WIDTH, dtype=x.dtype)
    maps = x.view(TASKS, IMAGES, SIDE, SIDE, CHANNELS)
    for row in range(SIDE):
        for column in range(SIDE):
            for i in range(3):
                for j in range(3):
                    y, z = row + i - 1, column + j - 1
                    if 0 <= y < SIDE and 0 <= z < SIDE:
                        out[:, :, row, column] += torch.einsum("tnc,twc->tnw", maps[:, :, y, z], kernels[:, :, i, j])
    return out.view(TASKS, IMAGES * SIDE * SIDE, WIDTH)


@pytest.mark.parametrize("form", [taskwise._one_by_one, taskwise._by_taps])
def test_both_forms_are_the_convolution_of_every_task(world, form):
    torch.testing.assert_close(form(*world, SIDE), plain(*world))


def test_both_forms_have_the_same_gradients(world):
    gradients = []
    for form in (taskwise._one_by_one, taskwise._by_taps):
        x, kernels = (values.clone().requires_grad_() for values in world)
        form(x, kernels, SIDE).square().sum().backward()
        gradients.append((x.grad, kernels.grad))
    torch.testing.assert_close(*gradients)


def test_the_cpu_takes_one_convolution_a_task(world, monkeypatch):
    monkeypatch.setattr(taskwise, "_by_taps", lambda *_: pytest.fail("the slower form on a CPU"))
    assert taskwise.convolve(*world, SIDE).shape == (TASKS, IMAGES * SIDE * SIDE, WIDTH)
