"""miniImageNet (Vinyals et al., Matching Networks, NeurIPS 2016) with the split of Ravi and Larochelle, Optimization as a
Model for Few-Shot Learning, ICLR 2017: 64 / 16 / 20 classes of 600 images.

Layout `images`: miniimagenet.tar with images/<name>.jpg and train.csv, val.csv, test.csv (filename,label); or the same
unpacked in the folder miniimagenet/. Layout `pickles`: mini-imagenet-cache-{train,val,test}.pkl, each a dict of image_data
(N, 84, 84, 3) and class_dict (WordNet id -> rows). Larger images are cropped to the central square and resized.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fewshot.config import MiniImageNetSettings
from fewshot.data.archives import MEBIBYTE, Archive, Known, find, members, refuse_unknown
from fewshot.data.pictures import decode_array, decode_image
from fewshot.data.plain_values import whole_numbers
from fewshot.data.sources.base import Item, Source
from fewshot.data.splits import published
from fewshot.data.unpickle import load_restricted
from fewshot.errors import DataError

ARCHIVE = Known(
    "miniimagenet.tar",
    "the 60,000 images of miniImageNet and the split files of Ravi and Larochelle "
    "(twitter/meta-learning-lstm on GitHub), packed as images/, train.csv, val.csv, test.csv,",
    max_member=64 * MEBIBYTE,
    max_total=32 * 1024 * MEBIBYTE,
)
CACHES = {
    part: Known(
        f"mini-imagenet-cache-{name}.pkl",
        f"the file mini-imagenet-cache-{name}.pkl of miniImageNet (train, val and test come together)",
    )
    for part, name in (("base", "train"), ("val", "val"), ("test", "test"))
}
UNPACKED = "miniimagenet"
TABLES = {"train.csv": "base", "val.csv": "val", "test.csv": "test"}
IMAGES_PER_CLASS = 600

Read = Callable[[], bytes]


def source(settings: MiniImageNetSettings, images_per_class: int = IMAGES_PER_CLASS) -> Source:
    """The set in either layout.

    Args:
        settings: the layout, and where the files lie.
        images_per_class: images of every class in the complete set.

    Raises:
        DataError: a file is missing, or its lists are not the set's.
    """
    raw = Path(settings.raw)
    rows = published("miniimagenet")
    names = {row["class"]: f"{row['class']} {row['word']}" for row in rows}
    parts = {row["class"]: row["part"] for row in rows}
    archives: list[Archive] = []
    notes: list[str] = []
    decode: Callable[[Any], Any]
    items: Callable[[], Iterator[Item]]
    if settings.layout == "pickles":
        refuse_unknown(settings.hashes, tuple(known.file for known in CACHES.values()))
        archives = [find(known, raw, settings.hashes) for known in CACHES.values()]
        found = dict(zip(CACHES, archives, strict=True))
        decode = partial(decode_array, size=settings.image_size)
        items = partial(_cached_items, found, names, parts)
    else:
        refuse_unknown(settings.hashes, (ARCHIVE.file,))
        decode = partial(decode_image, size=settings.image_size)
        folder = raw / UNPACKED
        if folder.is_dir() and not (raw / ARCHIVE.file).exists():
            notes.append(f"Images were read from the unpacked folder {UNPACKED}: there was no archive whose hash to check.")
            labels = _labels(folder, lambda: _folder_members(folder), parts, images_per_class)
            items = partial(_image_items, folder, lambda: _folder_members(folder), labels, names)
        else:
            archive = find(ARCHIVE, raw, settings.hashes)
            archives = [archive]
            labels = _labels(archive.path, lambda: _archive_members(archive), parts, images_per_class)
            items = partial(_image_items, archive.path, lambda: _archive_members(archive), labels, names)
    return Source(
        classes=tuple((names[row["class"]], row["part"]) for row in rows),
        items=items,
        decode=decode,
        image_size=settings.image_size,
        images_per_class=images_per_class,
        archives={archive.known.file: archive.record for archive in archives},
        notes=(*notes, *(archive.note for archive in archives if archive.note)),
        where=archives[0].path if archives else raw / UNPACKED,
    )


def _archive_members(archive: Archive) -> Iterator[tuple[str, Read]]:
    """(name, read) of the members, a common top folder taken off."""
    for member in members(archive):
        name = member.name.removeprefix("./").removeprefix(f"{UNPACKED}/")
        yield name, member.read


def _folder_members(folder: Path) -> Iterator[tuple[str, Read]]:
    """(name, read) of an unpacked folder: the csv files, then the images."""
    images = folder / "images"
    for path in [folder / name for name in TABLES] + (sorted(images.iterdir()) if images.is_dir() else []):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes


def _labels(
    where: Path,
    listed: Callable[[], Iterator[tuple[str, Read]]],
    parts: dict[str, str],
    images_per_class: int,
) -> dict[str, str]:
    """File name -> WordNet id from the three csv files, checked against the published class lists."""
    labels: dict[str, str] = {}
    seen = set()
    for member, read in listed():
        if member not in TABLES:
            continue
        seen.add(member)
        try:
            rows = [(row["filename"], row["label"]) for row in csv.DictReader(io.StringIO(read().decode("utf-8-sig")))]
        except (KeyError, UnicodeDecodeError, csv.Error):
            raise DataError(f"{where}: {member} is not a csv file with filename,label; get it from {_HOME}") from None
        for file, label in rows:
            if parts.get(label) != TABLES[member]:
                known = f"in part {parts[label]}" if label in parts else "in no part"
                raise DataError(
                    f"{where}: {member} lists class {label!r}, which the published split has {known}; "
                    f"get the csv files from {_HOME}"
                )
            if file in labels:
                raise DataError(f"{where}: {member} lists {file}, listed before; get the csv files from {_HOME}")
            labels[file] = label
        if len(seen) == len(TABLES):
            break
    for member in TABLES:
        if member not in seen:
            raise DataError(f"{where}: {member} is missing; get it from {_HOME}")
    counts = Counter(labels.values())
    for label in parts:
        if counts[label] != images_per_class:
            raise DataError(
                f"{where}: the csv files list {counts[label]} images of class {label!r}, expected {images_per_class}; "
                f"get them from {_HOME}"
            )
    return labels


_HOME = "the repository twitter/meta-learning-lstm on GitHub"


def _image_items(
    where: Path, listed: Callable[[], Iterator[tuple[str, Read]]], labels: dict[str, str], names: dict[str, str]
) -> Iterator[Item]:
    missing = set(labels)
    for member, read in listed():
        folder, _, file = member.rpartition("/")
        if folder != "images" or file not in missing:
            continue  # images that the split does not use do no harm
        missing.remove(file)
        yield Item(f"{where.name}:{member}", names[labels[file]], read())
    for file in sorted(missing):
        raise DataError(
            f"{where}: images/{file} of class {names[labels[file]]!r} and {len(missing) - 1} other listed images are missing; "
            f"get {ARCHIVE.content} again"
        )


def _cached_items(archives: dict[str, Archive], names: dict[str, str], parts: dict[str, str]) -> Iterator[Item]:
    for part, archive in archives.items():
        with archive.path.open("rb") as stream:
            content = load_restricted(stream, str(archive.path))
        wrong = DataError(f"{archive.path}: not a dict of image_data (N, 84, 84, 3) and class_dict; get it again")
        try:
            content = {_text(key): value for key, value in content.items()}
            images = content["image_data"]
            if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
                raise wrong
            if images.shape[3] != 3 or images.size == 0 or sum(map(len, content["class_dict"].values())) > len(images):
                raise wrong
            rows = {_text(label): whole_numbers(value, len(images)) for label, value in content["class_dict"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise wrong from None
        taken = np.concatenate([np.empty(0, dtype=np.int64), *rows.values()])
        if len(np.unique(taken)) != len(taken) or taken.min(initial=0) < 0 or taken.max(initial=-1) >= len(images):
            raise wrong
        for label, numbers in rows.items():
            if parts.get(label) != part:
                raise DataError(f"{archive.path}: class {label!r} is not in part {part} of the published split; get it again")
            for row in numbers.tolist():
                yield Item(f"{archive.path.name}:{row:06d}", names[label], images[row])
        del content, images


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
