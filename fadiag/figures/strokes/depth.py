"""Draw a variable over the layers of a network, with every seed, the mean, its interval and the null."""

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from fadiag.figures.base.arms import Arm
from fadiag.figures.base.axes import axes_size
from fadiag.figures.base.measure import Measure, interval_within
from fadiag.figures.base.panel import Panel
from fadiag.figures.look.text import shortened, shown, width_of
from fadiag.figures.strokes.marks import (
    explain,
    explain_null,
    keep_means,
    keep_seeds,
    line,
    lone_dots,
    null_bar,
    thinned,
)
from fadiag.results.by_condition import of_condition
from fadiag.store.tools.printable import printable

__all__ = ["layer_axis", "null_over_layers", "over_layers"]

Floats = NDArray[np.float64]

#: With more layers, conditions are not set apart at each layer, and intervals are bands.
_APART = 14
#: The share of the place of a layer that its conditions take together at most, and each of them.
_SPREAD, _OWN = 0.66, 0.16
#: The angle of names of layers that do not fit side by side, in degrees.
_SLANT = 40


def over_layers(
    panel: Panel, at_end: xr.DataArray, measure: Measure, step: int, *, kind: str = "mean"
) -> None:
    """Draw the values of each condition over depth; `at_end` has dims (condition, seed, layer)."""
    layers = [str(layer) for layer in at_end["layer"].values]
    drawn = [arm for arm in panel.drawn if panel.has(at_end, arm.condition)]
    for place, arm in enumerate(drawn):
        runs = of_condition(at_end, arm.condition)
        over, x = interval_within(runs, measure), _places(layers, place, len(drawn))
        explain(panel, arm)
        settings = lone_dots(arm)
        shift = 0.0 if len(layers) > _APART else 0.3 * _width(len(drawn))
        for seed in runs["seed"].values if int(over.n.max()) > 1 else ():
            panel.add(panel.ax.plot(x + shift, runs.sel(seed=seed), **settings)[0])
        strokes = {**line(arm), "markersize": _marker(panel.ax, len(layers), len(drawn))}
        panel.add(panel.ax.plot(x, over.mean, **strokes, markevery=thinned(len(layers)))[0])
        if len(layers) <= _APART:
            panel.ax.vlines(x, over.low, over.high, color=arm.look.color)
        else:
            panel.ax.fill_between(x, over.low, over.high, color=arm.look.color, alpha=0.15, linewidth=0)
        at = {"condition": arm.condition, "step": step}
        keep_means(panel, over, runs, measure, kind=kind, **at)
        keep_seeds(panel, runs, measure, **at)
    layer_axis(panel.ax, layers)


def null_over_layers(
    panel: Panel, low: xr.DataArray, high: xr.DataArray, words: str, at_end: xr.DataArray
) -> None:
    """Draw the central 95 % of the null of every drawn condition at each layer, averaged over seeds.

    `low` and `high` have dims (condition, seed, layer) and are of the step of `at_end`.
    """
    layers = [str(layer) for layer in at_end["layer"].values]
    drawn = [arm for arm in panel.drawn if panel.has(at_end, arm.condition)]
    known = False
    for place, arm in enumerate(drawn):
        below, above = (of_condition(each, arm.condition).mean("seed").values for each in (low, high))
        held = np.isfinite(below) & np.isfinite(above)
        if not held.any():
            continue
        known = True
        x = _places(layers, place, len(drawn))
        _bars(panel.ax, arm, x[held], below[held], above[held], layers=len(layers), conditions=len(drawn))
        panel.record.rows.extend(
            {"kind": "null", "variable": words, "condition": arm.condition, "layer": layers[i]}
            | {"interval": "central 95 %"}
            | {"step": int(low["step"]), "low": float(below[i]), "high": float(above[i])}
            for i in np.flatnonzero(held)
        )
    if known:
        explain_null(panel, words)


def _bars(
    ax: Axes,
    arm: Arm,
    x: Floats,
    low: Floats,
    high: Floats,
    *,
    layers: int,
    conditions: int,
) -> None:
    if layers <= _APART:
        width = _width(conditions)
        for bar in ax.bar(x, high - low, width, low, **null_bar(arm.look.color)):
            bar.sticky_edges.y.clear()  # else the axis would end at a null, and cut the dots there
    else:
        ax.fill_between(x, low, high, **null_bar(arm.look.color))


def _places(layers: list[str], place: int, conditions: int) -> Floats:
    """Return where a condition is drawn at each layer: conditions lie side by side if there is room."""
    apart = 0.0 if len(layers) > _APART else (place - (conditions - 1) / 2) * _width(conditions)
    return np.arange(len(layers), dtype=np.float64) + apart


def _width(conditions: int) -> float:
    """Return the width of the place of a condition at a layer."""
    return min(_OWN, _SPREAD / conditions)


def _marker(ax: Axes, layers: int, conditions: int) -> float:
    """Return a size of markers, in points, that leaves the null behind a marker in sight."""
    place = _width(conditions) * axes_size(ax)[0] * 72 / layers
    own = float(mpl.rcParams["lines.markersize"])
    return own if layers > _APART else min(own, max(0.6 * place, 0.5 * own))


def layer_axis(ax: Axes, layers: list[str]) -> None:
    """Name the layers along the x axis: level if the names fit, else slanted, and only as many as fit."""
    size = mpl.rcParams["font.size"] * 0.85
    width = axes_size(ax)[0]
    names = [shortened(printable(layer), 16) for layer in layers]
    level = max(width_of(name, size) for name in names) * 1.15 < width / len(layers)
    # Slanted lines need more room along the axis than they are high.
    apart = 1.25 * size / 72 / np.sin(np.radians(_SLANT))
    stride = 1 if level else int(np.ceil(len(layers) * apart / width))
    # The last layer is always named; a name just before it would touch it.
    places = [i for i in range(0, len(layers), stride) if len(layers) - 1 - i >= stride] + [len(layers) - 1]
    ax.set_xticks(places, [shown(names[i]) for i in places])
    if not level:
        for text in ax.get_xticklabels():
            text.set(rotation=_SLANT, ha="right", rotation_mode="anchor")
    ax.set_xlim(-0.5, len(layers) - 0.5)
    ax.set_xlabel("layer")
