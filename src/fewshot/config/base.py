"""What all settings share: the base class, hashes, names and merging."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Pooling = Literal["gap", "gmp", "dense"]
GlobalPooling = Literal["gap", "gmp"]
SupportPooling = Literal["gap", "gmp", "flatten"]
"""To one vector an image."""
QueryPooling = Literal["gap", "gmp", "dense", "flatten"]
Population = Literal["novel", "base", "both", "novel_in_all", "base_in_all", "all"]
NAME = r"^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$"
Name = Annotated[str, Field(pattern=NAME, max_length=64)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Views = Annotated[int, Field(ge=0)] | Literal["ten_crops"]
"""How many random views of an image, as stage 1 augments (0: the image as it is), or its corners and centre, mirrored too."""


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys refused, numbers checked for being finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    incidental: ClassVar[frozenset[str]] = frozenset()
    """Fields that do not decide a result: where archives lie, how often a training reports."""
    added: ClassVar[frozenset[str]] = frozenset()
    """Fields that came after results were kept under the hash of these settings: left out of it while at their default."""

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, data: Any) -> Any:
        """Where a number is asked for, pydantic takes true as 1; YAML reads `yes` and `on` as true."""
        for name, field in cls.model_fields.items():
            value = data.get(name) if isinstance(data, Mapping) else None
            several = value if isinstance(value, list | tuple) else [value]
            if any(isinstance(one, bool) for one in several) and not _names(field.annotation, bool):
                raise ValueError(f"{name} is true or false (YAML reads yes, no, on and off as these), which is no value for it")
        return data

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON-able values, every default spelled out."""
        return self.model_dump(mode="json")

    def identity(self) -> dict[str, Any]:
        """What decides a result: as `as_dict`, without `incidental` fields, and without `added` ones at their default."""
        fields = type(self).model_fields
        return {
            name: _identity(value)
            for name, value in self
            if name not in self.incidental and not (name in self.added and value == fields[name].get_default())
        }

    def key(self) -> str:
        """Ten hexadecimal digits of the hash of the settings' identity."""
        return content_hash(self.identity())[:10]


def _names(annotation: Any, wanted: type) -> bool:
    """Whether a type names another one, however deep."""
    return annotation is wanted or any(_names(one, wanted) or type(one) is wanted for one in get_args(annotation))


def _identity(value: Any) -> Any:
    if isinstance(value, Settings):
        return value.identity()
    if isinstance(value, tuple | list):
        return [_identity(one) for one in value]
    if isinstance(value, dict):
        return {key: _identity(one) for key, one in value.items()}
    return value


def content_hash(value: Any) -> str:
    """SHA-256 (hexadecimal) of a JSON-able value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, key by key, at every depth; lists and scalars are replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
