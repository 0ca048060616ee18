"""The convolution of backbones, and its form as a matrix product."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from fewshot.models.backbones import layers
from fewshot.models.backbones.layers import NARROW, Convolution, as_product


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))
def test_the_matrix_product_is_the_convolution_and_so_are_its_gradients(images, inputs, outputs, height, width):
    torch.manual_seed(0)
    x = torch.randn(images, inputs, height, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(outputs, inputs, 3, 3, dtype=torch.float64, requires_grad=True)
    plain, product = F.conv2d(x, weight, padding=1), as_product(x, weight)
    torch.testing.assert_close(product, plain)
    away = torch.randn_like(plain)
    expected, found = (torch.autograd.grad(form, (x, weight), away) for form in (plain, product))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_matrix_product_by_hand():
    x = torch.arange(4.0).reshape(1, 1, 2, 2)  # 0 1 / 2 3
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 0, 1], weight[0, 0, 1, 2] = 10, 1  # ten times what is above, and what is to the right
    assert as_product(x, weight)[0, 0].tolist() == [[1, 0], [3, 10]]


@pytest.mark.parametrize(
    ("size", "side", "autocast", "product"),
    [(3, 4, True, True), (3, 4, False, False), (3, NARROW, True, False), (1, 4, True, False), (3, NARROW - 1, True, True)],
)
def test_only_narrow_maps_in_bfloat16_are_matrix_products(monkeypatch, size, side, autocast, product):
    calls = []
    monkeypatch.setattr(layers, "as_product", lambda x, weight: calls.append(x.shape) or as_product(x, weight))
    layer = Convolution(6, 5, size, padding=size // 2, bias=False).to(memory_format=torch.channels_last)
    x = torch.randn(2, 6, side, side).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = layer(x)
    assert bool(calls) is product
    assert out.dtype == (torch.bfloat16 if autocast else torch.float32)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out.float(), F.conv2d(x, layer.weight, padding=size // 2), rtol=0.03, atol=0.03)
