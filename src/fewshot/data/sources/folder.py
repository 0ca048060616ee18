"""`folder`: the user's own images, one sub-folder a class."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import median_low

from PIL import Image as Pillow

from fewshot.config import SMALLEST_IMAGE, FolderSettings
from fewshot.data.archives import refuse_unknown
from fewshot.data.loose import require_folder
from fewshot.data.pictures import decode_image, shorter_side
from fewshot.data.sources.base import Item, Source
from fewshot.data.splits import Split, checked, drawn, read_split
from fewshot.errors import DataError, printable
from fewshot.files import ignored

LARGEST = 84
"""Bound of a size that is found: the side in pixels of what the field's networks are trained on."""


def source(settings: FolderSettings) -> Source:
    """The classes are the sub-folders, in alphabetical order within a part; every file in them must be an image.

    Images are turned upright by the camera's orientation mark, converted to RGB from any mode, cropped to the central
    square and resized: to `image_size`, or to the median of their shorter sides between 16 and 84 pixels.

    Raises:
        DataError: the folder is missing or has no sub-folders, a class is empty, the split does not fit the classes, or files
            are no images.
    """
    folder = Path(settings.folder)
    refuse_unknown(settings.hashes, ())
    require_folder(folder, "dataset.folder names the folder whose sub-folders are the classes")
    names = class_names(folder)
    held_out = None if settings.test_folder is None else False
    items = [
        Item(str(path.relative_to(folder)), name, str(path), held_out) for name in names for path in class_images(folder / name)
    ]
    split, notes = _split(settings, names, Counter(item.label for item in items))
    if settings.test_folder is not None:
        items += _tested(Path(settings.test_folder), names)
    folders = [folder, *([] if settings.test_folder is None else [Path(settings.test_folder)])]
    loose = (path for one in folders for path in beside(one))
    strays = [path.name for path in loose if not settings.split or not path.samefile(settings.split)]
    if strays:
        notes += (f"Not in a class folder, so left out: {first_of(strays)}.",)
    sides = _shorter_sides(folder, items)  # also where the size is given: what is no image is named before any is decoded
    size = settings.image_size or min(max(median_low(sides), SMALLEST_IMAGE), LARGEST)
    if settings.image_size is None:
        notes += (f"Images are of {size} px, found from their shorter sides; dataset.image_size sets another size.",)
    return Source(
        classes=split,
        items=lambda: iter(items),
        decode=partial(decode_image, size=size, upright=True),
        image_size=size,
        images=len(items),
        notes=notes,
        where=folder,
    )


def _split(settings: FolderSettings, names: list[str], images: Counter[str]) -> tuple[Split, tuple[str, ...]]:
    """The split of the classes and what the report says of it: from a file, by the number of images, or drawn."""
    if settings.split:
        return read_split(Path(settings.split), names), ()
    if settings.base_at_least is None:
        drawn_split = drawn(names, settings.shares, settings.seed)
        return drawn_split, (f"The split of the classes was drawn from seed {settings.seed}.",)
    many = [name for name in names if images[name] >= settings.base_at_least]
    if not many or len(many) == len(names):
        raise DataError(
            f"{settings.folder}: {len(many)} of {len(names)} classes have at least {settings.base_at_least} images; base and "
            "novel classes are both needed: set dataset.base_at_least between the smallest and the largest class"
        )
    rows = ((name, "base" if name in set(many) else "test") for name in names)
    return checked(rows, settings.folder, names), (
        f"Base classes are the {len(many)} of {len(names)} with at least {settings.base_at_least} images.",
    )


def _shorter_sides(folder: Path, items: Iterable[Item]) -> list[int]:
    """Pixels of every image's shorter side, from the heads of all files: what is no image is named at once.

    Raises:
        DataError: there are such files, or a decompression bomb.
    """
    sides: list[int] = []
    others: list[str] = []
    for item in items:
        try:
            sides.append(shorter_side(Path(item.payload)))
        except Pillow.DecompressionBombError as error:
            raise DataError(f"{item.payload}: {error}; shrink the image, or remove it") from None
        except OSError as error:
            if error.errno is not None:  # it cannot be read: that says nothing of what it is
                raise
            others.append(item.file)
        except Exception:  # whatever else a file that is no image makes Pillow raise
            others.append(item.file)
    if others:
        raise DataError(
            f"{folder}: not an image that Pillow knows: {first_of(others)}; remove from the class folders what is no image"
        )
    return sides


def _tested(folder: Path, names: list[str]) -> list[Item]:
    """The images of the second folder, of classes that the first has; a class may have none."""
    require_folder(folder, "dataset.test_folder names the folder of the images to test on")
    found = class_names(folder)
    for name in found:
        if name not in set(names):
            raise DataError(f"{folder / name}: class {name!r} is not in dataset.folder; add it there or remove it here")
    return [
        Item(f"{folder.name}: {path.relative_to(folder)}", name, str(path), True)
        for name in found
        for path in class_images(folder / name)
    ]


def class_names(folder: Path) -> list[str]:
    """The sub-folders, sorted.

    Raises:
        DataError: there are none, or one has a name that the tables of a store cannot hold.
    """
    names = sorted(_name(path) for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise DataError(f"{folder}: no sub-folders; put the images of every class into a folder of its own")
    return names


def class_images(folder: Path) -> list[Path]:
    """The files of a class, sorted by name.

    Raises:
        DataError: there are none, or one is a folder or has a name that the tables of a store cannot hold.
    """
    found = []
    for path in sorted(folder.iterdir()):
        if ignored(Path(path.name)):
            continue
        if not path.is_file():
            raise DataError(f"{path}: a folder inside a class folder; move its images up or make it a class of its own")
        _name(path)
        found.append(path)
    if not found:
        raise DataError(f"{folder}: class folder without images; add some or remove the folder")
    return found


def _name(path: Path) -> str:
    """The last part of a path, of which no line end may make two lines and which UTF-8 can be made of.

    Raises:
        DataError: it holds a control character, or bytes that are no text.
    """
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in path.name):
        name = ascii(os.fsencode(path.name).decode(errors="backslashreplace"))
        raise DataError(f"{path.parent}: the name {name} in it holds a control character or is not UTF-8; rename it")
    return path.name


def beside(folder: Path) -> list[Path]:
    """The files that lie beside the class folders of a folder, by name, without those that are ignored everywhere."""
    return [path for path in sorted(folder.iterdir()) if path.is_file() and not ignored(Path(path.name))]


def first_of(names: Sequence[str]) -> str:
    """Three names, and how many more there are."""
    return printable(", ".join(names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
