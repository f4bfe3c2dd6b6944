"""Draw the rank of a signal in one layer over training."""

from collections.abc import Sequence

import xarray as xr
from matplotlib.axes import Axes

from fadiag.figures.base.figure_function import figure_function
from fadiag.figures.base.measure import rank_measure
from fadiag.figures.base.panel import panel
from fadiag.figures.strokes.plots import plot_over_training

__all__ = ["rank_over_training"]


@figure_function
def rank_over_training(
    results: xr.DataTree,
    *,
    signal: str = "error",
    metric: str = "effective_rank",
    conditions: str | Sequence[str] | None = None,
    layer: str | None = None,
    steps: tuple[int, int] | None = None,
    baseline: str | None = None,
    null: str | None = "gate",
    stream: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    r"""Draw the rank of a signal in one layer over training, for every condition.

    Parameters
    ----------
    results, signal, metric, conditions, baseline, null, stream, ax, legend
        As in `rank_by_depth`.
    layer : str, optional
        The layer; by default the one that the study declared, else the one below the output.
        `fadiag.figures.per_layer` draws several.
    steps : (int, int), optional
        The first and the last step to draw.

    Returns
    -------
    Axes
        With its numbers, caption and small print, or with the reason why nothing is drawn.

    Raises
    ------
    InputError
        There is no such signal, metric, condition, layer, stream or null, or no step in the range.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = rank_over_training(xr.DataTree(), signal="modulator", ax=Figure().add_subplot())
    >>> "modulator_effective_rank_raw" in ax.texts[0].get_text().replace("\n", " ")
    True
    """
    measure = rank_measure(signal, metric, results)
    with panel(results, ax, conditions=conditions, baseline=baseline, stream=stream, legend=legend) as here:
        plot_over_training(here, measure, layer=layer, steps=steps, null=null)
    return here.ax
