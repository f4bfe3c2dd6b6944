"""Set the strokes of a condition: line, markers, seeds, interval; and keep the numbers that they show."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.lines import Line2D

from fadiag.figures.base.arms import Arm
from fadiag.figures.base.panel import Panel
from fadiag.results import MeanInterval
from fadiag.results.without_value import runs_of

__all__ = ["BANDS", "dots", "explain", "keep", "line", "thinned"]

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
    """Add the numbers of a stroke to the table of the panel, one row for each layer or step.

    `found` is an interval over seeds, or the values by seed.
    """
    base = {"kind": kind, "variable": variable, "condition": condition, **at}
    if isinstance(found, xr.DataArray):
        value, parts = found, {"value": found}
    else:
        value = found.mean
        parts = {"value": value, "low": found.low, "high": found.high, "n": found.n}
    # Plain lists, since an element of a DataArray costs a hundred times more.
    places = {str(d): value[d].values.tolist() for d in value.dims}
    numbers = {name: part.values for name, part in parts.items()}
    for place in np.argwhere(np.isfinite(value.values)):
        i = tuple(place)
        where = {name: held[j] for (name, held), j in zip(places.items(), place, strict=True)}
        row = {name: part[i].item() for name, part in numbers.items()}
        panel.record.rows.append({**base, **where, **row})


def seeds_of(values: xr.DataArray, condition: str) -> str:
    """Return the seeds of a condition's runs in one text."""
    return " ".join(str(seed) for seed in runs_of(values, condition))
