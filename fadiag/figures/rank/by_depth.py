"""Draw the rank of a signal over the layers of a network."""

from collections.abc import Sequence

import xarray as xr
from matplotlib.axes import Axes

from fadiag.figures.base.figure_function import figure_function
from fadiag.figures.base.measure import rank_measure
from fadiag.figures.base.panel import panel
from fadiag.figures.strokes.plots import plot_by_depth

__all__ = ["rank_by_depth"]


@figure_function
def rank_by_depth(
    results: xr.DataTree,
    *,
    signal: str = "error",
    metric: str = "effective_rank",
    conditions: str | Sequence[str] | None = None,
    layers: str | Sequence[str] | None = None,
    step: int | None = None,
    baseline: str | None = None,
    null: str | None = "gate",
    stream: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    """Draw the rank of a signal in each layer at one step, for every condition.

    Parameters
    ----------
    results : DataTree
        Results of `fadiag.analyze`, of several runs or of one.
    signal : str
        ``error``, ``modulator`` or another recorded signal.
    metric : str
        ``effective_rank``, ``participation_ratio``, ``effective_rank_energy`` or ``stable_rank``; with
        ``_centered`` behind it for the centered form. Or ``participation_ratio_debiased``.
    conditions : str or sequence of str, optional
        The conditions to draw, in order; by default all.
    layers : str or sequence of str, optional
        The layers to draw; by default all.
    step : int, optional
        The step; by default the last one that all drawn conditions have. `fadiag.figures.per_step` draws
        several.
    baseline : str, optional
        The condition to compare with; by default the only one whose rule is "bp". Without a baseline, a
        single condition is compared with the exact error of the same runs.
    null : str, optional
        ``gate``, ``redrawn`` or None.
    stream : str, optional
        The probe or live stream to read; by default the first that has the rank.
    ax : Axes, optional
        Where to draw; by default a new figure of the style's size.
    legend : bool
        Whether to update the figure's legend and small print.

    Returns
    -------
    Axes
        With its numbers, caption and small print: see `fadiag.figures.numbers`, `caption` and `small_print`.
        If the results lack the rank, the Axes hold the reason.

    Raises
    ------
    InputError
        There is no such signal, metric, condition, layer, step, stream or null.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = rank_by_depth(xr.DataTree(), ax=Figure().add_subplot())
    >>> ax.texts[0].get_text().startswith("Not drawn: the results hold no")
    True
    """
    measure = rank_measure(signal, metric, results)
    with panel(results, ax, conditions=conditions, baseline=baseline, stream=stream, legend=legend) as here:
        plot_by_depth(here, measure, layers=layers, step=step, null=null)
    return here.ax
