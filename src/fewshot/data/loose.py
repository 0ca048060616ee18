"""Image files as they lie in folders, whatever else lies between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot.data.decoding import cores
from fewshot.data.pictures import decode_square, resized
from fewshot.errors import DataError
from fewshot.files import ignored

Images = npt.NDArray[np.uint8]


def require_folder(folder: Path, cure: str) -> None:
    """Refuse a path where there is no folder.

    Args:
        folder: the path.
        cure: what to name there, in words.

    Raises:
        DataError: there is nothing, or a file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is a file' if folder.exists() else 'no such folder'}; {cure}")


def class_folders(folder: Path) -> list[Path]:
    """The sub-folders, by name.

    Raises:
        DataError: there is no such folder, fewer than two in it, or a folder inside one of these.
    """
    require_folder(folder, "name a folder that holds a sub-folder of images for each class")
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(found) < 2:
        number = "1 sub-folder" if found else "no sub-folders"
        raise DataError(f"{folder}: {number}; it must hold one for each class, two at least")
    for one in found:
        inner = next((path for path in sorted(one.iterdir()) if path.is_dir() and not path.name.startswith(".")), None)
        if inner is not None:
            raise DataError(
                f"{inner}: a folder inside a class folder; name the folder that holds the classes, or move its images up"
            )
    return found


def listed(folder: Path) -> list[Path]:
    """The files under a folder, however deep, by name, without hidden ones and those that desktops leave.

    Raises:
        DataError: there is no such folder, or no file in it.
    """
    require_folder(folder, "name the folder that holds the images")
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    found = [path for path in found if not ignored(path.relative_to(folder))]
    if not found:
        raise DataError(f"{folder}: no files in this folder; put images into it")
    return found


def decoded(
    files: Iterable[Path], sizes: Sequence[int], strict: bool
) -> tuple[list[Path], list[Images], list[tuple[Path, str]]]:
    """Decode what are images, each once: upright, RGB, the central square, resized.

    Args:
        files: to decode.
        sizes: sides in pixels, the one that counts first; the others are for looking at.
        strict: refuse what does not decode.

    Returns:
        The files that are images, for every size uint8 (n, size, size, 3), and the other files, each with the reason.

    Raises:
        DataError: with `strict`, a file that does not decode.
    """
    good: list[Path] = []
    images: list[list[Images]] = [[] for _ in sizes]
    others: list[tuple[Path, str]] = []
    files = list(files)
    with ThreadPoolExecutor(cores()) as threads:  # decoders let other threads run
        for file, found in zip(files, threads.map(partial(_decoded, sizes=sizes), files), strict=True):
            if not isinstance(found, str):
                good.append(file)
                for one, kept in zip(found, images, strict=True):
                    kept.append(one)
            elif strict:
                threads.shutdown(cancel_futures=True)
                raise DataError(f"{file}: not an image ({found}); remove it, or leave --strict out to skip it")
            else:
                others.append((file, found))
    stacks = [np.array(kept, np.uint8).reshape(-1, size, size, 3) for size, kept in zip(sizes, images, strict=True)]
    return good, stacks, others


def _decoded(file: Path, sizes: Sequence[int]) -> list[Images] | str:
    """An image in all sizes, or why it is none."""
    try:
        picture = decode_square(str(file), sizes[0], upright=True)
        return [resized(picture, size) for size in sizes]
    except Exception as error:  # whatever a file that is no image makes a decoder raise
        if "cannot identify" in str(error):
            return "no image that Pillow knows"
        return " ".join(str(error).split()) or type(error).__name__


def named(files: Sequence[Path], folder: Path) -> list[str]:
    """Names relative to a folder."""
    return [path.relative_to(folder).as_posix() for path in files]
