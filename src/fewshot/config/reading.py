"""From a run's YAML files to its checked settings, and to the schema that editors check them with."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fewshot.config.base import merge
from fewshot.config.problems import told
from fewshot.config.run import RunConfig
from fewshot.errors import ConfigError


def parse(data: Mapping[str, Any], source: str = "config") -> RunConfig:
    """Check a mapping (a parsed YAML file, or Snakemake's `config`) and return the settings.

    Args:
        data: the mapping.
        source: what it was read from, for messages.

    Raises:
        ConfigError: one line a problem, each with the key's path.
    """
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{source}: {told(error, data, RunConfig)}") from None


MOST_CHARACTERS, MOST_VALUES = 100_000, 50_000
"""Of a run file: far beyond any real one."""


def load(path: Path) -> RunConfig:
    """Read a run's YAML file, and the files that it extends.

    Raises:
        ConfigError: a file is missing, is not YAML, extends itself, or holds settings that are refused.
    """
    return parse(read(path), str(path))


def read(*paths: Path, over: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The mapping that some run files make, later over earlier, and `over` over all; each with what it extends under it.

    A file's key `extends` names one file, or a list of files, beside it. They are laid under its own keys with `merge`, later
    over earlier; the key `run` is not handed on, so that two runs never share a folder of results by oversight.

    Raises:
        ConfigError: a file is missing, is not YAML, or extends itself.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        merged = merge(merged, _extended(path, ()))
    return merge(merged, over or {})


def _extended(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """A file's mapping over those of the files that it extends; `above`: the files that led here."""
    own = _mapping(path, above)
    names = own.pop("extends", [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: extends names a file beside it, or a list of them, not {names!r}")
    chain = (*above, path.resolve())
    under: dict[str, Any] = {}
    for name in names:
        base = path.parent / name
        if base.resolve() in chain:
            raise ConfigError(f"{path}: extends {name}, which leads back to itself; take the key out of one of them")
        under = merge(under, _extended(base, chain))
    under.pop("run", None)
    return merge(under, own)


def _mapping(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > MOST_CHARACTERS:
            raise ConfigError(f"{path}: longer than {MOST_CHARACTERS:,} characters, which no run file is")
        data = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
        _count(data, path)
    except _GivenTwice as error:
        raise ConfigError(f"{path}: {error}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}: line {line}: not UTF-8; save the file in this encoding") from None
    except (FileNotFoundError, IsADirectoryError):
        if above:
            raise ConfigError(f"{above[-1]}: extends {path}, which is no file; name one beside it") from None
        raise ConfigError(f"{path}: no such config file; config/runs/ holds the known runs") from None
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
    ) as error:  # a date, a number
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a config file is a mapping of keys to values")
    return data


class _GivenTwice(yaml.YAMLError):
    """A key that stands twice in one mapping, of which PyYAML would take the later value without a word."""


class _Loader(yaml.SafeLoader):
    """PyYAML's, which copies what merge keys (`<<`) name before anyone could count it, merges of merges too.

    A key that is given twice is refused; one that lies over a merged one is not given twice.
    """

    merged = 0

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._within: list[yaml.MappingNode] = []
        self._looked_at: dict[int, yaml.MappingNode] = {}

    def _refuse_twice(self, node: yaml.MappingNode) -> None:
        """Of the keys as they stand in the file: afterwards what is merged stands before them."""
        if id(node) in self._looked_at:
            return
        self._looked_at[id(node)] = node  # kept, so that no other node takes its number
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                told = f"line {line}: the key {reprlib.repr(key.value)} is in line {lines[name]} already"
                raise _GivenTwice(f"{told}; keep one of them")
            lines[name] = line

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        self._refuse_twice(node)
        if any(node is one for one in self._within):
            raise yaml.YAMLError("a mapping merges (<<) itself")
        self._within.append(node)
        for key, value in node.value:
            if key.tag != "tag:yaml.org,2002:merge":
                continue
            for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(part, yaml.MappingNode):
                    self.flatten_mapping(part)
                    self.merged += 1 + len(part.value)
                if self.merged > MOST_VALUES:
                    raise yaml.YAMLError(f"its merge keys copy more than {MOST_VALUES:,} values")
        super().flatten_mapping(node)
        self._within.pop()


def _count(data: object, path: Path) -> None:
    """Refuse what aliases of aliases blow up, before anything walks through it."""
    left, waiting = MOST_VALUES, [data]
    while waiting:
        value = waiting.pop()
        left -= 1
        if left < 0:
            raise ConfigError(f"{path}: more than {MOST_VALUES:,} values, which no run file has; are there aliases of aliases?")
        if isinstance(value, dict):
            waiting.extend((*value, *value.values()))
        elif isinstance(value, list | tuple | set):
            waiting.extend(value)


def schema() -> str:
    """The JSON schema of a run file, as the text of workflow/schemas/config.schema.json."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "fewshot run"}
    return json.dumps({**RunConfig.model_json_schema(), **head}, indent=2, ensure_ascii=False) + "\n"
