"""CIFAR-100 (Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009), split for few-shot learning.

`fc100` (Oreshkin et al., TADAM, NeurIPS 2018) keeps superclasses whole; `cifar_fs` (Bertinetto et al., Meta-learning with
differentiable closed-form solvers, ICLR 2019) is a random split. Both merge the publisher's train and test parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot.config import CifarFsSettings, Fc100Settings
from fewshot.data.archives import MEBIBYTE, Archive, Known, find, members, refuse_unknown
from fewshot.data.pictures import decode_array
from fewshot.data.plain_values import texts, whole_numbers
from fewshot.data.sources.base import Item, Source
from fewshot.data.splits import published, published_split
from fewshot.data.unpickle import load_restricted
from fewshot.errors import DataError

ARCHIVE = Known(
    "cifar-100-python.tar.gz",
    "CIFAR-100, python version, from the page of Alex Krizhevsky at the University of Toronto",
    "md5:eb9058c3a382ffc7106e4002c42a8d85",
    max_member=512 * MEBIBYTE,
    max_total=1024 * MEBIBYTE,
)
FOLDER = "cifar-100-python"
IMAGES_PER_CLASS = {"train": 500, "test": 100}


def source(settings: Fc100Settings | CifarFsSettings, images_per_class: dict[str, int] | None = None) -> Source:
    """The set under either split.

    Args:
        settings: which split, and where the archive lies.
        images_per_class: images of every class in the publisher's train and test parts, when they are not the known ones.

    Raises:
        DataError: the archive is missing or has another hash.
    """
    counts = images_per_class or IMAGES_PER_CLASS
    refuse_unknown(settings.hashes, (ARCHIVE.file,))
    archive = find(ARCHIVE, Path(settings.raw), settings.hashes)
    superclasses = {row["class"]: row["superclass"] for row in published(settings.name)}
    return Source(
        classes=published_split(settings.name),
        items=lambda: _items(archive, superclasses, counts),
        decode=partial(decode_array, size=settings.image_size),
        image_size=settings.image_size,
        images_per_class=sum(counts.values()),
        archives={ARCHIVE.file: archive.record},
        notes=(archive.note,) if archive.note else (),
        where=archive.path,
    )


def _items(archive: Archive, superclasses: dict[str, str], counts: dict[str, int]) -> Iterator[Item]:
    """All images of both parts."""
    loaded: dict[str, Any] = {}
    for member in members(archive):
        folder, _, name = member.name.removeprefix("./").rpartition("/")
        if folder == FOLDER and name in ("meta", *counts):
            loaded[name] = load_restricted(member.stream(), f"{archive.path}: {member.name}")
    for name in ("meta", *counts):
        if name not in loaded:
            raise _wrong(archive, name, "is missing")
    fine, coarse = (_names(archive, loaded["meta"], kind) for kind in ("fine", "coarse"))
    if set(fine) != set(superclasses):
        odd = sorted(set(fine) ^ set(superclasses))[0]
        raise _wrong(archive, "meta", f"disagrees with the known classes about {odd!r}")
    for part, expected in counts.items():
        data, labels, groups, files = _arrays(archive, part, loaded.pop(part))
        number = np.bincount(labels, minlength=len(fine))
        for label in np.flatnonzero(number != expected):
            raise _wrong(archive, part, f"has {number[label]} images of class {fine[label]!r}, expected {expected}")
        for row, (label, group) in enumerate(zip(labels.tolist(), groups.tolist(), strict=True)):
            name = fine[label]
            if not 0 <= group < len(coarse) or coarse[group] != superclasses[name]:
                raise _wrong(archive, part, f"has class {name!r} under another superclass than {superclasses[name]!r}")
            # the publisher's names need not be unique; the row makes them so
            yield Item(f"{FOLDER}/{part}/{files[row]}#{row}", name, data[row])


def _wrong(archive: Archive, member: str, what: str) -> DataError:
    return DataError(f"{archive.path}: member {FOLDER}/{member} {what}; get {ARCHIVE.content} again")


def _names(archive: Archive, meta: Any, kind: str) -> list[str]:
    """Names of the fine or coarse labels."""
    try:
        return texts(meta[f"{kind}_label_names".encode()], 100)
    except (KeyError, TypeError, ValueError):
        raise _wrong(archive, "meta", f"has no {kind} label names") from None


def _arrays(
    archive: Archive, part: str, content: Any
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64], list[str]]:
    """Images uint8 (N, 32, 32, 3), fine labels (N,), coarse labels (N,) and file names of one part."""
    try:
        data = content[b"data"]
        fine, coarse = (whole_numbers(content[key], len(data)) for key in (b"fine_labels", b"coarse_labels"))
        files = texts(content[b"filenames"], len(data))
    except (KeyError, TypeError, ValueError):
        raise _wrong(archive, part, "lacks data, fine_labels, coarse_labels or filenames") from None
    fits = isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape == (len(files), 3072)
    if not fits or not len(fine) == len(coarse) == len(files) or fine.min(initial=0) < 0 or fine.max(initial=0) >= 100:
        raise _wrong(archive, part, "holds arrays that do not fit together")
    # the publisher stores 1,024 values of red, then of green, then of blue
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), fine, coarse, files
