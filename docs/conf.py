"""Sphinx configuration."""

import re

from fadiag import __version__

project = "fadiag"
author = "The fadiag developers"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
html_theme = "furo"
html_title = f"fadiag {__version__}"
autodoc_typehints = "none"
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]
napoleon_use_ivar = True


def _plain_formulas(app, what, name, obj, options, lines):  # noqa: PLR0917
    """Keep |x| and a*b as they are written: formulas stand in docstrings as plain text, not as markup."""
    lines[:] = [
        line if line.lstrip().startswith(">>>") else re.sub(r"(?<![`\\])([|*])", r"\\\1", line)
        for line in lines
    ]


def setup(app):
    """Attach the hook."""
    app.connect("autodoc-process-docstring", _plain_formulas, priority=900)
