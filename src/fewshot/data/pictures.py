"""From one encoded image to square pixels."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageOps

Image = npt.NDArray[np.uint8]
DRAFT = 4
"""See `decode_square`."""
# A photograph of 90 to 180 million pixels is decoded; what is larger Pillow refuses. Its word of warning between is for others.
warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)


def central(picture: Pillow.Image) -> Pillow.Image:
    """The central square of the shorter side, in RGB.

    Transparent pixels are shown over white. Integer greys are taken as of 8 or 16 bits, floats as of 0..1, 0..255 or 0..65535,
    whichever is the first to hold them all; others are stretched.
    """
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")  # transparent pixels over white, as a page would show them
        picture = Pillow.alpha_composite(Pillow.new("RGBA", picture.size, "white"), picture)
    elif picture.mode.startswith("I;16"):
        picture = picture.convert("I")
    if picture.mode in ("I", "F"):
        values = np.asarray(picture, dtype=np.float64)  # 16-bit and float greys: their range, not their low byte
        low, high = float(values.min()), float(values.max())
        ranges = (1, 255, 65535) if picture.mode == "F" else (255, 65535)
        top = next((top for top in ranges if low >= 0 and high <= top), max(high - low, 1e-12))
        picture = Pillow.fromarray(np.clip((values - min(low, 0)) / top * 255, 0, 255).astype(np.uint8))
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    width, height = picture.size
    side = min(width, height)
    if width != height:  # cropped before the resize, which would otherwise mix in what lies beyond
        left, upper = (width - side) // 2, (height - side) // 2
        picture = picture.crop((left, upper, left + side, upper + side))
    return picture


def resized(picture: Pillow.Image, size: int) -> Image:
    """A square picture in `size` pixels (bilinear, antialiased): uint8 (size, size, 3)."""
    if picture.width != size:
        picture = picture.resize((size, size), Pillow.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.uint8)


def decode_image(payload: bytes | str, size: int, upright: bool = False) -> Image:
    """An encoded image as uint8 (size, size, 3) pixels: see `decode_square`."""
    return resized(decode_square(payload, size, upright), size)


def decode_square(payload: bytes | str, size: int, upright: bool = False) -> Pillow.Image:
    """Decode an encoded image, given as bytes or as the path of a file; `upright` heeds the camera's orientation mark.

    Of a JPEG many times the size, an eighth, a quarter or a half of it is decoded, which is quicker: what is
    left is at least DRAFT times the size, and its pixels are means of those that the resize would average.

    Args:
        payload: the image.
        size: pixels that it is to be resized to, at most DRAFT times that.
        upright: see above.

    Returns:
        The central square, in RGB.
    """
    with Pillow.open(io.BytesIO(payload) if isinstance(payload, bytes) else Path(payload)) as picture:
        shrunk = DRAFT * size / min(picture.size)
        if shrunk <= 0.5:
            picture.draft(None, (math.ceil(picture.width * shrunk), math.ceil(picture.height * shrunk)))
        picture.load()
        if upright:
            return central(ImageOps.exif_transpose(picture))
        return central(picture)


def shorter_side(path: Path) -> int:
    """Pixels of an image's shorter side, from the head of its file."""
    with Pillow.open(path) as picture:
        return min(picture.size)


def decode_array(payload: Image, size: int) -> Image:
    """An image that is already pixels: uint8 (H, W, 3), resized where it has to be."""
    if payload.shape[:2] == (size, size):
        return payload
    return resized(central(Pillow.fromarray(np.ascontiguousarray(payload))), size)
