"""Draw a measure of all layers at all steps as colors."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from fadiag.errors import InputError, MissingSignalError
from fadiag.figures.base.axes import axes_size
from fadiag.figures.base.figure_function import figure_function
from fadiag.figures.base.layers import caption_layer, chosen_layers
from fadiag.figures.base.measure import ALIGNMENT, Measure, cosine_measure, overlap_measure, rank_measure
from fadiag.figures.base.panel import Panel, panel
from fadiag.figures.base.values import values_of
from fadiag.figures.look.text import shown, wrapped
from fadiag.figures.look.theme import label
from fadiag.figures.strokes.image import color_limits, image, name_sides
from fadiag.figures.strokes.plots import between
from fadiag.figures.words.sentences import finding, number
from fadiag.results import final_values
from fadiag.results.by_condition import of_condition
from fadiag.results.roles import roles
from fadiag.store.tools.printable import printable

__all__ = ["layer_step_heatmap"]


@figure_function
def layer_step_heatmap(
    results: xr.DataTree,
    *,
    signal: str = "error",
    metric: str = "effective_rank",
    condition: str | None = None,
    layers: str | Sequence[str] | None = None,
    steps: tuple[int, int] | None = None,
    limits: tuple[float, float] | None = None,
    stream: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    r"""Draw a measure of one condition in all layers (rows) at all recorded steps (columns) as colors.

    A color is the mean over seeds. Ranks are on a logarithmic scale. The scale spans all conditions of the
    results, so that panels of several conditions can be compared.

    Parameters
    ----------
    results, signal, stream, ax, legend
        As in `rank_by_depth`.
    metric : str
        A rank, as in `rank_by_depth`; ``cosine`` or ``overlap`` with the exact signal; or
        ``weight_feedback_cosine``.
    condition : str, optional
        The condition; needed if the results hold several. `fadiag.figures.per_condition` draws several.
    layers : str or sequence of str, optional
        The layers to draw; by default all.
    steps : (int, int), optional
        The first and the last step to draw.
    limits : (float, float), optional
        The ends of the color scale.

    Returns
    -------
    Axes
        With its numbers, caption and small print, or with the reason why nothing is drawn. It has a color
        bar.

    Raises
    ------
    InputError
        There is no such signal, metric, condition, layer or stream, no step in the range, no condition is
        chosen among several, or the limits are not increasing.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = layer_step_heatmap(xr.DataTree(), ax=Figure().add_subplot())
    >>> ax.texts[0].get_text().startswith("Not drawn: ")
    True
    """
    measure = _measure(results, signal, metric)
    if limits is not None and not limits[0] < limits[1]:
        raise InputError(f"limits={limits!r} are not increasing; give (lowest, highest)")
    if limits is not None and measure.log and not limits[0] > 0:
        raise InputError(f"limits={limits!r} of a logarithmic scale are not positive; give (lowest, highest)")
    chosen = _only(results) if condition is None else condition
    with panel(results, ax, conditions=[chosen] if chosen else [], stream=stream, legend=legend) as here:
        _plot(here, measure, layers, steps, limits)
    return here.ax


def _measure(results: xr.DataTree, signal: str, metric: str) -> Measure:
    if metric == ALIGNMENT.name:
        return ALIGNMENT
    if metric in ("cosine", "overlap"):
        return cosine_measure(signal) if metric == "cosine" else overlap_measure(signal)
    return rank_measure(signal, metric, results)


def _only(results: xr.DataTree) -> str:
    """Return the only condition; "" without any."""
    known = roles(results).conditions
    if len(known) > 1:
        names = ", ".join(map(printable, known))
        raise InputError(
            f"the results hold several conditions ({names}); name one: condition=..., or draw all of them: "
            "per_condition(layer_step_heatmap, results)"
        )
    return "".join(known)


def _plot(
    here: Panel,
    measure: Measure,
    layers: str | Sequence[str] | None,
    steps: tuple[int, int] | None,
    limits: tuple[float, float] | None,
) -> None:
    words = measure.words[:1].upper() + measure.words[1:]
    here.record.what = f"{words}, in all layers at all steps"
    if not here.arms.names:
        raise MissingSignalError("the results hold no runs")
    (condition,) = here.arms.names
    values = here.values(replace(measure, twin=""), "mean")
    held = [str(v) for v in values["layer"].values]
    values = values.sel(layer=chosen_layers(held, layers))
    values = values if steps is None else between(values, steps)
    mean = of_condition(values, condition).mean("seed").transpose("layer", "step")
    if not bool(mean.notnull().any()):
        raise MissingSignalError(f"no run of {label(condition)} has a value of the {measure.words}")
    everyone = values_of(here.results, measure, roles(here.results).conditions, values.attrs["stream"])
    # A step without a value in any condition is no record of this variable; other gaps are shown.
    recorded = everyone["step"].values[everyone.notnull().any(["condition", "seed", "layer"]).values]
    mean = mean.sel(step=np.intersect1d(mean["step"].values, recorded))
    ends = limits or color_limits(everyone.mean("seed").values, measure)
    image(here, mean.values, measure, ends)
    name_sides(here.ax, *([str(v) for v in mean[dim].values] for dim in ("layer", "step")))
    here.ax.set(xlabel="training step", ylabel="layer")
    here.ax.set_title(shown(wrapped(label(condition), axes_size(here.ax)[0], 8)))
    n = of_condition(values, condition).notnull().sum("seed").sel(step=mean["step"])
    _keep(here, mean, n.transpose("layer", "step"), condition, measure)
    _say(here, values, mean, condition)


def _keep(here: Panel, mean: xr.DataArray, n: xr.DataArray, condition: str, measure: Measure) -> None:
    base = {"kind": "mean", "variable": measure.name, "condition": condition}
    for i, j in np.argwhere(np.isfinite(mean.values)):
        at = {"layer": str(mean["layer"].values[i]), "step": int(mean["step"].values[j])}
        here.record.rows.append({**base, **at, "value": float(mean.values[i, j]), "n": int(n.values[i, j])})


def _say(here: Panel, values: xr.DataArray, mean: xr.DataArray, condition: str) -> None:
    layer = caption_layer(here.results, [str(v) for v in mean["layer"].values])
    at_end = final_values(values.sel({"condition": [condition]}))
    here.record.say(finding(at_end.sel(layer=layer), [condition], "", layer=printable(layer)))
    places = []
    for flat in (int(np.nanargmin(mean.values)), int(np.nanargmax(mean.values))):
        i, j = np.unravel_index(flat, mean.shape)
        at = f"{printable(str(mean['layer'].values[i]))}, step {int(mean['step'].values[j])}"
        places.append(f"{number(float(mean.values[i, j]))} ({at})")
    here.record.say(f"The mean of {label(condition)} over seeds lies between {places[0]} and {places[1]}")
