import importlib
import io
import warnings

import numpy as np
import pytest
from PIL import Image

from fewshot.data import pictures
from fewshot.data.pictures import decode_array, decode_image


def encoded(picture, kind="PNG", **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def test_right_size_is_left_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(pixels)), 9), pixels)
    assert decode_array(pixels, 9) is pixels


@pytest.mark.parametrize("shape", [(20, 40), (40, 20), (21, 40)])
def test_central_square(shape):
    """Only the central square counts: what is beyond it may be anything."""
    pixels = np.zeros((*shape, 3), dtype=np.uint8)
    side = min(shape)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    pixels[top : top + side, left : left + side] = 200
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(pixels)), 10), np.full((10, 10, 3), 200))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *(("TIFF", mode) for mode in ("CMYK", "YCbCr", "F", "I")),
        ("GIF", "P"),
        ("JPEG", "CMYK"),
    ],
)
def test_any_mode(kind, mode):
    picture = Image.new("RGB", (8, 8), "white").convert(mode)
    image = decode_image(encoded(picture, kind), 4)
    assert image.shape == (4, 4, 3)
    assert image.dtype == np.uint8
    assert image.min() >= 250


def test_sixteen_bits_keep_their_range():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    image = decode_image(encoded(Image.fromarray(ramp)), 8)
    np.testing.assert_allclose(image[:, :, 0], ramp / 257, atol=1.5)


@pytest.mark.parametrize("top", [1, 255, 65535])
def test_floats_keep_their_range(top):
    ramp = np.linspace(0, top, 64, dtype=np.float32).reshape(8, 8)
    image = decode_image(encoded(Image.fromarray(ramp), "TIFF"), 8)
    np.testing.assert_allclose(image[:, :, 0], ramp / top * 255, atol=1)


@pytest.mark.filterwarnings("error")
def test_a_photograph_beyond_pillows_warning_is_decoded_without_a_word(monkeypatch):
    data = encoded(Image.new("RGB", (40, 30), "red"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # a warning above, an error above twice that
    with warnings.catch_warnings():
        importlib.reload(pictures)
        assert pictures.decode_image(data, 8).shape == (8, 8, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(Image.DecompressionBombError):
        decode_image(data, 8)


def test_transparent_is_white():
    picture = Image.new("RGBA", (6, 6), (255, 0, 0, 0))
    assert decode_image(encoded(picture), 6).min() == 255


def test_orientation_mark_is_heeded_where_asked():
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    data = encoded(Image.fromarray(pixels), "PNG", exif=exif)
    np.testing.assert_array_equal(decode_image(data, 8), pixels)
    np.testing.assert_array_equal(decode_image(data, 8, upright=True), pixels[::-1, ::-1])


def test_arrays_are_cropped_and_resized():
    pixels = np.full((30, 50, 3), 7, dtype=np.uint8)
    np.testing.assert_array_equal(decode_array(pixels, 12), np.full((12, 12, 3), 7))


@pytest.mark.parametrize("upright", [False, True])
def test_a_large_jpeg_is_nearly_what_it_is_without_the_short_cut(upright, monkeypatch):
    steps = np.arange(900)
    waves = np.stack([np.sin(steps[:, None] / k) * np.cos(steps[None, :700] / (k + 3)) for k in (20, 45, 80)], axis=2)
    noise = np.random.default_rng(0).normal(0, 12, waves.shape)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = encoded(Image.fromarray(np.clip(127 + 90 * waves + noise, 0, 255).astype(np.uint8)), "JPEG", quality=92, exif=exif)
    quick = decode_image(file, 32, upright).astype(int)
    monkeypatch.setattr("fewshot.data.pictures.DRAFT", 1000)
    whole = decode_image(file, 32, upright).astype(int)
    assert np.abs(quick - whole).max() <= 4
    assert np.abs(quick - whole).mean() < 1
    assert np.ptp(whole) > 100
