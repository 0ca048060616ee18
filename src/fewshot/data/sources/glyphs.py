"""`glyphs`: drawn figures, the embedded demonstration set.

A class is a figure: 4 to 6 parts out of a vocabulary that all classes share, in a fixed relative layout. An image is the
figure in a pose of its own (rotation, scale, shear, place), with a stroke thickness, colours and a background texture of
its own, between strokes borrowed from the vocabulary and with a small patch covered. So a part can be recognised
anywhere, and no part by itself tells the class. Everything follows from the seed.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageDraw

from fewshot.config import GlyphsSettings
from fewshot.data.pictures import Image
from fewshot.data.sources.base import Item, Source

# How hard the set is: these decide it.
ROTATION = 25.0
"""Largest rotation of a figure, in degrees to either side."""
PART_JITTER = 0.10
"""Standard deviation of a part's displacement within its figure, in half image sides."""
CLUTTER = (1, 3)
"""Fewest and most borrowed strokes in an image."""
CONTRAST = 60.0
"""Least difference between the brightness of strokes and background, of 255."""
NOISE = (6.0, 26.0)
"""Range of the background texture's standard deviation, of 255."""
COVERED = 0.22
"""Largest side of the covered patch, in image sides."""

SUPERSAMPLING = 4
SHARES = (0.64, 0.16)
"""Shares of the classes in base and val; the rest is test."""

Points = npt.NDArray[np.float64]


def _arc(start: float, stop: float, steps: int = 10, width: float = 1.0, height: float = 1.0) -> Points:
    angles = np.radians(np.linspace(start, stop, steps))
    return np.stack([width * np.cos(angles), height * np.sin(angles)], axis=1)


def _line(*points: tuple[float, float]) -> Points:
    return np.array(points, dtype=np.float64)


def _vocabulary() -> list[list[Points]]:
    """The parts: each one or two polylines inside the square -1..1; a single point stands for a dot."""
    spiral = _arc(0, 540, 20) * np.linspace(0.15, 1.0, 20)[:, None]
    wave = np.stack([np.linspace(-1, 1, 12), 0.5 * np.sin(np.linspace(-np.pi, np.pi, 12))], axis=1)
    return [
        [_line((-1, 0), (1, 0))],
        [_line((0, -1), (0, 1))],
        [_line((-0.8, -0.8), (0.8, 0.8))],
        [_line((-0.8, 0.8), (0.8, -0.8))],
        [_line((-0.9, -0.9), (-0.9, 0.9), (0.9, 0.9))],
        [_line((-0.9, 0.9), (-0.9, -0.9), (0.9, -0.9))],
        [_line((-0.9, -0.8), (0, 0.8), (0.9, -0.8))],
        [_line((-0.9, 0.8), (0, -0.8), (0.9, 0.8))],
        [_line((-1, 0), (1, 0)), _line((0, -1), (0, 1))],
        [_line((-1, -0.9), (1, -0.9)), _line((0, -0.9), (0, 1))],
        [_line((-0.8, -0.8), (0.8, 0.8)), _line((-0.8, 0.8), (0.8, -0.8))],
        [_line((-1, -0.4), (1, -0.4)), _line((-1, 0.4), (1, 0.4))],
        [_line((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8), (-0.8, -0.8))],
        [_line((-0.9, 0.8), (0, -0.9), (0.9, 0.8), (-0.9, 0.8))],
        [_line((0, -1), (0.8, 0), (0, 1), (-0.8, 0), (0, -1))],
        [_line((-1, 0.6), (-0.4, -0.6), (0.2, 0.6), (0.8, -0.6))],
        [_line((-0.8, -0.8), (0.8, -0.8), (-0.8, 0.8), (0.8, 0.8))],
        [_arc(0, 360, 18, 0.9, 0.9)],
        [_arc(0, 360, 18, 1.0, 0.5)],
        [_arc(180, 360, 10, 0.9, 0.9)],
        [_arc(0, 180, 10, 0.9, 0.9)],
        [_arc(90, 270, 10, 0.9, 0.9)],
        [_arc(-90, 90, 10, 0.9, 0.9)],
        [spiral],
        [wave],
        [_line((0, 0))],
        [_line((-0.6, 0)), _line((0.6, 0))],
    ]


VOCABULARY = _vocabulary()


def figure(seed: int, label: int) -> list[tuple[int, Points, float, float]]:
    """The parts of a class: (number in the vocabulary, centre (2,), size, angle), in half image sides and radians."""
    rng = np.random.default_rng([seed, 1, label])
    number = int(rng.integers(4, 7))
    kinds = rng.choice(len(VOCABULARY), size=number, replace=False)
    cells = np.array([(x, y) for x in (-0.5, 0.0, 0.5) for y in (-0.5, 0.0, 0.5)])
    centres = cells[rng.choice(9, size=number, replace=False)] + rng.uniform(-0.1, 0.1, (number, 2))
    sizes = rng.uniform(0.2, 0.42, number)
    angles = rng.choice([0.0, 0.0, np.pi / 4, -np.pi / 4], size=number)
    return [(int(kinds[i]), centres[i], float(sizes[i]), float(angles[i])) for i in range(number)]


def _turn(angle: float) -> Points:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def draw(payload: tuple[int, int], seed: int, size: int) -> Image:
    """Draw image `payload[1]` of class `payload[0]`: uint8 (size, size, 3) pixels."""
    label, number = payload
    rng = np.random.default_rng([seed, 2, label, number])
    side = size * SUPERSAMPLING
    masks = [Pillow.new("L", (side, side)) for _ in range(3)]  # two colours of the figure, one of the clutter
    pens = [ImageDraw.Draw(mask) for mask in masks]
    thickness = rng.uniform(0.045, 0.085) * side

    def stroke(pen: ImageDraw.ImageDraw, points: Points) -> None:
        pixels = (points + 1) * (side / 2)
        if len(pixels) == 1:
            (x, y), radius = pixels[0], thickness * 0.95
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        else:
            pen.line([(float(x), float(y)) for x, y in pixels], fill=255, width=max(1, round(thickness)), joint="curve")

    shear = np.array([[1.0, rng.uniform(-0.25, 0.25)], [0.0, 1.0]])
    scale = rng.uniform(0.75, 1.1) * np.diag(rng.uniform(0.88, 1.12, 2))
    pose = _turn(np.radians(rng.uniform(-ROTATION, ROTATION))) @ shear @ scale
    place = rng.uniform(-0.16, 0.16, 2)
    for kind, centre, extent, angle in figure(seed, label):
        middle = centre + rng.normal(0, PART_JITTER / 2, 2)
        turn = _turn(angle + rng.normal(0, 0.12)) * (extent * rng.uniform(0.85, 1.15))
        pen = pens[int(rng.random() < 0.35)]
        for points in VOCABULARY[kind]:
            stroke(pen, (points @ turn.T + middle) @ pose.T + place)
    for _ in range(int(rng.integers(CLUTTER[0], CLUTTER[1] + 1))):
        kind = int(rng.integers(len(VOCABULARY)))
        turn = _turn(rng.uniform(0, 2 * np.pi)) * rng.uniform(0.2, 0.42)
        middle = rng.uniform(-0.85, 0.85, 2)
        for points in VOCABULARY[kind]:
            stroke(pens[2], points @ turn.T + middle)

    ground = _background(rng, size)
    image = ground
    brightness = float(ground.mean())
    for mask in (masks[2], masks[0], masks[1]):
        alpha = np.asarray(mask.reduce(SUPERSAMPLING), dtype=np.float64)[:, :, None] / 255
        image = image * (1 - alpha) + _colour(rng, brightness) * alpha
    height, width = np.maximum(1, (rng.uniform(0.4, 1.0, 2) * COVERED * size).astype(int))
    top, left = int(rng.integers(size - height + 1)), int(rng.integers(size - width + 1))
    patch = (slice(top, top + height), slice(left, left + width))
    image = image.copy()
    image[patch] = ground[patch]
    image += rng.normal(0, rng.uniform(2, 10), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def _background(rng: np.random.Generator, size: int) -> npt.NDArray[np.float64]:
    """A colour gradient with a coarse and a fine texture over it: float (size, size, 3), about 0..255."""
    first, second = rng.uniform(20, 235, 3), rng.uniform(-45, 45, 3)
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-0.5, 0.5, size)
    ramp = axis[:, None] * np.sin(angle) + axis[None, :] * np.cos(angle)
    ground: npt.NDArray[np.float64] = first + ramp[:, :, None] * second
    for cells in (int(rng.integers(3, 6)), int(rng.integers(7, 13))):
        coarse = Pillow.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
        texture = np.asarray(coarse.resize((size, size), Pillow.Resampling.BICUBIC), dtype=np.float64)
        ground = ground + texture[:, :, None] * rng.uniform(*NOISE) * rng.uniform(0.6, 1.0, 3)
    return ground


def _colour(rng: np.random.Generator, background: float) -> npt.NDArray[np.float64]:
    """A colour whose brightness differs from the background's by at least CONTRAST."""
    for _ in range(50):
        colour = rng.uniform(0, 255, 3)
        if abs(float(colour.mean()) - background) >= CONTRAST:
            return colour
    return np.full(3, 0.0 if background > 127 else 255.0)


def source(settings: GlyphsSettings) -> Source:
    """The set: `classes` figures of `images_per_class` images, 64 / 16 / 20 % of the classes in base / val / test."""
    base, val = (round(settings.classes * share) for share in SHARES)
    parts = ["base"] * base + ["val"] * val + ["test"] * (settings.classes - base - val)
    names = [f"glyph{label:03d}" for label in range(settings.classes)]
    return Source(
        classes=tuple(zip(names, parts, strict=True)),
        items=lambda: (
            Item(f"{name}/{number:05d}", name, (label, number))
            for label, name in enumerate(names)
            for number in range(settings.images_per_class)
        ),
        decode=partial(draw, seed=settings.seed, size=settings.image_size),
        image_size=settings.image_size,
        images_per_class=settings.images_per_class,
        notes=("Images are drawn by the program (data set glyphs); they are no photographs of anything.",),
    )
