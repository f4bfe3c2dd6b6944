"""Draw how much a signal's leading directions have in common from step to step, or layer to layer."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from fadiag.errors import InputError, MissingSignalError
from fadiag.figures.base.measure import Measure
from fadiag.figures.base.panel import Panel, panel
from fadiag.figures.look.theme import label
from fadiag.figures.strokes.image import image, name_sides
from fadiag.figures.words.definition import definition
from fadiag.figures.words.sentences import number
from fadiag.store.tools.printable import printable

__all__ = ["overlap_matrix"]

_MEASURE = Measure("overlap", "overlap", "overlap of the leading directions", floor=0, roof=1)


def overlap_matrix(overlaps: xr.DataArray, *, ax: Axes | None = None, legend: bool = True) -> Axes:
    """Draw the overlaps of a signal's leading right subspaces between all steps, or between all layers.

    Parameters
    ----------
    overlaps : DataArray
        From `fadiag.analysis.overlap_matrix`, of one run.
    ax : Axes, optional
        Where to draw; by default a new figure of the style's size.
    legend : bool
        Whether to update the figure's legend and small print.

    Returns
    -------
    Axes
        With its numbers, caption and small print, or with the reason why nothing is drawn. It has a color
        bar. The caption gives the level of chance, k / columns.

    Raises
    ------
    InputError
        The array is not from `fadiag.analysis.overlap_matrix`.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from fadiag.analysis import overlap_matrix as measure
    >>> values = np.array([[[3.0, 0], [0, 1]], [[0, 1], [3, 0]], [[1, 0], [0, 3]]])
    >>> fc = xr.Dataset({"error": (("step", "sample", "out"), values)}, attrs={"name": "fc", "order": 0})
    >>> probe = xr.Dataset(coords={"step": [0, 10, 20]}, attrs={"kind": "probe"})
    >>> run = xr.DataTree.from_dict({"/probe": probe, "/probe/fc": fc})
    >>> ax = overlap_matrix(measure(run, layer="fc", k=1), ax=Figure().add_subplot())
    >>> ax.get_xlabel()
    'training step'
    """
    if not isinstance(overlaps, xr.DataArray):
        raise InputError(
            f"overlap_matrix draws an array of overlaps, not a {type(overlaps).__name__}; take that of "
            "fadiag.analysis.overlap_matrix"
        )
    dim = str(overlaps.dims[0]) if overlaps.ndim == 2 else ""
    if dim not in ("step", "layer") or overlaps.dims[1] != f"other_{dim}" or "columns" not in overlaps.coords:
        raise InputError(
            f"an array with dims {overlaps.dims} is no matrix of overlaps; take that of "
            "fadiag.analysis.overlap_matrix"
        )
    with panel(xr.DataTree(), ax, legend=legend) as here:
        _plot(here, overlaps, dim)
    return here.ax


def _plot(here: Panel, overlaps: xr.DataArray, dim: str) -> None:
    attrs = overlaps.attrs
    signal = printable(str(attrs.get("signals", "signal")))
    between = "steps" if dim == "step" else "layers"
    here.record.what = f"Overlap of the leading right directions of {signal} between {between}"
    here.record.place = printable(str(attrs["layer"])) if dim == "step" else f"step {attrs['step']}"
    values = overlaps.values
    if not np.isfinite(values).any():
        raise MissingSignalError(f"no two {between} have an overlap of {signal}")
    image(here, values, _MEASURE, (0.0, 1.0))
    names = [str(v) for v in overlaps[dim].values]
    name_sides(here.ax, names, names)
    words = "training step" if dim == "step" else "layer"
    here.ax.set(xlabel=words, ylabel=words)
    if dim == "layer":
        here.ax.tick_params(axis="x", labelrotation=40)
    for i, j in np.argwhere(np.isfinite(values)):
        at = {dim: overlaps[dim].values[i], "x": overlaps[dim].values[j]}
        run = {"condition": attrs.get("condition", ""), "seed": attrs.get("seed", "")}
        row = {"kind": "overlap", "variable": overlaps.name, "layer": attrs.get("layer", ""), **run}
        here.record.rows.append({**row, "step": attrs.get("step"), **at, "value": float(values[i, j])})
    for sentence in definition(overlaps):
        here.record.note(sentence)
    here.record.note(f"One run, {printable(str(attrs.get('run', '')))}; no interval.")
    if float(np.nanmin(np.diag(values))) < 1 - 1e-6:
        here.record.note("Below 1 on the diagonal: a record with fewer than k directions.")
    _say(here, overlaps, dim)


def _say(here: Panel, overlaps: xr.DataArray, dim: str) -> None:
    """Give the range off the diagonal, the first against the last, and the level of chance."""
    values, names = overlaps.values, [printable(str(v)) for v in overlaps[dim].values]
    who = label(str(overlaps.attrs["condition"])) if "condition" in overlaps.attrs else ""
    seed = f", seed {overlaps.attrs['seed']}" if "seed" in overlaps.attrs else ""
    whose = f"{who}{seed}: " if who else ""
    apart = np.where(np.eye(len(values), dtype=bool), np.nan, values)
    known = np.isfinite(apart)
    chance = (overlaps["k"] / overlaps["columns"]).values[known.any(axis=1)]
    if not known.any():
        here.record.say(f"{whose}no two {dim}s can be compared")
        return
    low, high = float(np.nanmin(apart)), float(np.nanmax(apart))
    ends = ""
    if np.isfinite(apart[0, -1]):
        ends = f", and is {number(float(apart[0, -1]))} between {dim} {names[0]} and {dim} {names[-1]}"
    here.record.say(f"{whose}between different {dim}s it goes from {number(low)} to {number(high)}{ends}")
    level = " to ".join(dict.fromkeys((number(float(chance.min())), number(float(chance.max())))))
    k = " to ".join(dict.fromkeys(str(int(each)) for each in (overlaps["k"].min(), overlaps["k"].max())))
    here.record.say(f"Subspaces of k = {k} directions drawn at random overlap by k / n = {level} on average")
