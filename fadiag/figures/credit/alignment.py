"""Draw how the weights align with their feedback over training."""

from collections.abc import Sequence

import xarray as xr
from matplotlib.axes import Axes

from fadiag.figures.base.figure_function import figure_function
from fadiag.figures.base.layers import output_layer
from fadiag.figures.base.measure import ALIGNMENT
from fadiag.figures.base.panel import panel
from fadiag.figures.strokes.plots import plot_over_training

__all__ = ["alignment_over_training"]


@figure_function
def alignment_over_training(
    results: xr.DataTree,
    *,
    conditions: str | Sequence[str] | None = None,
    layer: str | None = None,
    steps: tuple[int, int] | None = None,
    null: str | None = "independent",
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    r"""Draw the cosine of a layer's weight and feedback matrix over training, for every condition.

    Parameters
    ----------
    results, conditions, steps, ax, legend
        As in `rank_over_training`.
    layer : str, optional
        The layer; by default the output layer, whose feedback brings the credit to the last hidden layer.
    null : str, optional
        ``independent``, the cosine with a B that knows nothing of W, or None.

    Returns
    -------
    Axes
        With its numbers, caption and small print, or with the reason why nothing is drawn.

    Raises
    ------
    InputError
        There is no such condition, layer or null, or no step in the range.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = alignment_over_training(xr.DataTree(), ax=Figure().add_subplot())
    >>> "weight_feedback_cosine" in ax.texts[0].get_text().replace("\n", " ")
    True
    """
    with panel(results, ax, conditions=conditions, legend=legend) as here:
        layer = layer or output_layer(results) or None
        plot_over_training(here, ALIGNMENT, layer=layer, steps=steps, null=null, compared=False)
    return here.ax
