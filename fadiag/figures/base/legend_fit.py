"""Fit the names of a legend into a width: columns of names, long names in several lines, then shortened."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np

from fadiag.figures.look.canvas import points
from fadiag.figures.look.text import shortened, width_of, wrapped

__all__ = ["Fit", "fit", "last_resort"]

#: Names keep so many letters at least.
_FEWEST = 10
#: The height of a line, by the size of its type.
_LINE = 1.2


@dataclass(frozen=True)
class Fit:
    """Names as a legend shows them, the number of columns, and the size of the legend in inches."""

    labels: tuple[str, ...]
    columns: int
    width: float
    height: float


def fit(labels: Sequence[str], wide: float, high: float, *, shorten: bool = True) -> Fit | None:
    r"""Return the lowest legend that fits a width and a height; None if there is none.

    Matplotlib divides entries among columns as ``numpy.array_split`` does.

    Examples
    --------
    >>> fit(["bp", "fa"], 5.0, 1.0).columns, fit(["bp", "fa"], 0.8, 1.0).columns
    (2, 1)
    >>> fit(["feedback alignment"], 1.3, 1.0).labels
    ('feedback\nalignment',)
    """
    for short in _shorter(labels) if shorten else (tuple(labels),):
        found = [
            one for columns in range(len(short), 0, -1) if (one := _in_columns(short, columns, wide, high))
        ]
        best = min(found, key=lambda one: (round(one.height, 6), one.columns), default=None)
        if best is not None and best.height <= high:
            return best
    return None


def _shorter(labels: Sequence[str]) -> Iterator[tuple[str, ...]]:
    longest = max(map(len, labels))
    for letters in (*range(longest, _FEWEST, -max(1, longest // 30)), _FEWEST):
        yield tuple(shortened(text, letters) for text in labels)


def last_resort(labels: Sequence[str], wide: float) -> Fit:
    """Return the lowest legend of short names, for a figure that has room for none."""
    *_, short = _shorter(labels)
    return fit(short, wide, np.inf, shorten=False) or Fit(short, 1, wide, np.inf)


def _in_columns(labels: tuple[str, ...], columns: int, wide: float, high: float) -> Fit | None:
    """Return a legend with so many columns; None if it is too high, or a name would have to be cut."""
    size = points(mpl.rcParams["legend.fontsize"])
    handle = (mpl.rcParams["legend.handlelength"] + mpl.rcParams["legend.handletextpad"]) * size / 72
    edge = 2 * mpl.rcParams["legend.borderpad"] * size / 72
    room = wide - edge - (columns - 1) * mpl.rcParams["legend.columnspacing"] * size / 72 - columns * handle
    groups = [list(group) for group in np.array_split(np.array(labels, object), columns)]
    widths = [max(width_of(text, size) for text in group) for group in groups]
    if sum(widths) > room:
        most = _shared(widths, room)
        if most < 4 * size / 72:
            return None
        lines = [sum(np.ceil(width_of(text, size) / most) for text in group) for group in groups]
        if max(lines) * _LINE * size / 72 > high:
            return None
        groups = [[_lines(text, most, size) for text in group] for group in groups]
        widths = [
            max(width_of(line, size) for text in group for line in text.split("\n")) for group in groups
        ]
        whole = ["".join(text.split()) for text in labels] == ["".join(t.split()) for g in groups for t in g]
        if sum(widths) > room or not whole:
            return None
    apart = mpl.rcParams["legend.labelspacing"]
    tallest = max(sum(_LINE * (1 + t.count("\n")) + apart for t in group) - apart for group in groups)
    width = wide - room + sum(widths)
    return Fit(tuple(t for group in groups for t in group), columns, width, tallest * size / 72 + edge)


def _lines(label: str, most: float, size: float) -> str:
    return label if width_of(label, size) <= most else wrapped(label, most, size)


def _shared(widths: list[float], room: float) -> float:
    """Return the greatest width of a column with which all columns fit into a room."""
    left, rest = room, sorted(widths)
    for place, width in enumerate(rest):
        share = left / (len(rest) - place)
        if width > share:
            return share
        left -= width
    return rest[-1]
