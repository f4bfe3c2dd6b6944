"""Draw the final accuracy of every run against a rank."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from fadiag.errors import InputError, MissingSignalError
from fadiag.figures.base.figure_function import figure_function
from fadiag.figures.base.layers import chosen_layers, primary_layer
from fadiag.figures.base.measure import Measure, rank_measure, scalar_measure
from fadiag.figures.base.near_names import near
from fadiag.figures.base.panel import Panel, panel
from fadiag.figures.base.values import values_of
from fadiag.figures.look.text import shortened, shown
from fadiag.figures.look.theme import label
from fadiag.figures.strokes.bounds import bound_line, plain_numbers
from fadiag.figures.words.sentences import each as of_each
from fadiag.figures.words.sentences import number, when
from fadiag.figures.words.shared import placed
from fadiag.results import final_values
from fadiag.results.by_condition import of_condition
from fadiag.results.roles import roles
from fadiag.store.tools.printable import printable

__all__ = ["accuracy_against_rank"]

#: A correlation of fewer points says nothing.
_FEWEST = 4


@figure_function
def accuracy_against_rank(
    results: xr.DataTree,
    *,
    signal: str = "error",
    metric: str = "effective_rank",
    accuracy: str = "test_accuracy",
    layer: str | None = None,
    step: int | None = None,
    conditions: str | Sequence[str] | None = None,
    mark: str | None = None,
    stream: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    """Draw a point for each run: its rank at one layer, and its accuracy at the end of training.

    The rank is that of the end too, or that of a `step`, such as 0 to see whether the rank of untrained
    networks foretells the accuracy. The axes name the steps wherever they differ.

    The caption gives Spearman's correlation over the runs, without a p-value: runs of one condition are
    alike, and conditions are chosen, not drawn from a population.

    Parameters
    ----------
    results, signal, metric, conditions, stream, ax, legend
        As in `rank_by_depth`.
    accuracy : str
        The logged scalar.
    layer : str, optional
        The layer; by default the one that the study declared, else the one below the output.
    step : int, optional
        The step of the rank, and only of the rank; by default the last one that all drawn conditions have.
    mark : str, optional
        A condition whose mean rank is drawn as a line, such as that of FA.

    Returns
    -------
    Axes
        With its numbers, caption and small print, or with the reason why nothing is drawn.

    Raises
    ------
    InputError
        There is no such signal, metric, scalar, layer, condition, step or stream.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = accuracy_against_rank(xr.DataTree(), ax=Figure().add_subplot())
    >>> ax.texts[0].get_text().startswith("Not drawn: ")
    True
    """
    rank, scalar = rank_measure(signal, metric, results), scalar_measure(accuracy, results)
    known = roles(results).conditions
    if mark is not None and mark not in known:
        raise InputError(f"mark={mark!r} is no condition of the results{near(mark, known)}")
    with panel(results, ax, conditions=conditions, stream=stream, legend=legend) as here:
        _plot(here, replace(rank, twin=""), scalar, layer or primary_layer(results), step)
        if mark is not None:
            _mark(here, rank, mark, layer or primary_layer(results), step)
    return here.ax


def _plot(here: Panel, rank: Measure, scalar: Measure, layer: str, step: int | None) -> None:
    here.record.what = f"{scalar.words[:1].upper()}{scalar.words[1:]} against the {rank.words}"
    ranks = here.values(rank, "seeds")
    layer = chosen_layers([str(v) for v in ranks["layer"].values], layer)[0]
    here.record.place = printable(layer)
    x = here.at(ranks.sel(layer=layer), step)
    y = final_values(values_of(here.results, scalar, here.arms.names, None))
    x, y = xr.align(x, y, join="inner", copy=False)
    both = x.notnull() & y.notnull()
    if not bool(both.any()):
        raise MissingSignalError(f"no run has both {rank.name} at {layer} and {scalar.name}")
    for arm in here.drawn:
        here_too = of_condition(both, arm.condition)
        across, up = (of_condition(each, arm.condition).where(here_too).dropna("seed") for each in (x, y))
        if not across.size:
            here.record.note(f"No run with both values: {arm.label}.")
            continue
        color, marker = arm.look.color, arm.look.marker
        here.add(here.ax.plot(across, up, color=color, marker=marker, linestyle="none")[0])
        entry = Line2D([], [], color=color, marker=marker, linestyle="none")
        here.record.entries.setdefault(arm.label, entry)
        base = {"kind": "seed", "variable": scalar.name, "condition": arm.condition, "layer": layer}
        for seed, at, value in zip(across["seed"].values, across.values, up.values, strict=True):
            row = {**base, "step": int(y["step"]), "seed": seed, "x": float(at), "value": float(value)}
            here.record.rows.append(row)
    _name_axes(here, rank, scalar, int(x["step"]), int(y["step"]))
    if float(x.where(both).min()) > 0:
        here.ax.set_xscale("log")
        plain_numbers(here.ax.xaxis)
    x, y = (each.where(both).assign_attrs(each.attrs) for each in (x, y))
    _say(here, x, y, scalar)


def _name_axes(here: Panel, rank: Measure, scalar: Measure, step: int, end: int) -> None:
    """Name the axes, with the step of each if they are not of the same one."""
    where = shown(shortened(here.record.place, 24))
    if step == end or -1 in (step, end):  # without a shared step, values are of each run's own end
        here.ax.set(ylabel=scalar.axis, xlabel=f"{rank.axis}\n{where}")
        return
    here.ax.set(ylabel=f"{scalar.axis}\nat step {end}", xlabel=f"{rank.axis}\n{where}, step {step}")
    of = f"{scalar.words[:1].upper()}{scalar.words[1:]} at step {end}"
    here.record.what = f"{of} against the {rank.words}, of step {step},"
    here.record.note(f"The rank is that of step {step}, the {scalar.words} that of step {end}.")


def _mark(here: Panel, rank: Measure, condition: str, layer: str, step: int | None) -> None:
    """Draw the mean rank of a condition, which may itself be left out of the drawing, as a line."""
    if here.record.missing:
        return
    values = values_of(here.results, rank, [condition], here.stream).sel(layer=layer)
    mean = float(here.at(values, step).mean())
    if not np.isfinite(mean):
        here.record.note(f"{label(condition)} has no rank to mark.")
        return
    here.add(here.ax.axvline(mean, **bound_line("mark")))
    here.record.entries.setdefault(
        f"{label(condition)}: {number(mean)}", Line2D([], [], **bound_line("mark"))
    )
    here.record.rows.append({"kind": "mark", "variable": rank.name, "condition": condition, "x": mean})
    here.record.say(f"The line marks the mean rank of {label(condition)}, {number(mean)}")


def _say(here: Panel, x: xr.DataArray, y: xr.DataArray, scalar: Measure) -> None:
    """Give the means of each condition, and the correlation over runs."""
    names = here.arms.names
    runs = int(x.notnull().sum())
    means = [each.mean("seed").values for each in (x, y)]
    conditions = int(np.isfinite(means[0]).sum())
    late = f" at step {int(y['step'])}" * (int(x["step"]) != int(y["step"]) >= 0)
    many = f"{runs} run{'s' * (runs != 1)} of {conditions} condition{'s' * (conditions != 1)}"
    found = _spearman(x.values.ravel(), y.values.ravel())
    words = f"Spearman's ρ{f' with the {scalar.words}{late}' if late else ''} = {number(found)} over {many}"
    if not np.isfinite(found):
        why = f"fewer than {_FEWEST} runs" if runs < _FEWEST else "one of the two does not vary"
        words = f"no correlation over {many} ({why})"
    between = _spearman(*means)
    if np.isfinite(found) and np.isfinite(between) and conditions < runs:
        words += f", and {number(between)} between the means of the conditions"
    here.record.say(f"{placed(here.record.place, when(x))}{words}")
    # Panels of the same runs share this sentence.
    here.record.say(f"{scalar.words[:1].upper()}{scalar.words[1:]} {of_each(y, names, scalar.unit)}")
    if np.isfinite(found) and conditions > 1:
        here.record.say_once(
            "No p-value: runs of one condition are alike, and the conditions were chosen, not drawn."
        )


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation, ties at their mean rank; NaN if it is undefined."""
    import pandas as pd

    known = np.isfinite(x) & np.isfinite(y)
    ranks = [pd.Series(each[known]).rank().to_numpy() for each in (x, y)]
    if known.sum() < _FEWEST or any(np.ptp(each) == 0 for each in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])
