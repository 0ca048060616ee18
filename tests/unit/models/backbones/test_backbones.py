import pytest
import torch
from torch.nn import functional as F

from fewshot.config import C128FSettings, Conv64Settings, NetworkSettings, ResNet12Settings
from fewshot.models.backbones import build_backbone, feature_shape, parameter_count
from fewshot.models.backbones.resnet12 import ResNet12

GOLDEN = {  # settings -> parameters (facts.md 4), feature maps at 84 and 32 px
    "resnet12": (ResNet12Settings(name="resnet12"), 7_996_800, (512, 5, 5), (512, 2, 2)),
    "wide": (ResNet12Settings(name="resnet12", wide=16), 8_337_408, (528, 5, 5), (528, 2, 2)),
    "c128f": (C128FSettings(name="c128f"), 260_544, (128, 5, 5), (128, 2, 2)),
    "conv64": (Conv64Settings(name="conv64"), 112_832, (64, 5, 5), (64, 2, 2)),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_shapes_and_parameter_counts(name):
    settings, parameters, large, small = GOLDEN[name]
    backbone = build_backbone(settings)
    assert parameter_count(backbone) == parameters
    assert feature_shape(backbone, 84) == large
    assert feature_shape(backbone, 32) == small


@pytest.mark.parametrize(
    ("name", "mean", "deviation"),
    [("resnet12", 1.2499, 0.971), ("c128f", 1.0131, 0.7047), ("conv64", 1.014, 0.6665)],
)
def test_golden_values_under_a_fixed_seed(name, mean, deviation):
    torch.manual_seed(0)
    backbone = build_backbone(GOLDEN[name][0]).train()
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        out = backbone(images)
    assert out.mean().item() == pytest.approx(mean, abs=2e-4)
    assert out.std().item() == pytest.approx(deviation, abs=2e-4)


def test_residual_block_against_the_papers_order_of_operations():
    torch.manual_seed(0)
    block = ResNet12((4, 5, 6, 7)).blocks[1].eval()
    x = torch.randn(2, 4, 8, 8)

    def convolution(x, layer):
        conv, norm = layer
        return F.batch_norm(F.conv2d(x, conv.weight, padding=conv.padding), norm.running_mean, norm.running_var)

    h = F.silu(convolution(x, block.convolutions[0]))
    h = F.silu(convolution(h, block.convolutions[1]))
    h = convolution(h, block.convolutions[2])
    expected = F.max_pool2d(F.silu(h + convolution(x, block.shortcut)), 2)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("name", ["c128f", "conv64"])
def test_pooling_before_the_relu_is_the_papers_order_to_the_bit(name):
    network, images = build_backbone(GOLDEN[name][0]), torch.randn(8, 3, 35, 35)

    def as_written(x):
        for i, layer in enumerate(network.convolutions):
            x = layer(x)
            if i < 3 or network.last_relu:
                x = torch.relu(x)
            x = F.max_pool2d(x, 2)
        return x

    found = []
    for forward in (network, as_written):
        network.zero_grad()
        output = forward(images)
        output.square().sum().backward()
        found.append([output.detach(), *(parameter.grad.clone() for parameter in network.parameters())])
    assert all(map(torch.equal, *found))


def test_c128f_has_no_relu_in_the_last_block_and_conv64_has():
    images = torch.randn(4, 3, 32, 32)
    assert (build_backbone(GOLDEN["c128f"][0])(images) < 0).any()
    torch.manual_seed(0)
    with_relu = build_backbone(C128FSettings(name="c128f", last_relu=True))(images)
    torch.manual_seed(0)
    assert torch.equal(with_relu, build_backbone(GOLDEN["c128f"][0])(images).relu()), "the ReLU alone tells them apart"
    assert (build_backbone(GOLDEN["conv64"][0])(images) >= 0).all()


def test_convolutions_start_he_normal():
    weight = build_backbone(GOLDEN["resnet12"][0]).last_block.convolutions[1][0].weight
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


def test_an_image_too_small_for_four_poolings_is_refused():
    with pytest.raises(ValueError, match="at least 16 px"):
        feature_shape(build_backbone(GOLDEN["conv64"][0]), 15)


def test_the_code_of_a_network_is_that_of_its_own_family():
    """A training's hash follows its backbone's module and no other's: a new family leaves the networks of others alone."""
    from fewshot import provenance

    seen = {}
    for name in ("resnet12", "c128f", "resnet18"):
        module = NetworkSettings(backbone={"name": name}).backbone.module
        waiting, found = ["fewshot.base_training", module], set()
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting.extend(provenance._parsed(one)[1])
        seen[name] = {one.rpartition(".")[2] for one in found if one.startswith("fewshot.models.backbones.")}
    assert seen == {"resnet12": {"resnet12", "layers"}, "c128f": {"convnet", "layers"}, "resnet18": {"torchvision"}}


def test_without_the_last_pool_omniglot_has_576_features_as_in_paper_002():
    settings = Conv64Settings(name="conv64", last_pool=False)
    assert feature_shape(build_backbone(settings), 28) == (64, 3, 3)
    assert feature_shape(build_backbone(Conv64Settings(name="conv64")), 84) == (64, 5, 5)
    torch.manual_seed(0)
    whole = build_backbone(Conv64Settings(name="conv64")).eval()
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32)
    torch.manual_seed(0)
    unpooled = build_backbone(settings).eval()
    torch.testing.assert_close(F.max_pool2d(unpooled(images), 2), whole(images))


@pytest.mark.parametrize(("init", "low", "high"), [("ones", 1.0, 1.0), ("uniform", 0.0, 1.0)])
def test_both_starts_of_batch_normalisation(init, low, high):
    torch.manual_seed(0)
    backbone = build_backbone(Conv64Settings(name="conv64", batch_norm_init=init))
    scales = torch.cat([one.weight for one in backbone.modules() if isinstance(one, torch.nn.BatchNorm2d)])
    assert len(scales) == 256
    assert low <= scales.min() <= scales.max() <= high
    assert scales.mean().item() == pytest.approx((low + high) / 2, abs=0.05)


@pytest.mark.parametrize(("name", "channels"), [("resnet12", 64), ("c128f", 64), ("conv64", 64)])
def test_convolutions_start_by_what_they_give_and_not_by_what_they_take(name, channels):
    """He-normal, fan-out: the first takes three channels."""
    torch.manual_seed(0)
    weight = next(one.weight for one in build_backbone(GOLDEN[name][0]).modules() if isinstance(one, torch.nn.Conv2d))
    assert weight.shape == (channels, 3, 3, 3)
    assert weight.std().item() == pytest.approx((2 / (channels * 9)) ** 0.5, rel=0.1)


@pytest.mark.parametrize("training", [True, False])
def test_the_shape_of_features_is_told_without_a_trace(training):
    backbone = build_backbone(GOLDEN["conv64"][0]).train(training)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    feature_shape(backbone, 32)
    assert all(one.training == training for one in backbone.modules())
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
