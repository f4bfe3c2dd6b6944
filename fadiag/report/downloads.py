"""Make the files that a report carries inside: numbers as CSV, figures as PDF, and a BibTeX entry."""

import base64
import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

import fadiag
from fadiag.figures import label
from fadiag.report.differences import Difference
from fadiag.store.tools.printable import printable

__all__ = ["Download", "bibtex", "differences_csv", "download"]

_BIBTEX = """@software{{fadiag,
  title = {{{{fadiag: the geometry of credit signals under Feedback Alignment}}}},
  author = {{{{The fadiag developers}}}},
  version = {{{version}}}
}}
"""


@dataclass(frozen=True)
class Download:
    """One file for a link: its name, its type and its bytes as a data address."""

    name: str
    words: str
    uri: Markup


def download(name: str, words: str, kind: str, content: str | bytes) -> Download:
    """Return a file for a link; control characters of a text are escaped, except the ends of lines.

    Examples
    --------
    >>> print(download("a.csv", "numbers", "text/csv", "x").uri)
    data:text/csv;base64,eA==
    """
    if isinstance(content, str):
        content = "\n".join(printable(line) for line in content.split("\n")).encode()
    return Download(name, words, Markup(f"data:{kind};base64,{base64.b64encode(content).decode()}"))


def bibtex() -> str:
    """Return the BibTeX entry of this version of fadiag."""
    return _BIBTEX.format(version=fadiag.__version__)


def differences_csv(found: Sequence[Difference]) -> str:
    """Return all differences with all their digits, one row for each contrast, variable and layer."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    head = ("baseline_mean", "mean", "difference", "low", "high", "p", "runs", "design", "note")
    rows.writerow(("condition", "baseline", "variable", "layer", *head))
    for row in found:
        cells = [getattr(row, name) for name in head]
        cells = ["" if isinstance(cell, float) and math.isnan(cell) else cell for cell in cells]
        rows.writerow((label(row.treated), label(row.baseline), row.variable, row.layer, *cells))
    return text.getvalue()
