"""The data sets, one file each: a module with `source(settings)`, which its settings name (`module`).

Nothing here names any, so a new data set leaves the stores of the others what they are.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fewshot.data.sources.base import Item, Source

__all__ = ["Item", "Source", "open_source", "require"]


def open_source(settings: Any) -> Source:
    """The source of a data set's settings; archives are found and checked here.

    Raises:
        DataError: an archive is missing or not what it should be.
    """
    source: Source = import_module(settings.module).source(settings)
    return source


def require(settings: Any) -> None:
    """Refuse a data set whose archives, or folders of images, are not all there. Where they are, none is read.

    Raises:
        DataError: one is missing; what it holds and where to put it.
    """
    if not all(path.exists() for path in settings.paths):
        open_source(settings)  # says which, in the words of the data set
