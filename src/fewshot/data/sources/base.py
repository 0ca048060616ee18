"""What a source is: the classes of a data set and a stream of its images, each as whatever its `decode` understands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from fewshot.data.pictures import Image


class Item(NamedTuple):
    """One image, still encoded."""

    file: str
    """Where it comes from, in words a user can find it by; also its order within the class."""
    label: str
    """Name of its class, one of `Source.classes`."""
    payload: Any
    """What `Source.decode` turns into pixels."""
    held_out: bool | None = None
    """Held out by the data set's own division; None: drawn from `dataset.held_out` and the seed."""


@dataclass(frozen=True)
class Source:
    """A data set, checked and ready to be read.

    To add one: docs/adding/dataset.md.
    """

    classes: tuple[tuple[str, str], ...]
    """(name, part), in the order of the store's class ids: base, val, test."""
    items: Callable[[], Iterator[Item]]
    """The images, in any order, read as they are asked for."""
    decode: Callable[[Any], Image]
    """payload -> uint8 (S, S, 3). Runs in worker processes, so it must be picklable; may raise what it likes."""
    image_size: int
    """S: side of what `decode` returns, pixels."""
    images: int | None = None
    """Number of images: of the known set, or found beforehand. None: `images_per_class` of every class, or, without that, as
    many as come: they are counted, and nothing tells whether the set is complete."""
    images_per_class: int | None = None
    """Images of every class in the complete set; None: they differ."""
    archives: Mapping[str, Mapping[str, str | int | None]] = field(default_factory=dict)
    """Archive file -> {sha256: what was found, checked: the hash it was compared with, or None}."""
    notes: tuple[str, ...] = ()
    """Sentences for the report."""
    where: Path | None = None
    """The archive or folder errors speak of."""

    @property
    def expected(self) -> int | None:
        """Number of images of the complete set; None: it is not known."""
        if self.images is None and self.images_per_class is not None:
            return len(self.classes) * self.images_per_class
        return self.images
