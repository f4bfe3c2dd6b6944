"""Draw how far the rank of each condition lies from the baseline's, layer by layer."""

from collections.abc import Sequence
from dataclasses import replace

import xarray as xr
from matplotlib.axes import Axes

from fadiag.figures.base.figure_function import figure_function
from fadiag.figures.base.measure import rank_measure
from fadiag.figures.base.panel import panel
from fadiag.figures.strokes.differences import plot_gap

__all__ = ["rank_gap"]


@figure_function
def rank_gap(
    results: xr.DataTree,
    *,
    signal: str = "error",
    metric: str = "effective_rank",
    conditions: str | Sequence[str] | None = None,
    layers: str | Sequence[str] | None = None,
    step: int | None = None,
    baseline: str | None = None,
    stream: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    """Draw the paired difference of a rank, condition − baseline, in each layer at one step.

    Runs are paired by their seed. The interval is the 95 % t interval of the differences.

    Parameters
    ----------
    results, signal, metric, conditions, layers, step, baseline, stream, ax, legend
        As in `rank_by_depth`. Without a baseline, a single condition is compared with the exact error of the
        same runs.

    Returns
    -------
    Axes
        With its numbers, caption and small print, or with the reason why nothing is drawn.

    Raises
    ------
    InputError
        There is no such signal, metric, condition, layer, step or stream.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = rank_gap(xr.DataTree(), ax=Figure().add_subplot())
    >>> ax.texts[0].get_text().startswith("Not drawn: ")
    True
    """
    measure = replace(rank_measure(signal, metric, results), log=False)
    with panel(results, ax, conditions=conditions, baseline=baseline, stream=stream, legend=legend) as here:
        plot_gap(here, measure, layers=layers, step=step)
    return here.ax
