"""Set the strokes of a condition: line, markers, seeds, interval; and keep the numbers that they show."""

from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from fadiag.figures.base.arms import Arm
from fadiag.figures.base.measure import Measure
from fadiag.figures.base.panel import Panel
from fadiag.figures.base.record import COLUMNS
from fadiag.figures.look.palette import NULL_COLOR
from fadiag.results import MeanInterval

__all__ = [
    "BANDS",
    "dots",
    "explain",
    "explain_null",
    "keep_means",
    "keep_seeds",
    "line",
    "lone_dots",
    "null_bar",
    "thinned",
]

#: With more conditions than this, bands would hide each other.
BANDS = 3
#: Nulls are hatched, in drawings and in the legend.
_HATCH = "//////"
#: At most about so many markers on a line; records beyond that are points of the line.
_MARKERS = 16


def line(arm: Arm) -> dict[str, Any]:
    """Return the settings of the line through a condition's means."""
    return {"color": arm.look.color, "linestyle": arm.look.dash, "marker": arm.look.marker}


def dots(arm: Arm) -> dict[str, Any]:
    """Return the settings of the thin line through one seed's records."""
    size = mpl.rcParams["lines.markersize"]
    thin = {"linewidth": 0.4 * mpl.rcParams["lines.linewidth"], "alpha": 0.45}
    return {"color": arm.look.color, **thin, "marker": ".", "markersize": 0.75 * size}


def lone_dots(arm: Arm) -> dict[str, Any]:
    """Return the settings of one seed's dots where no line joins them, such as over layers."""
    return {**dots(arm), "linestyle": "none", "alpha": 0.8}


def null_bar(color: str) -> dict[str, Any]:
    """Return the settings of a bar or a band that shows a null: hatched, since intervals are plain."""
    face, edge = (to_rgba(color, alpha) for alpha in (0.12, 0.75))
    thin = 0.4 * mpl.rcParams["lines.linewidth"]
    return {"facecolor": face, "edgecolor": edge, "hatch": _HATCH, "linewidth": thin, "zorder": 1}


def thinned(count: int) -> int:
    """Return of how many records one gets a marker.

    >>> thinned(10), thinned(160)
    (1, 10)
    """
    return max(1, count // _MARKERS)


def explain(panel: Panel, arm: Arm) -> None:
    """Add a condition to the legend."""
    panel.record.entries.setdefault(arm.label, Line2D([], [], **line(arm)))


def explain_null(panel: Panel, words: str) -> None:
    """Add the nulls of all conditions to the legend, in gray, and to the small print."""
    panel.record.entries.setdefault(words, Patch(**null_bar(NULL_COLOR)))
    panel.record.note(f"Hatched in the color of a condition: its {words}, averaged over seeds.")


def keep_means(
    panel: Panel, over: MeanInterval, runs: xr.DataArray, measure: Measure, *, kind: str = "mean", **at: Any
) -> None:
    """Add means over seeds to the table of the panel, one row for each layer, step or place ``x``.

    `runs` are the values of one condition by seed, and `at` says which condition, layer and step.
    """
    bounds = [f"{end:g}" for end in (measure.floor, measure.roof) if np.isfinite(end)]
    words = "95 % t" + (f", within {' to '.join(bounds)}" if len(bounds) == 2 else "")
    words += f", at least {bounds[0]}" if len(bounds) == 1 else ""
    known = np.isfinite(runs.transpose(*over.mean.dims, "seed").values)
    seeds, labels = runs["seed"].values, _labels(over.mean)
    numbers = {name: getattr(over, part).values for name, part in _PARTS}
    for place in np.argwhere(np.isfinite(over.mean.values)):
        i = tuple(place)
        row = {"kind": kind, "variable": measure.name, **at, **_where(labels, place)}
        row |= {name: float(part[i]) for name, part in numbers.items()}
        row |= {"n": int(over.n.values[i]), "seeds": " ".join(str(seed) for seed in seeds[known[i]])}
        panel.record.rows.append({**row, "interval": words} if row["n"] > 1 else row)


_PARTS = (("value", "mean"), ("low", "low"), ("high", "high"))


def keep_seeds(panel: Panel, runs: xr.DataArray, measure: Measure, **at: Any) -> None:
    """Add the values of seeds to the table of the panel, one row for each; see `keep_means`."""
    base = {"kind": "seed", "variable": measure.name, **at}
    labels, values = _labels(runs), runs.values
    for place in np.argwhere(np.isfinite(values)):
        row = {**base, **_where(labels, place), "value": float(values[tuple(place)])}
        panel.record.rows.append(row)


def _labels(array: xr.DataArray) -> dict[str, list[Any]]:
    """Return the labels of each dimension as plain lists; an element of a DataArray costs far more."""
    return {str(dim): array[dim].values.tolist() for dim in array.dims}


def _where(labels: dict[str, list[Any]], place: NDArray[np.intp]) -> dict[str, Any]:
    return {
        dim if dim in COLUMNS else "x": held[i] for (dim, held), i in zip(labels.items(), place, strict=True)
    }
