"""The documentation as a site: `make docs`, then docs/_build/index.html."""

project = "fewshot"
author = "the fewshot authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "fewshot"
exclude_patterns = ["_build"]
default_role = "code"
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
myst_heading_anchors = 3
# Links to files of the repository stay as they are: the pages are read there too.
suppress_warnings = ["myst.xref_missing"]
nitpicky = False


_attributes = {}


def _plain(app, what, name, obj, options, lines):
    """Docstrings are plain words with code between backticks: stars and bars in them are no mark-up."""
    escaped = {"*": r"\*", "|": r"\|"}
    for number, line in enumerate(lines):
        parts = line.split("`")
        parts[::2] = ["".join(escaped.get(letter, letter) for letter in part) for part in parts[::2]]
        lines[number] = "`".join(parts)
    if what == "attribute":
        _attributes[name] = list(lines)


def _restored(app, what, name, obj, options, lines):
    """The words of an attribute, in which napoleon would take what stands before a colon for a type."""
    lines[:] = _attributes.pop(name, lines)


def setup(app):
    """Before and after napoleon, which has the usual priority of 500."""
    app.connect("autodoc-process-docstring", _plain, priority=400)
    app.connect("autodoc-process-docstring", _restored, priority=600)
