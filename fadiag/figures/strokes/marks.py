"""Set the strokes of a condition: line, markers, seeds, interval; and keep the numbers that they show."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D

from fadiag.figures.base.arms import Arm
from fadiag.figures.base.panel import Panel
from fadiag.figures.base.record import COLUMNS
from fadiag.results import MeanInterval
from fadiag.results.without_value import runs_of

__all__ = ["BANDS", "dots", "explain", "keep", "line", "lone_dots", "thinned"]

#: With more conditions than this, bands would hide each other.
BANDS = 3
#: At most about so many markers on a line; records beyond that are points of the line.
_MARKERS = 16


def line(arm: Arm) -> dict[str, Any]:
    """Return the settings of the line through a condition's means."""
    return {"color": arm.look.color, "linestyle": arm.look.dash, "marker": arm.look.marker}


def dots(arm: Arm) -> dict[str, Any]:
    """Return the settings of the thin line through one seed's records."""
    return {"color": arm.look.color, "linewidth": 0.5, "alpha": 0.45, "marker": ".", "markersize": 2}


def lone_dots(arm: Arm) -> dict[str, Any]:
    """Return the settings of one seed's dots where no line joins them, such as over layers."""
    return {**dots(arm), "linestyle": "none", "alpha": 0.8, "markersize": 3}


def thinned(count: int) -> int:
    """Return of how many records one gets a marker.

    >>> thinned(10), thinned(160)
    (1, 10)
    """
    return max(1, count // _MARKERS)


def explain(panel: Panel, arm: Arm) -> None:
    """Add a condition to the legend."""
    panel.record.entries.setdefault(arm.label, Line2D([], [], **line(arm)))


def keep(
    panel: Panel, kind: str, found: MeanInterval | xr.DataArray, condition: str, variable: str, **at: Any
) -> None:
    """Add the numbers of a stroke to the table of the panel, one row for each layer, step or place ``x``.

    `found` is an interval over seeds, or the values by seed.
    """

    def column(dim: object) -> str:
        return str(dim) if dim in COLUMNS else "x"

    base = {"kind": kind, "variable": variable, "condition": condition, **at}
    if isinstance(found, xr.DataArray):
        for place in np.argwhere(np.isfinite(found.values)):
            where = {column(d): found[d].values[i] for d, i in zip(found.dims, place, strict=True)}
            panel.record.rows.append({**base, **where, "value": float(found.values[tuple(place)])})
        return
    for place in np.argwhere(np.isfinite(found.mean.values)):
        i = tuple(place)
        where = {column(d): found.mean[d].values[j] for d, j in zip(found.mean.dims, place, strict=True)}
        ends = {name: float(getattr(found, name).values[i]) for name in ("low", "high")}
        count = int(found.n.values[i])
        panel.record.rows.append({**base, **where, "value": float(found.mean.values[i]), **ends, "n": count})


def seeds_of(values: xr.DataArray, condition: str) -> str:
    """Return the seeds of a condition's runs in one text."""
    return " ".join(str(seed) for seed in runs_of(values, condition))
