from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from fewshot.config import AugmentationSettings
from fewshot.data.augment import augment, color_jitter, default_padding, lighting, padded_crop, resized_crop


@pytest.fixture
def images():
    return torch.from_numpy(np.random.default_rng(0).integers(1, 256, (6, 12, 12, 3), dtype=np.uint8))


def test_padded_crop_equals_padding_and_slicing(images):
    rows = torch.tensor([4, 0, 4, 2])
    offsets = torch.tensor([[-3, 0, 2, 3], [1, 0, -2, 3]])
    flips = torch.tensor([True, False, True, False])
    got = padded_crop(images, rows, offsets, flips)
    for b, row in enumerate(rows):
        canvas = np.zeros((18, 18, 3), dtype=np.uint8)
        canvas[3:15, 3:15] = images[row].numpy()
        y, x = 3 + int(offsets[0, b]), 3 + int(offsets[1, b])
        crop = canvas[y : y + 12, x : x + 12]
        np.testing.assert_array_equal(got[b].numpy(), crop[:, ::-1] if flips[b] else crop)


def test_the_same_generator_gives_the_same_images_and_another_does_not(images):
    rows, settings = torch.arange(6), AugmentationSettings(color_jitter=0.4)
    a = augment(images, rows, settings, torch.Generator().manual_seed(1))
    assert torch.equal(a, augment(images, rows, settings, torch.Generator().manual_seed(1)))
    assert not torch.equal(a, augment(images, rows, settings, torch.Generator().manual_seed(2)))


def test_nothing_to_do_changes_nothing(images):
    settings = AugmentationSettings(crop_padding=0, flip=False)
    assert torch.equal(augment(images, torch.arange(6), settings, torch.Generator()), images)


def test_default_padding_is_that_of_the_public_recipes():
    assert (default_padding(32), default_padding(84)) == (4, 8)


def test_a_resized_crop_of_the_whole_image_is_the_image(images):
    square = torch.Generator().manual_seed(0)
    out = resized_crop(images, torch.zeros(6, dtype=torch.bool), (1.0, 1.0), square)
    torch.testing.assert_close(out, images.float(), atol=1e-2, rtol=0)
    smooth = torch.linspace(0, 255, 12).view(1, 12, 1, 1).expand(1, 12, 12, 3).to(torch.uint8)
    cropped = resized_crop(smooth, torch.tensor([False]), (0.3, 0.5), torch.Generator().manual_seed(0))
    rise = cropped[0, -1, 0, 0] - cropped[0, 0, 0, 0]
    assert 90 < rise < 220, "a crop of a gradient spans a part of it"
    flipped = resized_crop(images, torch.ones(6, dtype=torch.bool), (1.0, 1.0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(flipped, out.flip(2), atol=1e-2, rtol=0)


def test_a_resized_crop_has_the_side_that_was_asked_for(images):
    whole = resized_crop(images, torch.zeros(6, dtype=torch.bool), (1.0, 1.0), torch.Generator().manual_seed(0), 8)
    scaled = functional.interpolate(images.permute(0, 3, 1, 2).float(), size=8, mode="bilinear", align_corners=False)
    torch.testing.assert_close(whole, scaled.permute(0, 2, 3, 1), atol=1e-2, rtol=0)
    settings = AugmentationSettings(crop=16, resized_crop=(0.08, 1.0))
    large = images.repeat(1, 2, 2, 1)
    assert augment(large, torch.arange(6), settings, torch.Generator().manual_seed(0)).shape == (6, 16, 16, 3)


@pytest.mark.parametrize("area", [(0.08, 1.0), (0.25, 1.0), (0.9, 1.0)])
def test_resized_crops_have_the_areas_and_proportions_of_torchvisions(area):
    """Their sides are seen in two channels that rise evenly; quantiles of 2,000 crops and of as many of torchvision's."""
    rise = torch.arange(100, dtype=torch.uint8)
    image = torch.stack([rise.expand(100, 100), rise[:, None].expand(100, 100), rise.expand(100, 100)], -1)
    many = image.expand(2000, -1, -1, -1)
    out = resized_crop(many, torch.zeros(2000, dtype=torch.bool), area, torch.Generator().manual_seed(0))
    width, height = (out[:, 50, -2, 0] - out[:, 50, 1, 0]) / 97, (out[:, -2, 50, 1] - out[:, 1, 50, 1]) / 97
    with torch.random.fork_rng():
        torch.manual_seed(0)
        large = torch.empty(3, 1000, 1000)  # their sides are whole pixels
        theirs = [RandomResizedCrop.get_params(large, list(area), [3 / 4, 4 / 3]) for _ in range(2000)]
    sides = torch.tensor(theirs, dtype=torch.float64)[:, 2:] / 1000
    quantiles = torch.linspace(0.02, 0.98, 9, dtype=torch.float64)
    for mine, other in ((width * height, sides.prod(1)), (width / height, sides[:, 1] / sides[:, 0])):
        torch.testing.assert_close(mine.double().quantile(quantiles), other.quantile(quantiles), atol=0.035, rtol=0)
    whole = [float(((one > 0.995).all(-1)).double().mean()) for one in (torch.stack([width, height], -1), sides)]
    assert whole[0] == pytest.approx(whole[1], abs=0.03)


def test_colour_jitter_equals_torchvisions_functions_image_by_image(images):
    got = color_jitter(images.float(), 0.4, torch.Generator().manual_seed(5))
    factors = 1 + 0.4 * (2 * torch.rand(3, 6, 1, 1, 1, generator=torch.Generator().manual_seed(5)) - 1)
    for b in range(6):
        image = images[b].permute(2, 0, 1).float() / 255
        image = reference.adjust_brightness(image, float(factors[0, b]))
        image = reference.adjust_contrast(image, float(factors[1, b]))
        image = reference.adjust_saturation(image, float(factors[2, b]))
        torch.testing.assert_close(got[b] / 255, image.permute(1, 2, 0), atol=2e-3, rtol=0)


def test_crops_from_larger_images_are_slices_of_them(images):
    """224 of 256 in the paper; here 8 of 12: every crop is a slice, at every place in the end, half of them mirrored."""
    settings, rows = AugmentationSettings(crop=16), torch.zeros(1, dtype=torch.long)
    large = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (1, 20, 20, 3), dtype=np.uint8))
    places = set()
    for seed in range(200):
        (crop,) = augment(large, rows, settings, torch.Generator().manual_seed(seed)).numpy()
        assert crop.shape == (16, 16, 3)
        slices = {
            (y, x, flip): large[0, y : y + 16, x : x + 16].numpy()[:, :: -1 if flip else 1]
            for y in range(5) for x in range(5) for flip in (False, True)
        }  # fmt: skip
        (place,) = [key for key, one in slices.items() if np.array_equal(one, crop)]
        places.add(place)
    assert len(places) > 45


def test_padded_crops_lie_everywhere_and_half_of_them_are_mirrored(images):
    """With two pixels of padding at 5 x 5 places, each mirrored or not, all equally often."""
    settings = AugmentationSettings(crop_padding=2)
    crops = augment(images[:1], torch.zeros(5000, dtype=torch.long), settings, torch.Generator().manual_seed(0))
    canvas = np.zeros((16, 16, 3), dtype=np.uint8)
    canvas[2:14, 2:14] = images[0].numpy()
    places = {
        canvas[y : y + 12, x : x + 12][:, :: -1 if flip else 1].tobytes(): (y, x, flip)
        for y in range(5) for x in range(5) for flip in (False, True)
    }  # fmt: skip
    counts = Counter(places[crop.tobytes()] for crop in crops.numpy())
    assert len(counts) == 50
    assert max(abs(count - 100) for count in counts.values()) < 6 * 100**0.5


def test_half_of_the_resized_crops_are_mirrored(images):
    settings = AugmentationSettings(resized_crop=(1.0, 1.0))
    crops = augment(images[:1], torch.zeros(400, dtype=torch.long), settings, torch.Generator().manual_seed(0))
    mirrored = ((crops - images[0].flip(1)).abs() < 0.5).all((1, 2, 3))
    assert (mirrored | ((crops - images[0]).abs() < 0.5).all((1, 2, 3))).all()
    assert 140 < mirrored.sum() < 260


def test_resized_crops_reach_every_side():
    rise = torch.arange(100, dtype=torch.uint8)
    image = torch.stack([rise.expand(100, 100), rise[:, None].expand(100, 100), rise.expand(100, 100)], -1)
    many = image.expand(500, -1, -1, -1)
    crops = resized_crop(many, torch.zeros(500, dtype=torch.bool), (0.25, 0.25), torch.Generator().manual_seed(0))
    for low, high in ((crops[:, 50, 0, 0], crops[:, 50, -1, 0]), (crops[:, 0, 50, 1], crops[:, -1, 50, 1])):
        assert low.min() < 3
        assert high.max() > 96
        assert float(low.mean() + high.mean()) == pytest.approx(99, abs=6)


def test_colour_jitter_goes_with_the_crops(images):
    settings = AugmentationSettings(crop_padding=0, flip=False, color_jitter=0.4)
    jittered = augment(images, torch.arange(6), settings, torch.Generator().manual_seed(0))
    assert jittered.dtype == torch.float32
    assert all((one - image).abs().mean() > 1 for one, image in zip(jittered, images.float(), strict=True))


def test_lighting_shifts_each_image_along_the_components(images):
    """Krizhevsky et al. 2012, section 4.1, image by image; the components are ImageNet's."""
    components = [(-0.5675, -0.5808, -0.5836), (0.7192, -0.0045, -0.6948), (0.4009, -0.8140, 0.4203)]
    assert all(sum(x * x for x in one) == pytest.approx(1, abs=1e-3) for one in components)
    out = lighting(images.float(), 0.1, torch.Generator().manual_seed(3))
    alphas = 0.1 * torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
    for image, lit, drawn in zip(images.float(), out, alphas.tolist(), strict=True):
        for channel in range(3):
            shift = sum(a * v * one[channel] for a, v, one in zip(drawn, (0.2175, 0.0188, 0.0045), components, strict=True))
            torch.testing.assert_close(lit[..., channel], image[..., channel] + 255 * shift, atol=1e-3, rtol=0)
    settings = AugmentationSettings(crop_padding=0, flip=False, lighting=0.1)
    lit = augment(images, torch.arange(6), settings, torch.Generator().manual_seed(0))
    assert all(0 < (one - image).abs().mean() < 30 for one, image in zip(lit, images.float(), strict=True))
