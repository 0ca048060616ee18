import pytest
import torch
from torch.nn import functional as F

from fewshot.config import WideResNetSettings
from fewshot.models.backbones import build_backbone, feature_shape, parameter_count
from fewshot.models.backbones.wide_resnet import Block, PostActivationBlock


def test_wrn_28_10_has_the_published_size():
    """36.5 M parameters, classifier of CIFAR-10 (6,410) included (Zagoruyko and Komodakis, Table 4)."""
    backbone = build_backbone(WideResNetSettings(name="wide_resnet"))
    assert parameter_count(backbone) + 6_410 == pytest.approx(36.5e6, rel=0.002)
    convolutions = [one for one in backbone.modules() if isinstance(one, torch.nn.Conv2d) and one.kernel_size == (3, 3)]
    assert len(convolutions) == 25  # and three 1x1 shortcuts: 28
    assert feature_shape(backbone, 32)[0] == 640


def test_shapes():
    small = build_backbone(WideResNetSettings(name="wide_resnet", depth=10, width=1))
    assert feature_shape(small, 32) == (64, 8, 8)
    assert feature_shape(small, 80) == (64, 20, 20)


def test_the_layout_of_paper_004_is_its_codes():
    """By the authors' resnet.lua: a stem of 80 channels, three groups of four blocks, each halving the side."""
    backbone = build_backbone(WideResNetSettings(name="wide_resnet", layout="post_activation"))
    convolutions = [one for one in backbone.modules() if isinstance(one, torch.nn.Conv2d)]
    assert [(one.out_channels, one.stride[0]) for one in convolutions if one.kernel_size == (3, 3)] == [
        (80, 1),
        *((width, 2 if i == 0 else 1) for width in (160, 320, 640) for i in range(8)),
    ]
    assert [(one.in_channels, one.out_channels, one.stride[0]) for one in convolutions if one.kernel_size == (1, 1)] == [
        (80, 160, 2), (160, 320, 2), (320, 640, 2),
    ]  # fmt: skip
    assert all(one.bias is None for one in convolutions)
    small = build_backbone(WideResNetSettings(name="wide_resnet", depth=10, width=2, layout="post_activation"))
    assert feature_shape(small, 80) == (128, 10, 10)
    assert small(torch.randn(2, 3, 32, 32)).min() >= 0  # ReLU of the sum


@pytest.mark.parametrize(("inputs", "stride"), [(4, 2), (6, 1), (4, 1), (6, 2)])
def test_a_post_activation_block_is_its_formula(inputs, stride):
    torch.manual_seed(0)
    block = PostActivationBlock(inputs, 6, stride).eval()
    x, shrink = torch.randn(2, inputs, 8, 8), (1 + 1e-5) ** -0.5
    hidden = F.relu(F.conv2d(x, block.convolution1.weight, stride=stride, padding=1) * shrink)
    hidden = F.conv2d(hidden, block.convolution2.weight, padding=1) * shrink
    beside = x if block.shortcut is None else F.conv2d(x, block.shortcut[0].weight, stride=stride) * shrink
    assert (block.shortcut is None) == (inputs == 6 and stride == 1)
    torch.testing.assert_close(block(x), F.relu(beside + hidden))


@pytest.mark.parametrize(("inputs", "stride"), [(4, 2), (6, 1), (4, 1)])
def test_a_block_is_its_formula(inputs, stride):
    torch.manual_seed(0)
    block = Block(inputs, 6, stride).eval()
    x = torch.randn(2, inputs, 8, 8)
    active = F.relu(x / (1 + 1e-5) ** 0.5)
    hidden = F.conv2d(active, block.convolution1.weight, stride=stride, padding=1)
    hidden = F.conv2d(F.relu(hidden / (1 + 1e-5) ** 0.5), block.convolution2.weight, padding=1)
    beside = x if block.shortcut is None else F.conv2d(active, block.shortcut.weight, stride=stride)
    assert (block.shortcut is None) == (inputs == 6 and stride == 1)
    torch.testing.assert_close(block(x), beside + hidden)


def test_convolutions_start_by_what_they_give():
    torch.manual_seed(0)
    weight = Block(8, 128, 1).convolution1.weight
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.05)


def test_what_leaves_the_last_group_is_normalised_and_rectified():
    torch.manual_seed(0)
    small = build_backbone(WideResNetSettings(name="wide_resnet", depth=10, width=1)).train()
    x = torch.randn(4, 3, 16, 16)
    expected = F.relu(F.batch_norm(small.layers(x), None, None, training=True))
    torch.testing.assert_close(small(x), expected)
