"""Draw the accuracy, or another logged scalar, over training."""

from collections.abc import Sequence

import xarray as xr
from matplotlib.axes import Axes

from fadiag.figures.base.figure_function import figure_function
from fadiag.figures.base.measure import scalar_measure
from fadiag.figures.base.panel import panel
from fadiag.figures.strokes.plots import plot_over_training

__all__ = ["accuracy_over_training"]


@figure_function
def accuracy_over_training(
    results: xr.DataTree,
    *,
    metric: str = "test_accuracy",
    conditions: str | Sequence[str] | None = None,
    steps: tuple[int, int] | None = None,
    baseline: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    r"""Draw a logged scalar over training, for every condition.

    Parameters
    ----------
    results, conditions, steps, baseline, ax, legend
        As in `rank_over_training`.
    metric : str
        The logged scalar. A name that ends in ``accuracy`` is drawn in per cent, one that ends in ``loss`` on
        a logarithmic axis.

    Returns
    -------
    Axes
        With its numbers, caption and small print, or with the reason why nothing is drawn.

    Raises
    ------
    InputError
        There is no such metric or condition, or no step in the range.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = accuracy_over_training(xr.DataTree(), ax=Figure().add_subplot())
    >>> "test_accuracy" in ax.texts[0].get_text().replace("\n", " ")
    True
    """
    measure = scalar_measure(metric, results)
    with panel(results, ax, conditions=conditions, baseline=baseline, legend=legend) as here:
        plot_over_training(here, measure, layer=None, steps=steps, null=None)
    return here.ax
