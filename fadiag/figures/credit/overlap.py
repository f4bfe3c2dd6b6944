"""Draw how much of its leading subspace a signal shares with the exact one over training."""

from collections.abc import Sequence

import xarray as xr
from matplotlib.axes import Axes

from fadiag.figures.base.figure_function import figure_function
from fadiag.figures.base.measure import overlap_measure
from fadiag.figures.base.panel import panel
from fadiag.figures.strokes.plots import plot_over_training

__all__ = ["overlap_over_training"]


@figure_function
def overlap_over_training(
    results: xr.DataTree,
    *,
    signal: str = "error",
    conditions: str | Sequence[str] | None = None,
    layer: str | None = None,
    steps: tuple[int, int] | None = None,
    null: str | None = "redrawn",
    stream: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    r"""Draw the overlap of the leading directions of a signal and of its exact twin, for every condition.

    Parameters
    ----------
    results, conditions, layer, steps, stream, ax, legend
        As in `rank_over_training`.
    signal : str
        ``error`` or another signal with a twin.
    null : str, optional
        ``redrawn``, the same network with fresh feedback, or None.

    Returns
    -------
    Axes
        With its numbers, caption and small print, or with the reason why nothing is drawn.

    Raises
    ------
    InputError
        There is no such signal, condition, layer, stream or null, or no step in the range.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = overlap_over_training(xr.DataTree(), ax=Figure().add_subplot())
    >>> "error_overlap" in ax.texts[0].get_text().replace("\n", " ")
    True
    """
    with panel(results, ax, conditions=conditions, stream=stream, legend=legend) as here:
        measure = overlap_measure(signal)
        plot_over_training(here, measure, layer=layer, steps=steps, null=null, compared=False)
    return here.ax
