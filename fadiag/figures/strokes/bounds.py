"""Draw the largest possible rank, and set an axis for ranks."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from fadiag.figures.base.measure import Measure
from fadiag.figures.base.panel import Panel

__all__ = ["bound_line", "bounds", "classes_less_one", "plain_numbers", "value_axis"]

#: An axis names so many numbers at least.
_FEWEST_TICKS = 3


def bounds(panel: Panel, measure: Measure, values: xr.DataArray) -> None:
    """Draw N, and classes − 1 if the results hold it, as lines, where a rank comes near them."""
    if not measure.rank:
        return
    for bound, words in ((measure.roof, "N"), (classes_less_one(panel.results), "classes − 1")):
        near = np.isfinite(bound) and float(values.min()) < 2 * bound and bound < 1.5 * float(values.max())
        if not near:  # the line would stretch the axis
            continue
        panel.add(panel.ax.axhline(bound, **bound_line(words)))
        panel.record.entries.setdefault(f"{words} = {bound:g}", Line2D([], [], **bound_line(words)))
        panel.record.rows.append({"kind": "bound", "variable": words, "value": bound})
        if words != "N":
            panel.record.note(
                f"{words} = {bound:g} bounds the credit's rank; gates and norms lift the error's beyond."
            )


def bound_line(words: str) -> dict[str, Any]:
    """Return the settings of the line of a bound, which the legend names."""
    dash = (0, (1, 2)) if words == "N" else (0, (4, 3))
    return {"color": "#555555", "linewidth": 0.6, "linestyle": dash, "zorder": 0.5, "marker": ""}


def classes_less_one(results: xr.DataTree) -> float:
    """Return the dimension of compared subspaces, if it is classes − 1; else infinity."""
    if str(results.attrs.get("k")) != "classes - 1":
        return np.inf
    found = {
        int(array.attrs["k"])
        for node in results.children.values()
        for array in node.data_vars.values()
        if isinstance(array.attrs.get("k"), int | np.integer)
    }
    return float(found.pop()) if len(found) == 1 else np.inf


def value_axis(panel: Panel, measure: Measure, values: xr.DataArray) -> None:
    """Name the y axis, and make it logarithmic for ranks and losses, with plain numbers."""
    ax = panel.ax
    ax.set_ylabel(measure.axis)
    if measure.log and bool((values > 0).any()):
        if bool((values == 0).any()):
            panel.record.note("Values of 0, of a dead signal, are below the logarithmic axis.")
        ax.set_yscale("log")
        plain_numbers(ax.yaxis)
        if float(values.max()) == float(values.min()):  # else a single value has an axis of two decades
            ax.set_ylim(float(values.max()) / 2, float(values.max()) * 2)


def plain_numbers(axis: Axis) -> None:
    """Name 1, 2, 5, 10 and so on along a logarithmic axis, and other plain numbers along a short one."""
    axis.set_major_locator(_PlainNumbers())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


class _PlainNumbers(LogLocator):
    """Ticks at 1, 2 and 5 times powers of ten; evenly spaced ones if there are fewer than three of these."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Return the places of ticks."""
        low, high = sorted((vmin, vmax))

        def inside(ticks: Any) -> int:
            return int(((ticks >= low) & (ticks <= high)).sum())

        room = self.axis.get_tick_space() if self.axis is not None else np.inf
        if not 0 < low < np.inf:
            return np.array([])
        tens = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        found = np.outer(tens, (1.0, 2.0, 5.0)).ravel()
        held = tens[(tens >= low) & (tens <= high)]
        if inside(found) > room and held.size > 1:
            return held[:: max(1, int(np.ceil((held.size - 1) / max(1, room - 1))))]
        for most in (3, 4, 5, 6, 8, 10):
            if inside(found) >= _FEWEST_TICKS:
                break
            found = np.asarray(MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high))
        return found[found > 0]
