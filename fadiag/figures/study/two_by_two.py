"""Draw the rank of the error by weights and by backward matrices: the effects of trajectory and feedback."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from fadiag.errors import InputError, MissingSignalError
from fadiag.figures.base.arms import Arm
from fadiag.figures.base.figure_function import figure_function
from fadiag.figures.base.layers import chosen_layers, primary_layer
from fadiag.figures.base.measure import Measure, interval_within, rank_measure
from fadiag.figures.base.near_names import near
from fadiag.figures.base.panel import Panel, panel
from fadiag.figures.look.theme import label
from fadiag.figures.strokes.bounds import bounds, value_axis
from fadiag.figures.strokes.marks import (
    explain,
    explain_null,
    keep_means,
    keep_seeds,
    line,
    lone_dots,
    null_bar,
)
from fadiag.figures.strokes.plots import without_null
from fadiag.figures.words.sentences import each, when, with_interval
from fadiag.figures.words.shared import placed
from fadiag.results import mean_interval
from fadiag.results.by_condition import of_condition
from fadiag.results.roles import roles
from fadiag.signals import SIGNALS, under_feedback
from fadiag.store.tools.printable import printable

__all__ = ["two_by_two"]

Floats = NDArray[np.float64]

#: The backward matrices, in the order of the x axis, and the share of the axis that the conditions take.
_BACKWARD = ("Wᵀ", "B")
_SPREAD = 0.3


@figure_function
def two_by_two(
    results: xr.DataTree,
    *,
    signal: str = "error",
    metric: str = "effective_rank",
    feedback: str = "fa",
    layer: str | None = None,
    step: int | None = None,
    conditions: str | Sequence[str] | None = None,
    null: str | None = "gate",
    stream: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    r"""Draw the rank of the error under Wᵀ and under B, on the weights that each condition trained.

    A line that falls shows an effect of the backward matrices on the same weights. A gap between lines shows
    an effect of the weights, so of the trajectory. Weights that exact backpropagation trained have their rank
    under B where ``error_<feedback>`` was recorded; other weights have theirs under Wᵀ from ``error_bp``.

    Parameters
    ----------
    results, signal, metric, conditions, stream, ax, legend
        As in `rank_by_depth`.
    feedback : str
        The label of the other backward matrices: of ``Probe(feedbacks={label: ...})``, or ``fa`` for the
        trainer's ``record.error_fa``.
    layer : str, optional
        The layer; by default the one that the study declared, else the one below the output.
    step : int, optional
        The step; by default the last one that all drawn conditions have.
    null : str, optional
        ``gate`` or ``redrawn``, for the condition's own error; or None.

    Returns
    -------
    Axes
        With its numbers, caption and small print, or with the reason why nothing is drawn.

    Raises
    ------
    InputError
        There is no such signal, metric, layer, condition, step, stream or null.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = two_by_two(xr.DataTree(), ax=Figure().add_subplot())
    >>> ax.texts[0].get_text().startswith("Not drawn: ")
    True
    """
    if signal not in SIGNALS or not SIGNALS[signal].twin:
        known = [name for name, row in SIGNALS.items() if row.twin]
        raise InputError(f"no signal {signal!r} has an exact twin{near(signal, known)}")
    measure = rank_measure(signal, metric, results)
    if null is not None and null not in measure.nulls:
        raise InputError(
            f"{measure.name} has no null {null!r}{near(null, measure.nulls)}; null=None draws none"
        )
    other = under_feedback(signal, feedback) + measure.name.removeprefix(signal)
    if feedback != "fa" and not any(other in node.data_vars for node in results.children.values()):
        raise InputError(
            f"the results hold no pass under the feedback {feedback!r}, since {other} is missing"
        )
    with panel(results, ax, conditions=conditions, stream=stream, legend=legend) as here:
        _plot(here, measure, other, layer or primary_layer(results), step=step, null=null)
    return here.ax


def _plot(
    here: Panel, measure: Measure, other: str, layer: str, *, step: int | None, null: str | None
) -> None:
    words = measure.words[:1].upper() + measure.words[1:]
    here.record.what = f"{words}, by the weights (lines) and the backward matrices"
    own = here.values(replace(measure, twin=""))
    layer = chosen_layers([str(v) for v in own["layer"].values], layer)[0]
    here.record.place = printable(layer)
    exact = {*roles(here.results).baselines, *_exact(own, here.companion(measure.twin, own))}
    cells = _cells(here, own, measure.twin, other, exact).sel(layer=layer)
    at_end = here.at(cells.assign_attrs(own.attrs), step)
    if not bool(np.isfinite(at_end).any()):
        raise MissingSignalError(f"no run has a value of the {measure.words} at {layer}")
    drawn = [arm for arm in here.drawn if here.has(at_end, arm.condition)]
    if null is not None:
        _nulls(here, own, measure, null, at_end, exact=exact)
    for place, arm in enumerate(drawn):
        _draw(here, measure, at_end, arm, _places(place, len(drawn)), shift=0.3 * _SPREAD / len(drawn))
    here.ax.set_xticks([0, 1], ["exact, Wᵀ", "feedback, B"])
    here.ax.set_xlim(-0.5, 1.5)
    here.ax.set_xlabel("backward matrices")
    value_axis(here, measure, at_end)
    bounds(here, measure, at_end)
    _say(here, at_end)


def _exact(own: xr.DataArray, twin: xr.DataArray | None) -> Iterator[str]:
    """Yield the conditions whose own error is the exact one, as that of frozen layers is."""
    if twin is None:
        return
    for name in own["condition"].values:
        values, exact = own.sel({"condition": name}), twin.sel({"condition": name})
        if bool(np.isfinite(values).any()) and values.equals(exact):
            yield str(name)


def _cells(here: Panel, own: xr.DataArray, twin: str, other: str, exact: set[str]) -> xr.DataArray:
    """Return the ranks with the dimension ``backward``, NaN where a cell was not recorded."""
    blank = own.where(False)
    recorded = (here.companion(name, own) for name in (twin, other))
    under_w, under_b = (blank if found is None else found for found in recorded)
    names = own["condition"].values
    is_exact = xr.DataArray([name in exact for name in names], {"condition": names}, "condition")
    sides = [own.where(is_exact, under_w), under_b.where(is_exact, own)]
    cells = xr.concat([side.reindex_like(own) for side in sides], "backward", combine_attrs="drop")
    cells = cells.assign_coords(backward=list(_BACKWARD)).rename(own.name)
    for arm in here.drawn:
        for backward in _BACKWARD:
            if not bool(np.isfinite(cells.sel({"backward": backward, "condition": arm.condition})).any()):
                name = other if arm.condition in exact else twin
                here.record.note(f"Not recorded: {printable(name)} of {arm.label}.")
    return cells


def _places(place: int, count: int) -> Floats:
    apart = 0.0 if count < 2 else (place / (count - 1) - 0.5) * _SPREAD
    return np.arange(2, dtype=np.float64) + apart


def _draw(here: Panel, measure: Measure, at_end: xr.DataArray, arm: Arm, x: Floats, *, shift: float) -> None:
    runs = of_condition(at_end, arm.condition).transpose("seed", "backward")
    over = interval_within(runs, measure)
    explain(here, arm)
    known = np.isfinite(over.mean.values)
    here.add(here.ax.plot(x[known], over.mean.values[known], **line(arm))[0])
    here.ax.vlines(x, over.low, over.high, color=arm.look.color)
    for seed in runs["seed"].values if int(over.n.max()) > 1 else ():
        here.ax.plot(x + shift, runs.sel(seed=seed), **lone_dots(arm))
    at: dict[str, Any] = {"condition": arm.condition, "layer": here.record.place, "step": int(at_end["step"])}
    for backward in _BACKWARD:
        cell = runs.sel(backward=backward, drop=True)
        of_cell = replace(measure, name=f"{measure.name}, {backward}")
        keep_means(here, interval_within(cell, measure), cell, of_cell, **at)
        keep_seeds(here, cell, of_cell, **at)


def _nulls(
    here: Panel, own: xr.DataArray, measure: Measure, null: str, at_end: xr.DataArray, *, exact: set[str]
) -> None:
    """Draw the central 95 % of the null of each condition's own error, averaged over seeds."""
    words = f"{measure.nulls[null]}, central 95 %"
    found = [here.companion(f"{measure.null(null)}_{end}", own) for end in ("low", "high")]
    ends = [end for end in found if end is not None]
    if len(ends) < len(found):
        missing = without_null(measure, null)
        here.record.note(f"{missing[:1].upper()}{missing[1:]}")
        return
    at = {"layer": at_end["layer"].item(), "step": int(at_end["step"])}
    drawn = [arm for arm in here.drawn if here.has(at_end, arm.condition)]
    for place, arm in enumerate(drawn):
        if not all(at["step"] in end["step"].values for end in ends):
            continue
        low, high = (float(of_condition(end, arm.condition).sel(at).mean()) for end in ends)
        if not (np.isfinite(low) and np.isfinite(high)):
            continue
        x = _places(place, len(drawn))[int(arm.condition not in exact)]
        width = _SPREAD / max(2, len(drawn))
        (bar,) = here.ax.bar(x, high - low, width, low, **null_bar(arm.look.color))
        bar.sticky_edges.y.clear()
        row = {"kind": "null", "variable": words, "condition": arm.condition, "low": low, "high": high}
        here.record.rows.append({**row, **at})
        explain_null(here, words)


def _say(here: Panel, at_end: xr.DataArray) -> None:
    """Give each cell, the effect of the backward matrices on the same weights, and that of the weights."""
    cells = [
        f"under {backward} {each(at_end.sel(backward=backward), here.arms.names)}" for backward in _BACKWARD
    ]
    here.record.say(f"{placed(here.record.place, when(at_end))}{'; '.join(cells)}")
    first, last = (at_end.sel(backward=backward, drop=True) for backward in (_BACKWARD[0], _BACKWARD[-1]))
    effects = [f"{arm.label} {_difference(of_condition(last - first, arm.condition))}" for arm in here.drawn]
    here.record.say(f"B − Wᵀ on the same weights: {', '.join(effects)}")
    baseline = here.arms.baseline
    for name in here.arms.treated if baseline in at_end["condition"].values else ():
        gap = of_condition(at_end, name) - of_condition(at_end, baseline)
        under = [f"under {b} {_difference(gap.sel(backward=b))}" for b in _BACKWARD]
        here.record.say(f"Weights of {label(name)} − weights of {label(baseline)}: {', '.join(under)}")


def _difference(values: xr.DataArray) -> str:
    return with_interval(mean_interval(values), paired=True)
