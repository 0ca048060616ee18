"""CUB-200-2011 birds (Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, CNS-TR-2011-001).

`few_shot`: the 100 / 50 / 50 classes of Chen et al., A Closer Look at Few-shot Classification, ICLR 2019.
`halves`: the first 100 classes base, the last 100 novel (Qi et al., Low-Shot Learning with Imprinted Weights, CVPR 2018);
the official test images are the held-out ones (with `held_out: 0` none is). Of a part of the set, the halves of what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fewshot.config import CubSettings
from fewshot.data.archives import MEBIBYTE, Archive, Known, find, members, refuse_unknown
from fewshot.data.pictures import decode_image
from fewshot.data.sources.base import Item, Source
from fewshot.data.splits import published_split
from fewshot.errors import DataError

ARCHIVE = Known(
    "CUB_200_2011.tgz",
    "CUB-200-2011 from the Caltech data repository (CaltechDATA)",
    "md5:97eceeb196236b17998738112f37df78",
    max_member=32 * MEBIBYTE,
    max_total=4096 * MEBIBYTE,
)
FOLDER = "CUB_200_2011"
TABLES = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
IMAGES = 11_788


class Tables(NamedTuple):
    """The archive's own lists."""

    classes: frozenset[str]
    files: dict[str, str]
    """Image file (`<class>/<name>.jpg`) -> class."""
    test: frozenset[str]
    """The official test images."""


def source(settings: CubSettings, images: int = IMAGES) -> Source:
    """The set under either split.

    Args:
        settings: the split, whether a part of the set will do, and where the archive lies.
        images: number of images of the complete set.

    Raises:
        DataError: the archive is missing, has another hash, or its lists are not the set's.
    """
    refuse_unknown(settings.hashes, (ARCHIVE.file,))
    archive = find(ARCHIVE, Path(settings.raw), settings.hashes)
    tables = _tables(archive)
    split = published_split(f"cub_{settings.split}")
    known = {name for name, _ in split}
    for name in sorted(tables.classes - known):
        raise DataError(f"{archive.path}: class {name!r} is none of CUB's 200; get {ARCHIVE.content} again")
    notes = [archive.note] if archive.note else []
    found = len(tables.files)
    if settings.partial:
        split = tuple((name, part) for name, part in split if name in tables.classes)
        if settings.split == "halves":  # of the classes that are there: where they come from one half, no other would be left
            half = (len(split) + 1) // 2
            split = tuple((name, "base" if i < half else "test") for i, (name, _) in enumerate(split))
        if len(split) < len(known) or found != images:
            notes.append(
                f"The archive holds a part of CUB only: {len(split)} of {len(known)} classes, {found} of {images} images. "
                "Published CUB results do not apply."
            )
        if not any(part == "base" for _, part in split):
            raise DataError(f"{archive.path}: holds no base class of split {settings.split}; stage 1 needs some")
    else:
        for name in sorted(known - tables.classes):
            raise DataError(f"{archive.path}: class {name!r} is missing; {_cure()}")
        if found != images:
            raise DataError(f"{archive.path}: lists {found} images, expected {images}; {_cure()}")
    official = settings.split == "halves"
    return Source(
        classes=split,
        items=lambda: _items(archive, tables, official, settings.held_out > 0),
        decode=partial(decode_image, size=settings.image_size),
        image_size=settings.image_size,
        images=found,
        archives={ARCHIVE.file: archive.record},
        notes=tuple(notes),
        where=archive.path,
    )


def _cure() -> str:
    return f"get {ARCHIVE.content} again, or set dataset.partial: true to go on with what is there"


def _tables(archive: Archive) -> Tables:
    """Read the lists; one pass over the archive, which ends early when they come first."""
    texts: dict[str, str] = {}
    for member in members(archive):
        folder, _, name = member.name.removeprefix("./").rpartition("/")
        if folder == FOLDER and name in TABLES:
            texts[name] = member.read().decode("utf-8", errors="replace")
            if len(texts) == len(TABLES):
                break
    for name in TABLES:
        if name not in texts:
            raise DataError(f"{archive.path}: member {FOLDER}/{name} is missing; get {ARCHIVE.content} again")
    try:
        images, labels, marks, classes = (
            dict(line.split() for line in texts[name].splitlines() if line.strip()) for name in TABLES
        )
        files = {file: classes[labels[number]] for number, file in images.items()}
        test = frozenset(images[number] for number, mark in marks.items() if mark == "0")
    except (ValueError, KeyError) as error:
        raise DataError(f"{archive.path}: its lists disagree ({error}); get {ARCHIVE.content} again") from None
    for file, name in files.items():
        if file.partition("/")[0] != name:
            raise DataError(f"{archive.path}: lists {file} as class {name!r}; get {ARCHIVE.content} again")
    return Tables(frozenset(files.values()), files, test)


def _items(archive: Archive, tables: Tables, official: bool, hold_out: bool) -> Iterator[Item]:
    prefix = f"{FOLDER}/images/"
    missing = set(tables.files)
    for member in members(archive):
        path = member.name.removeprefix("./")
        file = path.removeprefix(prefix)
        if not path.startswith(prefix) or file.rpartition("/")[2].startswith("."):
            continue
        if file not in missing:
            raise DataError(f"{archive.path}: member {path} is not in images.txt; get {ARCHIVE.content} again")
        missing.remove(file)
        held_out = (hold_out and file in tables.test) if official else None
        yield Item(f"{archive.path.name}:{path}", tables.files[file], member.read(), held_out)
    for file in sorted(missing):
        raise DataError(
            f"{archive.path}: image {file} of images.txt and {len(missing) - 1} others are missing; get {ARCHIVE.content} again"
        )
