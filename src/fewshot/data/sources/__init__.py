"""The data sets: one file each, and the registry from settings to source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fewshot.config import (
    CifarFsSettings,
    CubSettings,
    Fc100Settings,
    FolderSettings,
    GlyphsSettings,
    MiniImageNetSettings,
    OmniglotSettings,
)
from fewshot.data.sources import cifar100, cub, folder, glyphs, miniimagenet, omniglot
from fewshot.data.sources.base import Item, Source

__all__ = ["SOURCES", "Item", "Source", "open_source"]

SOURCES: dict[type[Any], Callable[[Any], Source]] = {
    GlyphsSettings: glyphs.source,
    Fc100Settings: cifar100.source,
    CifarFsSettings: cifar100.source,
    MiniImageNetSettings: miniimagenet.source,
    CubSettings: cub.source,
    OmniglotSettings: omniglot.source,
    FolderSettings: folder.source,
}


def open_source(settings: Any) -> Source:
    """The source of a data set's settings; archives are found and checked here.

    Raises:
        DataError: an archive is missing or not what it should be.
    """
    return SOURCES[type(settings)](settings)
