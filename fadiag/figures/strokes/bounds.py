"""Draw the largest possible rank, and set an axis for ranks."""

import numpy as np
import xarray as xr
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fadiag.figures.base.measure import Measure
from fadiag.figures.base.panel import Panel

__all__ = ["bounds", "value_axis"]


def bounds(panel: Panel, measure: Measure, values: xr.DataArray) -> None:
    """Draw N, and classes − 1 if the results hold it, as lines, where a rank comes near them."""
    if not measure.rank:
        return
    for bound, words in ((measure.roof, "N"), (_classes_less_one(panel.results), "classes − 1")):
        if not np.isfinite(bound) or bound > 1.5 * float(values.max()):
            continue
        panel.add(panel.ax.axhline(bound, color="#555555", linewidth=0.6, linestyle=(0, (4, 3)), zorder=0.5))
        panel.ax.annotate(
            f"{words} = {bound:g}",
            (1, bound),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize="x-small",
            color="#555555",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.3},
        )
        panel.record.rows.append({"kind": "bound", "variable": words, "value": bound})
        if words != "N":
            panel.record.note(
                f"{words} = {bound:g} bounds the credit's rank; gates and norms lift the error's beyond."
            )


def _classes_less_one(results: xr.DataTree) -> float:
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
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
