"""The documentation as a site: `make docs`, then docs/_build/index.html."""

import re

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

project = "fewshot"
author = "the fewshot authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
html_math_renderer = "mathml"
html_theme = "furo"
html_title = "fewshot"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False
exclude_patterns = ["_build"]
default_role = "code"
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
myst_heading_anchors = 3
# Links to files of the repository stay as they are: the pages are read there too.
# Names of fields (`tasks`, `classes`) mean many things; only full names are links.
suppress_warnings = ["myst.xref_missing", "ref.python"]
nitpicky = False


_attributes = {}


def _plain(app, what, name, obj, options, lines):
    """Docstrings are plain words with code between backticks: stars and bars in them are no mark-up."""
    escaped = {"*": r"\*", "|": r"\|"}
    for number, line in enumerate(lines):
        parts = line.split("`")
        parts[::2] = ["".join(escaped.get(letter, letter) for letter in part) for part in parts[::2]]
        lines[number] = "`".join(parts)
    if what in ("attribute", "data"):
        _attributes[name] = list(lines)


def _restored(app, what, name, obj, options, lines):
    """The words of an attribute, in which napoleon would take what stands before a colon for a type."""
    lines[:] = _attributes.pop(name, lines)


def _whole(app, name, source):
    """A number and its interval stay on one line."""
    source[0] = source[0].replace(" ± ", "\u00a0±\u00a0")


def _here(app, name, source):
    """Links to the pages of `config/` lead to the pages of the site that include them."""
    for page, there in (("settings", "README"), ("published", "published")):
        source[0] = re.sub(rf"\]\((\.\./)+config/{there}\.md", f"](/{page}.md", source[0])


def _formula(writer, node):
    """A formula as MathML, which browsers draw by themselves: the site fetches nothing."""
    block = node.tagname == "math_block"
    words = tex2mathml(node.astext(), as_block=block)
    writer.body.append(f'<div class="math">{words}</div>' if block else words)
    raise SkipNode


def setup(app):
    """Before and after napoleon, which has the usual priority of 500."""
    app.connect("autodoc-process-docstring", _plain, priority=400)
    app.connect("autodoc-process-docstring", _restored, priority=600)
    app.connect("source-read", _whole)
    app.connect("source-read", _here)
    app.add_html_math_renderer("mathml", (_formula, None), (_formula, None))
