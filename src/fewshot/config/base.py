"""What all settings share: the base class, hashes, names and merging."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Pooling = Literal["gap", "gmp", "dense"]
GlobalPooling = Literal["gap", "gmp"]
Population = Literal["novel", "base", "both"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$", max_length=64)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys refused, numbers checked for being finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON-able values, every default spelled out."""
        return self.model_dump(mode="json")

    def key(self, *without: str) -> str:
        """Ten hexadecimal digits of the settings' hash, the fields named in `without` left out."""
        return content_hash({k: v for k, v in self.as_dict().items() if k not in without})[:10]


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
