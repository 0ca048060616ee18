"""Which images of a class are kept out of training, to be tested on."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from fewshot.data.store import Part, Store
from fewshot.errors import DataError


def held_out_rows(name: str, images: int, share: float, seed: int) -> npt.NDArray[np.int64]:
    """Numbers (n,) of a class's images that are held out, ascending.

    The draw depends on the class's name, its number of images and the seed.

    At least one image is held out and at least one kept, unless `share` is 0 (none is held out).

    Raises:
        DataError: the class has only one image.
    """
    if share == 0:
        return np.empty(0, dtype=np.int64)
    if images < 2:
        raise DataError(
            f"class {name!r} has only {images} image; holding out a share needs two: add images or set dataset.held_out to 0"
        )
    number = min(max(round(images * share), 1), images - 1)
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype="<u4")
    generator = np.random.default_rng([seed, *words.tolist()])
    return np.sort(generator.permutation(images)[:number])


def divided(
    store: Store, part: Part, where: str = "evaluation.way: all"
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Each class of a part, in order, divided into the store rows (n,) of its training images and (m,) of its test images.

    By the marks of the store where the data set has an official division of every class (CUB's halves); otherwise by
    the same draw, share and seed with which base images were held out.

    Args:
        store: of the images.
        part: of the classes.
        where: the settings that ask for it, as the error names them.

    Raises:
        DataError: no share of the images is held out, or a class has no image to learn from.
    """
    rows = store.rows(part)
    labels, marks = store.labels[rows], store.held_out[rows]
    share, seed = float(store.meta["settings"]["held_out"]), int(store.meta["settings"]["seed"])
    if not marks.any() and share == 0:
        raise DataError(f"{store.path}: no held-out images; {where} needs dataset.held_out above 0")
    classes = []
    for label in np.unique(labels):
        own, name = rows[labels == label], str(store.classes["name"][label])
        test = marks[labels == label]
        if not marks.any():
            test = np.zeros(len(own), dtype=bool)
            test[held_out_rows(name, len(own), share, seed)] = True
        if test.all():
            raise DataError(f"{store.path}: class {name!r} has test images only; give it images to learn from")
        classes.append((own[~test], own[test]))
    return classes
