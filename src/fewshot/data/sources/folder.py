"""`folder`: the user's own images, one sub-folder a class."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fewshot.config import FolderSettings
from fewshot.data.archives import refuse_unknown
from fewshot.data.pictures import decode_image
from fewshot.data.sources.base import Item, Source
from fewshot.data.splits import drawn, read_split
from fewshot.errors import DataError

IGNORED = {"thumbs.db", "desktop.ini"}
"""Files that desktops leave in folders; names that start with a dot are ignored too."""


def source(settings: FolderSettings) -> Source:
    """The classes are the sub-folders, in alphabetical order within a part; every file in them must be an image.

    Images are turned upright by the camera's orientation mark, converted to RGB from any mode, cropped to the central
    square and resized.

    Raises:
        DataError: the folder is missing or has no sub-folders, a class is empty, or the split does not fit the classes.
    """
    folder = Path(settings.folder)
    refuse_unknown(settings.hashes, ())
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; dataset.folder names the folder whose sub-folders are the classes")
    names = class_names(folder)
    split = read_split(Path(settings.split), names) if settings.split else drawn(names, settings.shares, settings.seed)
    files = [(name, path) for name in names for path in class_images(folder / name)]
    notes = () if settings.split else (f"The split of the classes was drawn from seed {settings.seed}.",)
    return Source(
        classes=split,
        items=lambda: (Item(str(path.relative_to(folder)), name, str(path)) for name, path in files),
        decode=partial(decode_image, size=settings.image_size, upright=True),
        images=len(files),
        notes=notes,
        where=folder,
    )


def class_names(folder: Path) -> list[str]:
    """The sub-folders, sorted.

    Raises:
        DataError: there are none.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise DataError(f"{folder}: no sub-folders; put the images of every class into a folder of its own")
    return names


def class_images(folder: Path) -> list[Path]:
    """The files of a class, sorted by name.

    Raises:
        DataError: there are none, or one is a folder.
    """
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.lower() in IGNORED:
            continue
        if not path.is_file():
            raise DataError(f"{path}: a folder inside a class folder; move its images up or make it a class of its own")
        found.append(path)
    if not found:
        raise DataError(f"{folder}: class folder without images; add some or remove the folder")
    return found
