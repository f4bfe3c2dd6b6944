"""Configure Sphinx."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

from fadiag import __version__

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "fadiag"
author = "The fadiag developers"
version = release = __version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "catalogue",
]
html_theme = "furo"
html_title = f"fadiag {__version__}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_copyright = False
autodoc_typehints = "none"
exclude_patterns = ["_build", "studies/*/page.md"]
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
napoleon_use_ivar = True
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

# Code cells run at each build, and an error in one ends the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
logging.getLogger("traitlets").setLevel(logging.WARNING)
# The kernels draw vector graphics of one size, and log errors only.
KERNEL = """
c.IPKernelApp.log_level = 40
c.InlineBackend.figure_formats = {"svg"}
c.InlineBackend.rc = {
    "figure.figsize": (6.4, 2.6), "figure.constrained_layout.use": True,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 8,
}
"""
os.environ["IPYTHONDIR"] = str(HERE / "_build" / "ipython")
(profile := HERE / "_build" / "ipython" / "profile_default").mkdir(
    parents=True, exist_ok=True
)
(profile / "ipython_kernel_config.py").write_text(KERNEL, encoding="utf-8")

# Links to the pages of Python, torch, ... need the internet, and a failed download is a warning.
if os.environ.get("FADIAG_DOCS_ONLINE"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "xarray": ("https://docs.xarray.dev/en/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
    }


def _plain_formulas(app, what, name, obj, options, lines):  # noqa: PLR0917
    """Escape | and * in docstrings, where formulas such as |x| and a*b are plain text, not markup."""
    lines[:] = [
        line
        if line.lstrip().startswith(">>>")
        else re.sub(r"(?<![`\\])([|*])", r"\\\1", line)
        for line in lines
    ]


def _run_the_study(app):
    """Run the small study of the gallery, if its script or the package has changed since the last run."""
    script, results = (
        HERE / "gallery" / "study.py",
        HERE / "_build" / "study" / "results.zarr",
    )
    newest = max(
        path.stat().st_mtime
        for path in (script, *(HERE.parent / "fadiag").rglob("*.py"))
    )
    if not results.exists() or results.stat().st_mtime < newest:
        subprocess.run([sys.executable, script, results.parent], check=True)


def setup(app):
    """Register the function that escapes formulas, and the study that the pages draw."""
    app.connect("autodoc-process-docstring", _plain_formulas, priority=900)
    app.connect("builder-inited", _run_the_study)
