"""Draw the cosine, or the angle, of a signal with the exact one."""

from collections.abc import Sequence

import xarray as xr
from matplotlib.axes import Axes

from fadiag.errors import InputError
from fadiag.figures.base.figure_function import figure_function, one_layer
from fadiag.figures.base.measure import cosine_measure
from fadiag.figures.base.panel import panel
from fadiag.figures.strokes.plots import plot_by_depth, plot_over_training

__all__ = ["credit_cosine"]


@figure_function
def credit_cosine(
    results: xr.DataTree,
    *,
    signal: str = "error",
    degrees: bool = False,
    over: str = "depth",
    conditions: str | Sequence[str] | None = None,
    layers: str | Sequence[str] | None = None,
    layer: str | None = None,
    step: int | None = None,
    steps: tuple[int, int] | None = None,
    null: str | None = "redrawn",
    stream: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    r"""Draw the cosine of a signal with its exact twin, such as error with error_bp, for every condition.

    Parameters
    ----------
    results, conditions, stream, ax, legend
        As in `rank_by_depth`.
    signal : str
        ``error``, ``modulator`` or ``gradient``.
    degrees : bool
        Whether to draw the angle, the arc cosine of each run's mean cosine.
    over : str
        ``depth``, all layers at one step, or ``training``, one layer at all steps.
    layers, step
        With ``over="depth"``: as in `rank_by_depth`.
    layer, steps
        With ``over="training"``: as in `rank_over_training`.
    null : str, optional
        ``redrawn``, the same network with fresh feedback, or None.

    Returns
    -------
    Axes
        With its numbers, caption and small print, or with the reason why nothing is drawn.

    Raises
    ------
    InputError
        There is no such signal, condition, layer, step, stream or null.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = credit_cosine(xr.DataTree(), degrees=True, ax=Figure().add_subplot())
    >>> "error_cosine" in ax.texts[0].get_text().replace("\n", " ")
    True
    """
    if over not in ("depth", "training"):
        raise InputError(f"over={over!r} is neither 'depth' nor 'training'")
    measure = cosine_measure(signal, degrees=degrees)
    with panel(results, ax, conditions=conditions, stream=stream, legend=legend) as here:
        if over == "depth":
            # One layer is a choice of layers too.
            plot_by_depth(here, measure, layers=layers or layer, step=step, null=null, compared=False)
        else:
            plot_over_training(
                here, measure, layer=layer or one_layer(layers), steps=steps, null=null, compared=False
            )
    return here.ax
