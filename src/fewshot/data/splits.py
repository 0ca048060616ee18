"""Splits of classes into base, val and test: the published lists, a user's own file, or a draw."""

from __future__ import annotations

import csv
from collections.abc import Container, Iterable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from fewshot.data.store import PARTS
from fewshot.errors import DataError

Split = tuple[tuple[str, str], ...]
"""(class, part) of every class: base first, then val, then test."""


def published(name: str) -> list[dict[str, str]]:
    """The rows (part, class, and further columns) of a published list, in order: `data/splits/<name>.csv`.

    Raises:
        DataError: there is no such list, or it has other columns.
    """
    file = resources.files("fewshot.data") / "splits" / f"{name}.csv"
    cure = "write the list with the columns part,class (docs/adding/dataset.md)"
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{file}: split file missing; {cure}") from None
    reader = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    header = reader.fieldnames or ()
    if not {"class", "part"} <= set(header):
        raise DataError(f"{file}: the columns are {', '.join(header) or 'none'}; {cure}")
    return list(reader)


def published_split(name: str) -> Split:
    """A published list as a split.

    Raises:
        DataError: as `published` and `checked`.
    """
    rows = published(name)
    return checked(((row["class"], row["part"]) for row in rows), f"{name}.csv", [row["class"] for row in rows])


def read_split(file: Path, classes: Sequence[str]) -> Split:
    """A user's csv file with the columns class and part; lines that start with # are comments, less rows of classes so named.

    Args:
        file: the file.
        classes: the classes there are; the file must place each of them once.

    Raises:
        DataError: the file is missing, has other columns, or is no split of these classes.
    """
    known = set(classes)
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(line for line in stream if not _comment(line, known))
            rows = [{key.strip(): value or "" for key, value in row.items() if key} for row in reader]
            header = [name.strip() for name in reader.fieldnames or ()]
    except FileNotFoundError:
        raise DataError(
            f"{file}: split file missing; write one with the columns class,part, or leave dataset.split out"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error, AttributeError) as error:
        raise DataError(f"{file}: not a csv file ({error}); write one with the columns class,part") from None
    if not {"class", "part"} <= set(header):
        raise DataError(f"{file}: the columns are {', '.join(header) or 'none'}; it needs class and part")
    names = (row["class"] if row["class"] in known else row["class"].strip() for row in rows)
    return checked(((name, row["part"].strip()) for name, row in zip(names, rows, strict=True)), str(file), classes)


def _comment(line: str, classes: Container[str]) -> bool:
    return line.startswith("#") and next(csv.reader([line]))[0] not in classes


def checked(rows: Iterable[tuple[str, str]], where: str, classes: Iterable[str]) -> Split:
    """(class, part) pairs, checked and ordered: base, val, test, and within a part as they came.

    Raises:
        DataError: a part that does not exist, a class that is unknown, listed twice, shared by two parts, or left out;
            no base class.
    """
    parts: dict[str, str] = {}
    known = dict.fromkeys(classes)
    for name, part in rows:
        if part not in PARTS:
            raise DataError(f"{where}: class {name!r} has the part {part!r}; parts are {', '.join(PARTS)}")
        if name in parts:
            shared = f"is in two parts, {parts[name]} and {part}" if parts[name] != part else "is listed twice"
            raise DataError(f"{where}: class {name!r} {shared}; a split places every class once")
        if name not in known:
            raise DataError(f"{where}: class {name!r} is not in the data set; correct the name or remove the row")
        parts[name] = part
    for name in known:
        if name not in parts:
            raise DataError(f"{where}: class {name!r} is in no part; add a row for it")
    if "base" not in parts.values():
        raise DataError(f"{where}: no class is in part base; stage 1 needs some")
    return tuple((name, part) for wanted in PARTS for name, part in parts.items() if part == wanted)


def drawn(classes: Sequence[str], shares: tuple[float, float, float], seed: int) -> Split:
    """A split drawn from the seed: `shares` of the classes in base, val and test, rounded to whole classes.

    Every part with a share above 0 gets at least one class.

    Raises:
        DataError: fewer classes than parts with a share.
    """
    wanted = [share > 0 for share in shares]
    if len(classes) < sum(wanted):
        few = "1 class" if len(classes) == 1 else f"{len(classes)} classes"
        raise DataError(f"{few} cannot fill {sum(wanted)} parts; add class folders or set dataset.shares")
    exact = np.array(shares) * len(classes)
    counts = np.maximum(np.floor(exact + 1e-9).astype(int), wanted)
    while counts.sum() < len(classes):
        counts[np.argmax(np.where(wanted, exact - counts, -np.inf))] += 1
    while counts.sum() > len(classes):
        counts[np.argmax(np.where(counts > 1, counts - exact, -np.inf))] -= 1
    order = np.random.default_rng(seed).permutation(len(classes))
    places = np.repeat(np.arange(3), counts)
    parts = {classes[i]: PARTS[place] for i, place in zip(order, places, strict=True)}
    return checked(((name, parts[name]) for name in classes), "drawn split", classes)
