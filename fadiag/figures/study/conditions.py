"""Draw one number for each condition at the end of training, or its difference to the baseline."""

from collections.abc import Sequence
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from fadiag.errors import MissingSignalError
from fadiag.figures.base.axes import axes_size
from fadiag.figures.base.figure_function import figure_function
from fadiag.figures.base.layers import chosen_layers, primary_layer
from fadiag.figures.base.measure import Measure, interval_within, rank_measure, scalar_measure
from fadiag.figures.base.panel import Panel, panel
from fadiag.figures.look.text import shortened, shown, wrapped
from fadiag.figures.look.theme import label
from fadiag.figures.strokes.differences import differences, require_baseline
from fadiag.figures.strokes.marks import keep_means, keep_seeds
from fadiag.figures.words.sentences import finding
from fadiag.results.by_condition import of_condition
from fadiag.store.tools.printable import printable

__all__ = ["conditions"]

#: The longest name of a row, in letters.
_LETTERS = 28
#: The height of a row, by the size of the type.
_ROW = 1.5


@figure_function
def conditions(
    results: xr.DataTree,
    *,
    metric: str = "test_accuracy",
    signal: str | None = None,
    layer: str | None = None,
    difference: bool = False,
    conditions: str | Sequence[str] | None = None,
    step: int | None = None,
    baseline: str | None = None,
    stream: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    """Draw a row of dots for each condition: every seed, the mean and its interval at one step.

    Parameters
    ----------
    results, conditions, step, baseline, stream, ax
        As in `rank_by_depth`.
    metric : str
        A logged scalar, or with `signal` a rank, as in `rank_by_depth`.
    signal : str, optional
        The signal of the rank.
    layer : str, optional
        The layer of the rank; by default the one that the study declared, else the one below the output.
    difference : bool
        Whether to draw paired differences to the baseline.
    legend : bool
        Whether to update the figure's legend and small print; the rows have names of their own.

    Returns
    -------
    Axes
        With its numbers, caption and small print, or with the reason why nothing is drawn.

    Raises
    ------
    InputError
        There is no such metric, signal, layer, condition, step or stream.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = conditions(xr.DataTree(), metric="effective_rank", signal="error", ax=Figure().add_subplot())
    >>> ax.texts[0].get_text().startswith("Not drawn: ")
    True
    """
    measure = rank_measure(signal, metric, results) if signal else scalar_measure(metric, results)
    with panel(results, ax, conditions=conditions, baseline=baseline, stream=stream, legend=legend) as here:
        _plot(here, measure, layer or primary_layer(results), step, difference)
    return here.ax


def _plot(here: Panel, measure: Measure, layer: str, step: int | None, difference: bool) -> None:
    words = measure.words[:1].upper() + measure.words[1:]
    here.record.what = f"{words}{', paired difference to the baseline' * difference}, by condition"
    values = here.values(measure)
    if "layer" in values.dims:
        values = values.sel(layer=chosen_layers([str(v) for v in values["layer"].values], layer)[0])
        here.record.place = printable(layer)
    at_end = here.at(values, step)
    baseline = require_baseline(here) if difference else here.arms.baseline
    shown_values = differences(at_end, baseline) if difference else at_end
    if not any(here.has(shown_values, arm.condition) for arm in here.drawn):
        raise MissingSignalError(
            f"no run has a value of {measure.name} at one step that all conditions share"
        )
    if difference:
        here.ax.axvline(0, color="#555555", linewidth=0.6, zorder=0.5)
        measure = replace(measure, floor=-np.inf, roof=np.inf)
    if difference:
        here.arms = replace(here.arms, drawn=tuple(a for a in here.drawn if a.condition != baseline))
    here.need(_ROW * len(here.drawn) * mpl.rcParams["font.size"] / 72)
    for place, arm in enumerate(here.drawn):
        runs = of_condition(shown_values, arm.condition).dropna("seed")
        if not runs.size:
            continue
        over = interval_within(runs, measure)
        size, color = mpl.rcParams["lines.markersize"], arm.look.color
        here.ax.hlines(place, over.low, over.high, color=color, alpha=0.55, linewidth=1.6)
        here.add(
            here.ax.plot(over.mean, place, "|", color=color, markersize=2.4 * size, markeredgewidth=1.6)[0]
        )
        # Dots are spread in the order of the seeds, not at random, so that a figure can be reproduced.
        heights = place + np.linspace(-0.18, 0.18, runs.size) * (runs.size > 1)
        here.ax.plot(runs, heights, arm.look.marker, color=color, markersize=0.75 * size)
        at = {"condition": arm.condition, "layer": here.record.place, "step": int(at_end["step"])}
        keep_means(here, over, runs, measure, kind="difference" if difference else "mean", **at)
        keep_seeds(here, runs, measure, **at)
    here.ax.set_yticks(range(len(here.drawn)), [shown(shortened(arm.label, _LETTERS)) for arm in here.drawn])
    here.ax.set_ylim(len(here.drawn) - 0.5, -0.5)
    name = measure.axis + (f"\n{shortened(layer, _LETTERS)}" if here.record.place else "")
    less = f"\ndifference to {shortened(label(baseline), _LETTERS)}" if difference else ""
    room = axes_size(here.ax)[0]
    here.ax.set_xlabel(shown(wrapped(name + less, room, mpl.rcParams["font.size"])))
    compared = baseline if difference else ""
    unit = measure.difference_unit if difference else measure.unit
    here.record.say(
        finding(at_end, here.arms.names, compared, layer=here.record.place, unit=unit, lost=here.lost)
    )
