"""The convolution of backbones, and its form as a matrix product."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fewshot.models.backbones import layers
from fewshot.models.backbones.layers import NARROW, Convolution, MatrixProduct


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))
def test_the_matrix_product_is_the_convolution_and_so_are_its_gradients(images, inputs, outputs, height, width):
    torch.manual_seed(0)
    x = torch.randn(images, inputs, height, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(outputs, inputs, 3, 3, dtype=torch.float64, requires_grad=True)
    plain, product = F.conv2d(x, weight, padding=1), MatrixProduct.apply(x, weight)
    torch.testing.assert_close(product, plain)
    away = torch.randn_like(plain)
    expected, found = (torch.autograd.grad(form, (x, weight), away) for form in (plain, product))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_matrix_product_by_hand():
    x = torch.arange(4.0).reshape(1, 1, 2, 2)  # 0 1 / 2 3
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 0, 1], weight[0, 0, 1, 2] = 10, 1  # ten times what is above, and what is to the right
    assert MatrixProduct.apply(x, weight)[0, 0].tolist() == [[1, 0], [3, 10]]


@pytest.mark.parametrize(
    ("size", "side", "autocast", "product"),
    [(3, 4, True, True), (3, 4, False, False), (3, NARROW, True, False), (1, 4, True, False), (3, NARROW - 1, True, True)],
)
def test_only_narrow_maps_in_bfloat16_are_matrix_products(monkeypatch, size, side, autocast, product):
    calls, made = [], layers._product
    monkeypatch.setattr(layers, "_product", lambda x, weight: calls.append(x.shape) or made(x, weight))
    layer = Convolution(6, 5, size).to(memory_format=torch.channels_last)
    x = torch.randn(2, 6, side, side).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = layer(x)
    assert bool(calls) is product
    assert out.dtype == (torch.bfloat16 if autocast else torch.float32)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out.float(), F.conv2d(x, layer.weight, padding=size // 2), rtol=0.03, atol=0.03)


def test_in_bfloat16_gradients_are_as_near_as_the_convolutions(monkeypatch):
    """Sums are in single precision in both forms; what is rounded is what goes in and what comes out."""
    torch.manual_seed(0)
    layer = Convolution(64, 32, 3).to(memory_format=torch.channels_last)
    x = torch.randn(16, 64, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    away = torch.randn(16, 32, 4, 4)
    exact = torch.autograd.grad(layer(x), (x, layer.weight), away)
    apart = {}
    for narrow in (NARROW, 0):
        monkeypatch.setattr(layers, "NARROW", narrow)
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(x)
        found = torch.autograd.grad(out, (x, layer.weight), away.bfloat16())
        assert [one.dtype for one in found] == [torch.float32, torch.float32]
        apart[narrow] = [float((one - right).norm() / right.norm()) for one, right in zip(found, exact, strict=True)]
    for product, convolution in zip(apart[NARROW], apart[0], strict=True):
        assert product < 1.1 * convolution < 0.01
