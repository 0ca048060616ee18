"""HTML pages from the templates beside this module: one file each, which fetches nothing and works from a disk.

Every value is escaped unless a template says otherwise.
"""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )

    def asset(name: str) -> Markup:
        """A style sheet or script of the templates' folder, which goes into the page as it is."""
        return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - our own file

    environment.globals.update(asset=asset, zip=zip)
    return environment


def render(template: str, **values: Any) -> str:
    """A template's page with these values; a value that is missing is an error."""
    return _environment().get_template(template).render(**values)


def data_uri(content: bytes, kind: str) -> str:
    """Content as an address within the page; `kind`: its media type, such as image/png."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
