"""Set the look of all figures: sizes for a paper, one palette, and names of conditions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl

__all__ = ["COLUMN", "NULL", "PAGE", "color", "label", "style"]

#: Width of a column and of a page of a paper, in inches.
COLUMN, PAGE = 3.4, 7.0

#: The color of nulls, which no condition has.
NULL = "#56b4e9"

# Okabe and Ito's palette (2008), distinct under the common color vision deficiencies.
_COLORS = {
    "bp": "#000000",
    "fa": "#d55e00",
    "fa+bn": "#0072b2",
    "fa+muon": "#009e73",
    "fa+muon+bn": "#cc79a7",
    "frozen": "#b8860b",
}
_OTHERS = ("#e69f00", "#785ef0", "#7f5539", "#4d9221", "#5e5e5e")
_WORDS = {
    "bp": "BP",
    "fa": "FA",
    "dfa": "DFA",
    "bn": "BN",
    "ln": "LN",
    "muon": "Muon",
    "frozen": "frozen hidden layers",
}

_RC: dict[Any, Any] = {
    "figure.dpi": 150,
    "savefig.dpi": 200,
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "text.parse_math": False,  # a name may contain dollar signs
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "fadiag",  # the same results give the same bytes
    "axes.formatter.useoffset": False,
}


@contextmanager
def style() -> Iterator[None]:
    """Use fadiag's settings of matplotlib inside the block, and restore the user's settings afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def color(condition: str, conditions: list[str]) -> str:
    """Return the color of a condition, the same in every figure; other conditions get colors in order."""
    if condition in _COLORS:
        return _COLORS[condition]
    others = [m for m in conditions if m not in _COLORS]
    return _OTHERS[others.index(condition) % len(_OTHERS)]


def label(condition: str) -> str:
    """Return the name of a condition for readers.

    Examples
    --------
    >>> label("fa+muon+bn"), label("frozen"), label("my rule")
    ('FA + Muon + BN', 'frozen hidden layers', 'my rule')
    """
    return " + ".join(_WORDS.get(part, part) for part in condition.split("+"))
