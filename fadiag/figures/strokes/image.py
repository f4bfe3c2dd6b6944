"""Draw a table of values as colors, with a color bar and as many names along its sides as fit."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from numpy.typing import NDArray

from fadiag.figures.base.axes import axes_size
from fadiag.figures.base.measure import Measure
from fadiag.figures.base.panel import Panel
from fadiag.figures.look.text import put_fonts, shortened, shown, width_of
from fadiag.figures.strokes.bounds import plain_numbers

__all__ = ["color_limits", "image", "name_sides"]

#: Its lightness rises evenly, so it can be read in gray and with any color vision.
_COLORS = "cividis"
#: The longest name beside a row, in letters.
_LETTERS = 16
#: The share of its cell that matplotlib gives to Axes before the layout, and what a color bar and the labels
#: of both axes take of the cell, in inches.
_SHARE_OF_AXES, _BAR = 0.78, 0.9


def color_limits(values: NDArray[np.float64], measure: Measure) -> tuple[float, float]:
    """Return the ends of a color scale: the smallest and the largest value, positive ones for a log scale."""
    held = values[np.isfinite(values) & ((values > 0) | (not measure.log))]
    if not held.size:
        return (1.0, 10.0) if measure.log else (0.0, 1.0)
    low, high = float(held.min()), float(held.max())
    if low < high:
        return low, high
    return (low / 1.1, high * 1.1) if measure.log else (low - 0.05, high + 0.05)


def image(panel: Panel, values: NDArray[np.float64], measure: Measure, limits: tuple[float, float]) -> None:
    """Draw values (rows, columns), the first row on top; cells without a value are hatched."""
    ax, (low, high) = panel.ax, limits
    norm = LogNorm(low, high) if measure.log else Normalize(low, high)
    zeros = measure.log & (values <= 0)
    colors = mpl.colormaps[_COLORS].with_extremes(bad=(1, 1, 1, 0), under="white")
    # A logarithm has no zero, so zeros get a value below the scale.
    cells = np.ma.masked_invalid(np.where(zeros, low / 2, values))
    drawn = ax.imshow(cells, cmap=colors, norm=norm, aspect="auto", interpolation="nearest")
    panel.add(drawn)
    if cells.mask.any():
        ax.patch.set(facecolor="white", edgecolor="#777777", hatch="//////", linewidth=0)
        panel.record.note("Hatched: no value.")
    if zeros.any():
        panel.record.note("White: rank 0, a signal of zeros.")
    figure = ax.figure
    bar = figure.colorbar(drawn, ax=ax, pad=0.02, fraction=0.06)
    bar.set_label(measure.axis)
    if measure.log:
        plain_numbers(bar.ax.yaxis)
    put_fonts([bar.ax.yaxis.label])


def name_sides(ax: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Name the rows and the columns of an image: all of them, or as many as fit."""
    size = mpl.rcParams["font.size"] * 0.85
    left, below = ([shown(shortened(name, _LETTERS)) for name in names] for names in (rows, columns))
    wide, high = axes_size(ax)
    # Before the layout the Axes have no room for names, labels and the color bar yet.
    wide = wide / _SHARE_OF_AXES - max(width_of(name, size) for name in left) - _BAR
    widest = max(width_of(name, size) for name in below) + 0.08
    for set_ticks, names, room in (
        (ax.set_yticks, left, high / (size * 1.3 / 72)),
        (ax.set_xticks, below, wide / widest),
    ):
        places = _spread(len(names), int(room))
        set_ticks(places, [names[i] for i in places], fontsize=size)


def _spread(names: int, most: int) -> list[int]:
    """Return places from the first to the last, equally far apart or nearly so.

    >>> _spread(9, 7), _spread(12, 5), _spread(1, 4)
    ([0, 2, 4, 6, 8], [0, 3, 6, 8, 11], [0])
    """
    most = max(2, min(names, most))
    even = [count for count in range(most, most // 2, -1) if count > 1 and (names - 1) % (count - 1) == 0]
    return sorted({round(place) for place in np.linspace(0, names - 1, even[0] if even else most)})
