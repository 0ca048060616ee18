"""What is wrong with a run file, for the person who wrote it: where, what, and the cure."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import ValidationError

from fewshot.config.base import NAME, Settings
from fewshot.config.evaluation import POOLINGS

MOST_NAMED = 8
"""Problems of a run file that are told at once."""
MOST_COMPARED = 300
"""Problems of a run file that are looked at, each beside all others."""
MOST_WRITTEN = 2**53
"""Below it a number with a point or a power is exactly one whole number."""
PATTERNS = {
    NAME: "is to be of small letters, digits, - and _",
    POOLINGS: "is to be support/query: gap or gmp, a stroke, then gap, gmp or dense; or flatten/flatten",
}

KINDS = ("name", "kind", "method")
"""Keys whose values tell one kind of settings from another."""

Location = tuple[str | int, ...]


def told(error: ValidationError, data: Mapping[str, Any], whole: type[Settings]) -> str:
    """The problems of a mapping in one line: each with the path of its key, as it was written, and the cure.

    Args:
        error: of the settings.
        data: what was checked.
        whole: the settings that it was checked to be.
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
        lines.append(f"{where}: {_words(problem, whole)}" if where else _words(problem, whole))
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


_SAID = {
    "missing": "is missing; config/README.md says what it is",
    "union_tag_not_found": "its {discriminator} is missing; config/README.md lists what there is",
    "union_tag_invalid": "there is no {tag!r};{meant} known are {expected_tags}",
    "too_short": "has {actual_length} entries, wants {min_length} at least; config/README.md says what it is",
    "too_long": "has {actual_length} entries, wants {max_length} at most; config/README.md says what it is",
}
"""Kind of a problem -> its words, where these follow from pydantic's context alone."""


def _words(problem: Mapping[str, Any], whole: type[Settings]) -> str:
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        *place, last = problem["loc"]
        key, here = str(last), _keys_at(place, whole) - {str(last)}
        if key in _keys(Settings):
            return f"does not belong here;{meant(key, here)} config/README.md says where it does"
        return f"unknown key;{meant(key, here) or meant(key, _keys(Settings))} config/README.md lists the known ones"
    if kind in _SAID:
        tags = re.findall(r"'([^']+)'", context.get("expected_tags", ""))
        return _SAID[kind].format(**context, meant=meant(str(context.get("tag")), tags))
    if kind == "string_pattern_mismatch" and context["pattern"] in PATTERNS:
        return f"{_short(value)} {PATTERNS[context['pattern']]}"
    words = str(problem["msg"]).removeprefix("Value error, ").split(", unable to parse")[0].replace("a valid tuple", "a list")
    if words.startswith("Input should") and (value is None or isinstance(value, str | int | float)):
        words += f", not {_short(value)}{_as_whole(value) if kind == 'int_parsing' else ''}"
    return words.replace("Input should", "should")


def _short(value: object) -> str:
    """A value in a few characters; Python refuses to write down a number of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length():,} bits"
    return reprlib.repr(value)


def _as_whole(value: object) -> str:
    """How to write a whole number that was written as a power of ten, which YAML takes for text; of other values nothing."""
    try:
        number = float(str(value))
    except ValueError:
        return ""
    return f": write {int(number)}" if number.is_integer() and abs(number) < MOST_WRITTEN else ""


def meant(key: str, known: Iterable[str]) -> str:
    """` <name> is meant?` of the known name that another looks like; nothing where none does."""
    close = difflib.get_close_matches(key, sorted(known), 1, cutoff=0.75)
    return f" {close[0]} is meant?" if close else ""


def _keys_at(place: Sequence[str | int], whole: type[Settings]) -> set[str]:
    """The keys that may stand at a place of the settings; names, numbers of items and unknown kinds lead no deeper."""
    found = {whole}
    for part in place:
        kinds = {one for one in found if any(part in get_args(one.model_fields[key].annotation) for key in _kinds(one))}
        inner = [one.model_fields[part] for one in found if isinstance(part, str) and part in one.model_fields]
        found = kinds or {one for field in inner for one in settings_in(field.annotation)} or found
    return set().union(*(one.model_fields for one in found))


def _kinds(settings: type[Settings]) -> list[str]:
    return [key for key in KINDS if key in settings.model_fields]


def settings_in(annotation: Any) -> Iterator[type[Settings]]:
    """The settings that an annotation names, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for inner in get_args(annotation):
        yield from settings_in(inner)


def _keys(kind: type[Settings]) -> set[str]:
    return set(kind.model_fields).union(*map(_keys, kind.__subclasses__()))
