"""Omniglot (Lake, Salakhutdinov and Tenenbaum, Human-level concept learning, Science 350, 2015), split of Vinyals et al.,
Matching Networks, NeurIPS 2016: 1,028 / 172 / 423 characters, each in four rotations as classes of their own.

The publisher's drawings are black ink on white paper. The store holds them inverted, ink 255 on paper 0, in three equal
channels, as Snell et al. (Prototypical Networks, 2017) feed them: so zero padding means paper. Rotations are counter-clockwise
and exact, and come before the resize.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from fewshot.config import OmniglotSettings
from fewshot.data.archives import MEBIBYTE, Archive, Known, find, members, refuse_unknown
from fewshot.data.pictures import Image
from fewshot.data.sources.base import Item, Source
from fewshot.data.splits import Split, published_split
from fewshot.errors import DataError

_HOME = "of Omniglot from the repository brendenlake/omniglot on GitHub (folder python)"
ARCHIVES = tuple(
    Known(f"{name}.zip", f"{name}.zip {_HOME}", md5, max_member=4 * MEBIBYTE, max_total=256 * MEBIBYTE)
    for name, md5 in (
        ("images_background", "md5:68d2efa1b9178cc56df9314c21c6e718"),
        ("images_evaluation", "md5:6b91aef0f799c5bb55b94e3f2daec811"),
    )
)
DRAWERS = 20
DRAWN = 105
"""Side of a drawing in pixels."""
ROTATIONS = ("rot000", "rot090", "rot180", "rot270")
GREYS = "drawings made smaller by bilinear means, so with greys; Snell's code takes the nearest pixel"
"""Pillow, with which that code resizes, does so with every image of one bit."""


def source(settings: OmniglotSettings, characters: Split | None = None) -> Source:
    """The set.

    Args:
        settings: size, rotations, and where the archives lie.
        characters: (alphabet/character, part) of all characters, when they are not the known ones.

    Raises:
        DataError: an archive is missing or has another hash.
    """
    characters = characters or published_split("omniglot")
    refuse_unknown(settings.hashes, tuple(known.file for known in ARCHIVES))
    archives = [find(known, Path(settings.raw), settings.hashes) for known in ARCHIVES]
    turns = ROTATIONS if settings.rotations else ROTATIONS[:1]
    classes = tuple((f"{name}/{turn}" if settings.rotations else name, part) for name, part in characters for turn in turns)
    known = {name for name, _ in characters}
    return Source(
        classes=classes,
        items=lambda: _items(archives, known, settings.rotations),
        decode=partial(_decode, size=settings.image_size, resampling=Pillow.Resampling[settings.resampling.upper()]),
        image_size=settings.image_size,
        images_per_class=DRAWERS,
        archives={archive.known.file: archive.record for archive in archives},
        notes=(
            *(archive.note for archive in archives if archive.note),
            *([GREYS] if settings.resampling == "bilinear" and settings.image_size < DRAWN else []),
        ),
        where=Path(settings.raw) / "images_background.zip and images_evaluation.zip",
    )


def _items(archives: list[Archive], known: set[str], rotations: bool) -> Iterator[Item]:
    for archive in archives:
        top = archive.path.stem
        for member in members(archive):
            parts = member.name.split("/")
            if parts[0] != top or parts[-1].startswith("."):
                continue  # what some systems add when they pack
            name = "/".join(parts[1:3])
            if len(parts) != 4 or name not in known:
                raise DataError(f"{archive.path}: {member.name} is no drawing of a known character; {_again(archive)}")
            data = member.read()
            file = f"{archive.path.name}:{member.name}"
            for turns, rotation in enumerate(ROTATIONS if rotations else ROTATIONS[:1]):
                yield Item(file, f"{name}/{rotation}" if rotations else name, (data, turns))


def _again(archive: Archive) -> str:
    return f"get {archive.known.content} again"


def _decode(payload: tuple[bytes, int], size: int, resampling: Pillow.Resampling) -> Image:
    """A drawing, inverted, turned by quarters counter-clockwise and resized: uint8 (size, size, 3)."""
    data, turns = payload
    turned = Pillow.fromarray(np.rot90(_ink(data), turns))
    small = np.asarray(turned.resize((size, size), resampling), dtype=np.uint8)
    return np.repeat(small[:, :, None], 3, axis=2)


@lru_cache(maxsize=1)
def _ink(data: bytes) -> Image:
    """A drawing's ink on the 0..255 scale; kept for the next call, as the rotations of a drawing come one after the other."""
    with Pillow.open(io.BytesIO(data)) as picture:
        return 255 - np.asarray(picture.convert("L"), dtype=np.uint8)
