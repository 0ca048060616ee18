"""Views against loops over images: which they are, that features are their means, and that no two batches share draws."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from fewshot import features, stages, views
from fewshot.checkpoint import load_network
from fewshot.config import NetworkSettings
from fewshot.data.augment import augment
from fewshot.data.store import open_store
from fewshot.errors import NotFiniteError
from fewshot.models import inference
from fewshot.models.network import Network
from fewshot.optimization import Draw, generator
from fewshot.plan import FeaturePart


def network_of(**augmentation):
    torch.manual_seed(0)
    data = {"backbone": {"name": "c128f", "widths": [4, 4, 8, 8]}, "training": {"augmentation": augmentation}}
    return Network(NetworkSettings.model_validate(data), 3, 24, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)).eval()


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (23, 24, 24, 3), dtype=np.uint8)


@torch.no_grad()
def of_one(network, image):
    """Average of the map of one image (H, W, 3)."""
    return network(network.normalise(image[None])).mean((0, 2, 3))


def test_ten_crops_are_the_corners_and_the_centre_and_their_mirror_images(images):
    crops = list(views.ten_crops(torch.from_numpy(images), 16))
    assert len(crops) == 10
    for number, image in enumerate(images):
        expected = reference.ten_crop(torch.from_numpy(image).permute(2, 0, 1), [16, 16])
        found = {crop[number].numpy().tobytes() for crop in crops}
        assert found == {one.permute(1, 2, 0).numpy().tobytes() for one in expected}
        assert len(found) == 10


@pytest.mark.parametrize("at_once", [2**17, 2 * 16**2])
def test_features_of_ten_crops_are_means_over_them(images, monkeypatch, at_once):
    monkeypatch.setattr(inference, "BATCH", {"cpu": at_once})
    network = network_of(crop=16)
    found = views.compute(network, images, np.array([4, 0, 22]), views="ten_crops", seed=0, progress=False)
    assert found.shape == (3, 1, 8)
    for row, value in zip((4, 0, 22), found[:, 0], strict=True):
        crops = views.ten_crops(torch.from_numpy(images[row : row + 1]), 16)
        expected = torch.stack([of_one(network, crop[0]) for crop in crops]).mean(0)
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("at_once", [2**17, 3 * 24**2])
@pytest.mark.parametrize("augmentation", [{}, {"crop": 16, "resized_crop": [0.08, 1.0], "color_jitter": 0.4, "lighting": 0.1}])
def test_features_of_random_views_are_means_over_them(images, monkeypatch, at_once, augmentation):
    monkeypatch.setattr(inference, "BATCH", {"cpu": at_once})
    monkeypatch.setattr(views, "DRAWN_AT_ONCE", 16)
    network = network_of(**augmentation)
    found = views.compute(network, images, views=3, seed=5, progress=False)
    settings = network.settings.training.augmentation
    for start, size in ((0, 16), (16, 7)):
        random, part = generator(5, Draw.VIEWS_OF_TESTED, start), torch.from_numpy(images[start : start + size])
        seen = [augment(part, torch.arange(size), settings, random) for _ in range(3)]
        for number in range(size):
            expected = torch.stack([of_one(network, view[number]) for view in seen]).mean(0)
            torch.testing.assert_close(found[start + number, 0], expected, rtol=1e-4, atol=1e-5)
    other = views.compute(network, images, views=3, seed=6, progress=False)
    assert not torch.allclose(found, other)


def test_every_batch_has_draws_of_its_own(images, monkeypatch):
    seeds = []
    monkeypatch.setattr(views, "augment", lambda *args: seeds.append(args[-1].initial_seed()) or augment(*args))
    monkeypatch.setattr(views, "DRAWN_AT_ONCE", 8)
    for seed in (0, 1):
        views.compute(network_of(), images, views=2, seed=seed, progress=False)
    assert len(seeds) == 12
    assert len(set(seeds)) == 6


def test_views_that_change_nothing_give_the_features_of_the_images(images):
    network = network_of(crop_padding=0, flip=False)
    plain = features.compute(network, images, pooling="gmp", progress=False)
    seen = views.compute(network, images, views=2, seed=0, pooling="gmp", progress=False)
    torch.testing.assert_close(seen, plain, rtol=1e-4, atol=1e-5)


def test_a_view_goes_through_the_network_in_batches(images, monkeypatch):
    sizes = []
    network = network_of()
    network.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    monkeypatch.setattr(inference, "BATCH", {"cpu": 10 * 24**2})
    views.compute(network, images, views=2, seed=0, progress=False)
    assert sizes == [10, 10, 3] * 2


def test_views_of_a_network_trained_densely_are_averages_over_locations(tiny_plan, run_stages, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_stages(tiny_plan, last="train")
    (job,) = (job for job in tiny_plan.networks if job.settings.classifier.pooling == "dense")
    part = FeaturePart("test", 2)
    stages.extract(tiny_plan, job, part, threads=1)
    found, (network, _) = features.load(tiny_plan.features_dir(job, part)), load_network(tiny_plan.network_dir(job))
    assert (found.meta["pooling"], found.meta["views"], found.values.shape[1]) == ("gap", 2, 1)
    store = open_store(tiny_plan.store_dir)
    expected = views.compute(network, store.images, found.rows, views=2, seed=job.seed, progress=False)
    np.testing.assert_array_equal(found.values, expected)


def test_views_that_are_no_numbers_are_refused(images):
    network = network_of()
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="network bad gives features that are not finite"):
        views.compute(network, images, views=2, seed=0, progress=False, name="bad")
