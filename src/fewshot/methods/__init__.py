"""Methods of the papers: one file each, its citation in the docstring."""
