import numpy as np
import pytest

from fewshot.config import GlyphsSettings
from fewshot.data.sources import open_source
from fewshot.data.sources.glyphs import VOCABULARY, draw, figure


def test_default_split_is_64_16_20():
    parts = [part for _, part in open_source(GlyphsSettings(name="glyphs")).classes]
    assert [parts.count(part) for part in ("base", "val", "test")] == [64, 16, 20]


@pytest.mark.parametrize("classes", [8, 13, 1000])
def test_every_part_has_classes(classes):
    source = open_source(GlyphsSettings(name="glyphs", classes=classes, images_per_class=4))
    parts = [part for _, part in source.classes]
    assert len(parts) == classes
    assert set(parts) == {"base", "val", "test"}
    assert len(list(source.items())) == source.expected == 4 * classes


@pytest.mark.parametrize("size", [16, 32, 40])
def test_images_follow_from_the_seed(size):
    image = draw((3, 5), seed=0, size=size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, draw((3, 5), seed=0, size=size))
    for other in (((3, 6), 0), ((4, 5), 0), ((3, 5), 1)):
        assert (draw(other[0], seed=other[1], size=size) != image).mean() > 0.5


def test_figures_share_parts_and_differ():
    figures = [frozenset(kind for kind, *_ in figure(0, label)) for label in range(100)]
    assert all(4 <= len(kinds) <= 6 for kinds in figures)
    assert len(set(figures)) == 100
    for kind in range(len(VOCABULARY)):
        assert sum(kind in kinds for kinds in figures) >= 5  # no part tells the class


def test_images_are_neither_flat_nor_alike():
    images = np.stack([draw((0, i), seed=0, size=32) for i in range(20)]).astype(float)
    assert images.std(axis=(1, 2, 3)).min() > 10
    assert images.mean(axis=(1, 2, 3)).std() > 10
