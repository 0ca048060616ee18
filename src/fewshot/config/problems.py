"""What is wrong with a run file, for the person who wrote it: where, what, and the cure."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from fewshot.config.base import NAME, Settings
from fewshot.config.evaluation import POOLINGS

MOST_NAMED = 8
"""Problems of a run file that are told at once."""
MOST_COMPARED = 300
"""Problems of a run file that are looked at, each beside all others."""
PATTERNS = {
    NAME: "is to be of small letters, digits, - and _",
    POOLINGS: "is to be support/query: gap or gmp, a stroke, then gap, gmp or dense; or flatten/flatten",
}

KINDS = ("name", "kind", "method")
"""Keys whose values tell one kind of settings from another."""

Location = tuple[str | int, ...]


def told(error: ValidationError, data: Mapping[str, Any]) -> str:
    """The problems of a mapping in one line: each with the path of its key, as it was written, and the cure.

    Args:
        error: of the settings.
        data: what was checked.
    """
    problems = error.errors()
    found, more = problems[:MOST_COMPARED], len(problems[MOST_COMPARED:])
    lines = []
    for problem in found:
        place: Location = problem["loc"]
        deeper = any(other["loc"][: len(place)] == place and len(other["loc"]) > len(place) for other in found)
        if problem["type"] == "too_short" and deeper:  # its items were refused, and so it seems to be empty
            continue
        where = ".".join(map(str, _written(place, data)))
        lines.append(f"{where}: {_words(problem)}" if where else _words(problem))
    lines = list(dict.fromkeys(lines))  # what all networks share is told once
    more += len(lines[MOST_NAMED:])
    return "; ".join([*lines[:MOST_NAMED], *([f"and {more} more"] if more else [])])


def _written(place: Location, data: Mapping[str, Any]) -> Iterator[str | int]:
    """The path of a key in the file: without the names of kinds, and in `stage1.training` where it stands there alone."""
    if place[:2] == ("stage1", "networks") and place[3:4] == ("training",) and len(place) > 4:
        own = _at(data, place[:4])
        if not (isinstance(own, Mapping) and place[4] in own):
            place = ("stage1", *place[3:])
    value: Any = data
    for number, part in enumerate(place):
        inner = _at(value, (part,))
        is_kind = isinstance(value, Mapping) and (part not in value or part in (value.get(key) for key in KINDS))
        if is_kind and number + 1 < len(place):
            continue  # the kind of a data set, a backbone, ...: not a key of the file
        value = inner
        yield part


def _at(value: Any, place: Location) -> Any:
    for part in place:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _words(problem: Mapping[str, Any]) -> str:
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        key = str(problem["loc"][-1])
        if key in _keys(Settings):
            return "does not belong here; config/README.md says where it does"
        return f"unknown key;{_meant(key)} config/README.md lists the known ones"
    if kind == "missing":
        return "is missing; config/README.md says what it is"
    if kind == "union_tag_invalid":
        return f"there is no {context['tag']!r}; known are {context['expected_tags']}"
    if kind == "string_pattern_mismatch" and context["pattern"] in PATTERNS:
        return f"{_short(value)} {PATTERNS[context['pattern']]}"
    words = str(problem["msg"]).removeprefix("Value error, ").split(", unable to parse")[0].replace("a valid tuple", "a list")
    if words.startswith("Input should") and (value is None or isinstance(value, str | int | float)):
        words += f", not {_short(value)}"
    return words.replace("Input should", "should")


def _short(value: object) -> str:
    """A value in a few characters; Python refuses to write down a number of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length():,} bits"
    return reprlib.repr(value)


def _meant(key: str) -> str:
    """The known key that an unknown one looks like."""
    close = difflib.get_close_matches(key, sorted(_keys(Settings)), 1, cutoff=0.75)
    return f" {close[0]} is meant?" if close else ""


def _keys(kind: type[Settings]) -> set[str]:
    return set(kind.model_fields).union(*map(_keys, kind.__subclasses__()))
