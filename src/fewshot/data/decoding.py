"""From encoded images to pixels, on all cores, in bounded memory."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fewshot.data.pictures import Image
from fewshot.data.sources.base import Item
from fewshot.errors import DataError

BATCH_IMAGES = 256
BATCH_BYTES = 16 * 2**20
MOST_NAMED = 8
"""Images that do not decode and are named at once."""


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _decode_batch(
    decode: Callable[[Any], Image], items: list[tuple[str, Any]], size: int, target: str, start: int
) -> tuple[int, list[tuple[str, str]]]:
    """Decode into rows `start`... of the raw file `target`: pixels need not travel back to the parent process.

    Returns:
        The number of items, and those that do not decode, each with the reason.

    Raises:
        DataError: `decode` gives something else than uint8 (size, size, 3), which no other file would mend.
    """
    images = np.zeros((len(items), size, size, 3), dtype=np.uint8)
    broken: list[tuple[str, str]] = []
    for image, (file, payload) in zip(images, items, strict=True):
        try:
            pixels = np.asarray(decode(payload))
        except Exception as error:  # whatever a broken file makes a decoder raise
            broken.append((file, " ".join(str(error).split()) or type(error).__name__))
            continue
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise DataError(f"{file}: decode gives {pixels.dtype} {pixels.shape}, not uint8 ({size}, {size}, 3)")
        if pixels.shape != image.shape:
            height, width, _ = pixels.shape
            raise DataError(f"{file}: decode gives {width} x {height} pixels, image_size is {size}")
        image[:] = pixels
    with open(target, "r+b") as stream:  # noqa: PTH123 - a plain file object, as pwrite needs its number
        view = images.reshape(-1).data
        offset = start * size * size * 3
        while view:
            written = os.pwrite(stream.fileno(), view, offset)
            view, offset = view[written:], offset + written
    return len(items), broken


def _refuse(broken: list[tuple[str, str]], where: Path | None = None) -> None:
    """End with the names of images that do not decode, where there are any; one that several classes are of is named once.

    What is a file under `where` is named by its path.
    """
    broken = [(_found(file, where), reason) for file, reason in dict(broken).items()]
    if len(broken) == 1:
        [(file, reason)] = broken
        raise DataError(f"{file}: the image does not decode ({reason}); replace the file or remove it")
    if broken:
        names = ", ".join(f"{file} ({reason})" for file, reason in broken[:MOST_NAMED])
        more = " and more" if len(broken) > MOST_NAMED else ""
        raise DataError(f"these images do not decode: {names}{more}; replace the files or remove them")


def _found(file: str, where: Path | None) -> str:
    path = None if where is None else where / file
    return str(path) if path is not None and path.is_file() else file


def _end_with_parent() -> None:
    """End this worker when its parent is killed: it would wait for work for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Lists of items, short enough for the memory."""
    batch: list[Item] = []
    weight = 0
    for item in items:
        batch.append(item)
        weight += getattr(item.payload, "nbytes", 0) or (len(item.payload) if isinstance(item.payload, bytes) else 0)
        if len(batch) >= BATCH_IMAGES or weight >= BATCH_BYTES:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def decode_all(
    items: Iterable[Item],
    decode: Callable[[Any], Image],
    size: int,
    target: Path,
    *,
    workers: int,
    advance: Callable[[int], object],
    seen: Callable[[Item], object],
    where: Path | None = None,
) -> None:
    """Decode a stream into a raw file of uint8 rows, in the stream's order.

    Processes, not threads: much of the time of a small image is Python's own, which threads cannot share (84-pixel
    JPEGs, two workers: threads reached 0.7 times the speed of one core). They write into the target themselves, so that
    pixels do not travel between processes.

    Args:
        items: the stream; read only a few batches ahead.
        decode: payload -> uint8 (size, size, 3).
        size: side in pixels.
        target: file to write.
        workers: processes; 1: no other process is started.
        advance: called with the number of images done.
        seen: called with every item, in order.
        where: the archive or folder that the images are of, where errors name one.

    Raises:
        DataError: images do not decode, of which the first MOST_NAMED are named; `decode` gives another size, or no uint8; a
            process died.
    """
    target.touch()
    start = 0
    broken: list[tuple[str, str]] = []

    def done(count: int, others: list[tuple[str, str]]) -> None:
        advance(count)
        broken.extend(others)
        if len(broken) > MOST_NAMED:
            _refuse(broken, where)

    def jobs() -> Iterator[tuple[Callable[[Any], Image], list[tuple[str, Any]], int, str, int]]:
        nonlocal start
        for batch in _batches(items):
            for item in batch:
                seen(item)
            yield decode, [(item.file, item.payload) for item in batch], size, str(target), start
            start += len(batch)

    if workers == 1:
        for job in jobs():
            done(*_decode_batch(*job))
        _refuse(broken, where)
        return
    pool = ProcessPoolExecutor(workers, initializer=_end_with_parent)
    try:
        stream = jobs()
        waiting: deque[Future[tuple[int, list[tuple[str, str]]]]] = deque(
            pool.submit(_decode_batch, *job) for job in islice(stream, 2 * workers)
        )
        while waiting:
            done(*waiting.popleft().result())
            waiting.extend(pool.submit(_decode_batch, *job) for job in islice(stream, 1))
        _refuse(broken, where)
    except BrokenProcessPool:
        raise DataError(
            "a decoding process died (out of memory, or a script without `if __name__ == '__main__':`); try workers=1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
