"""From a source to an image store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from fewshot import job_code
from fewshot.config import DatasetSettings
from fewshot.data.decoding import cores, decode_all
from fewshot.data.held_out import held_out_rows
from fewshot.data.sources import Item, Source, open_source
from fewshot.data.store import CHUNK_BYTES, Images, write_store
from fewshot.errors import DataError
from fewshot.locks import scratch_folder
from fewshot.provenance import folder_hashes


def prepare(
    settings: DatasetSettings,
    out: Path,
    *,
    workers: int | None = None,
    progress: bool = True,
    opened: Callable[[], object] = lambda: None,
) -> None:
    """Write the image store of a data set. The same settings and archives give the same store, whatever `workers` is.

    Args:
        settings: the data set's settings; relative paths in them start at the working directory.
        out: the store's folder; replaced when it exists, untouched when anything fails.
        workers: decoding processes; None: one a core that this process may use.
        progress: show a progress bar.
        opened: called once the archives are found and checked, before the first image is decoded.

    Raises:
        DataError: an archive, image or split is missing or wrong; one line with the cure.
    """
    origin = {"folders": folder_hashes(settings), "code": job_code.preparation(settings)}  # as they are before they are read
    source = open_source(settings)
    opened()
    write_source(source, settings, Path(out), workers=workers, progress=progress, origin=origin)


def write_source(
    source: Source, settings: Any, out: Path, *, workers: int | None, progress: bool, origin: Mapping[str, Any] | None = None
) -> None:
    """`prepare` for a source that is already open; it raises DataError too. `origin`: see `write_store`."""
    size = source.image_size
    most = None if source.expected is None else source.expected + 1  # one too many is enough to refuse them
    ids = {name: i for i, (name, _) in enumerate(source.classes)}
    files: list[str] = []
    labels: list[int] = []
    official: list[bool | None] = []

    def seen(item: Item) -> None:
        if item.label not in ids:
            raise DataError(f"{item.file}: class {item.label!r} is not in the split; add it there, or leave the image out")
        files.append(item.file)
        labels.append(ids[item.label])
        official.append(item.held_out)

    with scratch_folder(out) as scratch:
        raw = scratch / "decoded"
        with tqdm(
            total=source.expected,
            desc=f"preparing {settings.name}",
            unit=" images",
            disable=not progress,
            mininterval=0.5,
        ) as bar:
            decode_all(
                islice(source.items(), most),
                source.decode,
                size,
                raw,
                workers=workers or cores(),
                advance=bar.update,
                seen=seen,
                where=source.where,
            )
        _check_counts(source, labels)
        # rows by class, then by file name: the store does not depend on the order inside an archive
        order = np.array(sorted(range(len(files)), key=lambda i: (labels[i], files[i], i)), dtype=np.int64)
        label = np.asarray(labels, dtype=np.int64)[order]
        held_out = _hold_out(source, label, [official[i] for i in order], settings.held_out, settings.seed)
        write_store(
            out,
            dataset=settings.name,
            settings=settings.as_dict(),
            classes=source.classes,
            labels=label,
            held_out=held_out,
            files=[files[i] for i in order],
            images=_gather(raw, order, size),
            image_size=size,
            archives=source.archives,
            notes=source.notes,
            origin=origin,
        )


def _gather(raw: Path, order: npt.NDArray[np.int64], size: int) -> Iterator[Images]:
    """The rows of a raw file in a new order, chunk by chunk; mapped anew for each, so that no more than one is resident."""
    shape = (len(order), size, size, 3)
    step = max(1, CHUNK_BYTES // (size * size * 3))
    for start in range(0, len(order), step):
        yield np.memmap(raw, dtype=np.uint8, mode="r", shape=shape)[order[start : start + step]]


def _check_counts(source: Source, labels: list[int]) -> None:
    counts = Counter(labels)
    where = f"{source.where}: " if source.where else ""
    for i, (name, _) in enumerate(source.classes):
        expected = source.images_per_class
        if counts[i] == 0 or (expected is not None and counts[i] != expected):
            raise DataError(
                f"{where}class {name!r} has {counts[i]} images, expected {expected or 'at least one'}; "
                "the archive is not the complete set: get it again"
            )
    if source.expected not in (None, len(labels)):
        raise DataError(
            f"{where}{len(labels)} images, expected {source.expected}; the archive is not the complete set: get it again"
        )


def _hold_out(
    source: Source, labels: npt.NDArray[np.int64], official: list[bool | None], share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Marks of the held-out rows (labels ascending): the source's own division where it has one, otherwise a draw."""
    marks = np.array([bool(mark) for mark in official])
    for i, (name, part) in enumerate(source.classes):
        first, last = np.searchsorted(labels, [i, i + 1])
        if part == "base" and official[first] is None:
            marks[first + held_out_rows(name, int(last - first), share, seed)] = True
    return marks
