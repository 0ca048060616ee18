"""The image store: what every later stage reads in place of archives.

A folder with

    images.npy   uint8, N x H x W x 3, memory-mappable; rows are grouped by class id, by file name within a class
    labels.npy   int64, N class ids: base classes first (0..B-1), then val, then test
    classes.csv  label, name, part (base, val or test), images (their number)
    images.csv   file, label, held_out (0 or 1); row i is image i
    meta.json    format, dataset, settings, archives, data_hash, image_size, mean, std, version, notes, hashes of the files

It is written whole or not at all.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from fewshot import __version__
from fewshot.errors import DataError, of_the_machine
from fewshot.files import load_array, read_record, write_record
from fewshot.locks import replacing_folder

FORMAT = 1
TABLES = ("labels.npy", "classes.csv", "images.csv")
"""The files of a store beside images.npy and meta.json."""
PARTS = ("base", "val", "test")
MEBIBYTE = 2**20
CHUNK_BYTES = 64 * MEBIBYTE

Part = Literal["base", "held_out", "val", "test"]
Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Store:
    """An opened image store.

    Attributes:
        path: the folder.
        images: uint8 (N, H, W, 3), a read-only memory map.
        labels: int64 (N,), class ids.
        held_out: bool (N,); inside base classes, the images kept out of stage 1. A data set with an official division of
            every class (CUB's halves) marks its test images in the other parts too; `rows` heeds the mark in base only.
        classes: one row a class: label, name, part, images.
        meta: the content of meta.json.
    """

    path: Path
    images: Images
    labels: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.bool_]
    classes: pd.DataFrame
    meta: Mapping[str, Any]

    def rows(self, part: Part) -> npt.NDArray[np.int64]:
        """Row numbers, ascending, of `base` (not held out), `held_out` (of base classes), `val` or `test` images."""
        if part not in (*PARTS, "held_out"):
            raise ValueError(f"no part {part!r}; there are base, held_out, val and test")
        wanted = "base" if part == "held_out" else part
        chosen = (self.classes["part"].to_numpy() == wanted)[self.labels]
        if wanted == "base":
            chosen &= self.held_out == (part == "held_out")
        return np.flatnonzero(chosen).astype(np.int64)

    @property
    def num_base(self) -> int:
        """Number of base classes."""
        return int((self.classes["part"] == "base").sum())

    @property
    def image_size(self) -> int:
        """Side of the square images in pixels."""
        return int(self.meta["image_size"])

    @property
    def data_hash(self) -> str:
        """SHA-256 over shape, images, labels, held-out marks, class names and parts."""
        return str(self.meta["data_hash"])

    @property
    def mean(self) -> tuple[float, float, float]:
        """Mean of red, green and blue over the base images that are not held out, on the 0..1 scale."""
        red, green, blue = self.meta["mean"]
        return float(red), float(green), float(blue)

    @property
    def std(self) -> tuple[float, float, float]:
        """Standard deviation of red, green and blue, as `mean`."""
        red, green, blue = self.meta["std"]
        return float(red), float(green), float(blue)


def open_store(path: Path, *, images: bool = True) -> Store:
    """Open a store and check its files; images stay on disk until they are read.

    Args:
        path: the folder.
        images: check images.npy too; False for what reads no pixels, which the size of the data set then does not slow.

    Raises:
        DataError: a file is missing or damaged, or the files do not fit together.
    """
    path = Path(path)
    cure = "delete the folder and prepare the data set again (fewshot prepare)"
    if not path.is_dir():
        raise DataError(f"{path}: no image store here; prepare the data set first (fewshot prepare)")
    file = path
    try:
        file = path / "meta.json"
        meta = read_record(file, (*TABLES, *(("images.npy",) if images else ())), cure)
        if meta["format"] != FORMAT:
            raise DataError(f"{file}: store format {meta['format']}, this version reads {FORMAT}; {cure}")
        size, _ = int(meta["image_size"]), (str(meta["data_hash"]), [float(v) for v in (*meta["mean"], *meta["std"])])
        file = path / "images.npy"
        pixels = load_array(file, mapped=True)
        file = path / "labels.npy"
        labels = load_array(file)
        file = path / "classes.csv"
        classes = pd.read_csv(file, dtype={"name": str, "part": str}, keep_default_na=False)
        counts, parts, ids = (classes[column].to_numpy() for column in ("images", "part", "label"))
        file = path / "images.csv"
        table = pd.read_csv(file, usecols=["label", "held_out"])
        table_labels, held_out = table["label"].to_numpy(), table["held_out"].to_numpy()
    except FileNotFoundError:
        raise DataError(f"{file}: missing from the image store; {cure}") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        if of_the_machine(error):
            raise
        raise DataError(f"{file}: damaged ({' '.join(str(error).split())}); {cure}") from None
    places = [PARTS.index(part) if part in PARTS else -1 for part in parts]
    problems = {
        "images.npy": pixels.dtype != np.uint8 or pixels.shape != (len(labels), size, size, 3),
        "labels.npy": labels.dtype != np.int64 or labels.ndim != 1 or not np.array_equal(labels, np.sort(labels)),
        "classes.csv": -1 in places or places != sorted(places) or not np.array_equal(ids, np.arange(len(classes))),
        "images.csv": not np.array_equal(table_labels, labels) or not np.isin(held_out, (0, 1)).all(),
    }
    if not any(problems.values()):
        problems["classes.csv"] = (
            labels.min(initial=0) < 0
            or labels.max(initial=-1) >= len(classes)
            or not np.array_equal(np.bincount(labels, minlength=len(classes)), counts)
        )
    for name, wrong in problems.items():
        if wrong:
            raise DataError(f"{path / name}: does not fit the other files of the image store; {cure}")
    return Store(path, pixels, labels, held_out.astype(bool), classes, meta)


def write_store(
    out: Path,
    *,
    dataset: str,
    settings: Mapping[str, Any],
    classes: Sequence[tuple[str, str]],
    labels: npt.ArrayLike,
    held_out: npt.ArrayLike,
    files: Sequence[str],
    images: Images | Iterable[Images],
    image_size: int,
    archives: Mapping[str, Mapping[str, str | int | None]] | None = None,
    notes: Sequence[str] = (),
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Write a store; `out` appears whole or, after an error, not at all (one that stood there before then stays).

    Args:
        out: the folder to write.
        dataset: name of the data set.
        settings: the settings that made it, JSON-able.
        classes: (name, part) of class 0, 1, ...; base first, then val, then test.
        labels: N class ids, ascending.
        held_out: N marks.
        files: N names that say where each image came from.
        images: uint8 (N, S, S, 3), whole or as an iterable of consecutive chunks (n, S, S, 3).
        image_size: S, in pixels.
        archives: file name -> {sha256, checked, bytes}.
        notes: sentences for the report.
        origin: what tells later whether it would be made the same way again (`fewshot.current`).

    Raises:
        ValueError: the arguments do not fit together.
    """
    labels, held_out = np.asarray(labels, dtype=np.int64), np.asarray(held_out, dtype=bool)
    order = [PARTS.index(part) for _, part in classes]
    if len(labels) == 0 or not len(labels) == len(held_out) == len(files):
        raise ValueError("labels, held_out and files must be of one length, above 0")
    if order != sorted(order) or np.any(np.diff(labels) < 0) or labels[0] < 0 or labels[-1] >= len(classes):
        raise ValueError("classes go base, val, test, and rows by ascending class id")
    with replacing_folder(Path(out)) as folder:
        base = np.array([part == "base" for _, part in classes])[labels] & ~held_out
        mean, std, digest = _write_images(folder / "images.npy", images, (len(labels), image_size), base)
        digest.update(labels.tobytes())
        digest.update(held_out.tobytes())
        digest.update(json.dumps([list(pair) for pair in classes]).encode())
        np.save(folder / "labels.npy", labels)
        counts = np.bincount(labels, minlength=len(classes)).tolist()
        _write_csv(
            folder / "classes.csv",
            ("label", "name", "part", "images"),
            ((i, name, part, counts[i]) for i, (name, part) in enumerate(classes)),
        )
        _write_csv(
            folder / "images.csv",
            ("file", "label", "held_out"),
            zip(files, labels.tolist(), held_out.astype(int).tolist(), strict=True),
        )
        meta = {
            "format": FORMAT,
            "dataset": dataset,
            "settings": dict(settings),
            "archives": {name: dict(record) for name, record in (archives or {}).items()},
            "data_hash": digest.hexdigest(),
            "image_size": image_size,
            "mean": mean,
            "std": std,
            "version": __version__,
            "notes": list(notes),
            "origin": dict(origin or {}),
        }
        write_record(folder / "meta.json", meta, (*TABLES, "images.npy"))


def _write_images(
    file: Path, images: Images | Iterable[Images], extent: tuple[int, int], counted: npt.NDArray[np.bool_]
) -> tuple[list[float], list[float], hashlib._Hash]:
    """Write the chunks one after the other; mean and std (3 each) of the `counted` rows, and the hash so far.

    The sums stay whole numbers below 2**53, so they are exact and do not depend on the size of chunks.
    """
    rows, size = extent
    shape = (rows, size, size, 3)
    digest = hashlib.sha256(json.dumps(shape).encode())
    step = max(1, CHUNK_BYTES // (size * size * 3))
    whole = images if isinstance(images, np.ndarray) else None
    chunks = images if whole is None else (whole[i : i + step] for i in range(0, rows, step))
    block = max(1, MEBIBYTE // (size * size * 3))
    start, total, squares = 0, np.zeros(3), np.zeros(3)
    with file.open("wb") as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for chunk in chunks:
            if chunk.dtype != np.uint8 or chunk.shape[1:] != shape[1:] or start + len(chunk) > rows:
                raise ValueError(f"a chunk of {chunk.dtype} {chunk.shape} at row {start} does not fit into {shape}")
            data = np.ascontiguousarray(chunk).data
            stream.write(data)
            digest.update(data)
            rows_counted = np.flatnonzero(counted[start : start + len(chunk)])
            for i in range(0, len(rows_counted), block):
                values = chunk[rows_counted[i : i + block]].reshape(-1, 3).astype(np.float64)
                total += np.ones(len(values)) @ values
                squares += np.diagonal(values.T @ values)
            start += len(chunk)
    if start != rows:
        raise ValueError(f"{start} images for {rows} labels")
    number = max(1, int(counted.sum()) * size * size)
    mean = total / number
    std = np.sqrt(np.maximum(squares / number - mean**2, 0.0))
    if not std.all():  # a channel of one value (or no base images): dividing by std must stay harmless
        std = np.where(std == 0, 255.0, std)
    return (mean / 255).tolist(), (std / 255).tolist(), digest


def _write_csv(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def require_images(store: Store, part: Part, taken: Mapping[str, int], way: int = 1, where: str = "evaluation") -> None:
    """Check that a part has `way` classes and every class as many images as a task takes.

    Args:
        store: of the images.
        part: of the classes.
        taken: setting -> images a class that it asks for; where that is a single one, another image is tested.
        way: classes a task.
        where: the settings that these are of, as the error names them.

    Raises:
        DataError: the part has fewer classes, or classes have too few images: how many have, and the smallest of them.
    """
    names = store.classes["name"].to_numpy()
    wanted = "base" if part == "held_out" else part
    ids = np.flatnonzero(store.classes["part"].to_numpy() == wanted)
    if len(ids) < way:
        raise DataError(
            f"{store.path}: {len(ids)} classes in part {wanted}, but {where}.way is {way}: "
            "lower it, or give the split more classes"
        )
    counts = np.bincount(store.labels[store.rows(part)], minlength=len(names))
    least = ids[np.argmin(counts[ids])]
    addends = [f"{key} {number}" for key, number in taken.items()] + ["1"] * (len(taken) == 1)
    minimum = sum(taken.values()) + (len(taken) == 1)
    if counts[least] < minimum:
        kind = "held-out images" if part == "held_out" else "images"
        cure = (
            "raise dataset.held_out or lower evaluation.queries"
            if part == "held_out"
            else f"lower {' or '.join(f'{where}.{key}' for key in taken)}, or add images"
        )
        raise DataError(
            f"{store.path}: too few {kind} in {np.sum(counts[ids] < minimum)} of {len(ids)} classes ({part}), the fewest in "
            f"{names[least]!r}, {counts[least]}; {where} needs {' + '.join(addends)} = {minimum}: {cure}"
        )
