"""Configure Sphinx."""

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
napoleon_use_ivar = True


def _plain_formulas(app, what, name, obj, options, lines):  # noqa: PLR0917
    """Escape | and * in docstrings, where formulas such as |x| and a*b are plain text, not markup."""
    lines[:] = [
        line if line.lstrip().startswith(">>>") else re.sub(r"(?<![`\\])([|*])", r"\\\1", line)
        for line in lines
    ]


def setup(app):
    """Register the function that escapes formulas."""
    app.connect("autodoc-process-docstring", _plain_formulas, priority=900)
