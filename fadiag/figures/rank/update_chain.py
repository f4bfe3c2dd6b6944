"""Draw the rank along the chain from the gradient to the applied update."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from fadiag.errors import MissingSignalError
from fadiag.figures.base.figure_function import figure_function
from fadiag.figures.base.layers import chosen_layers, primary_layer
from fadiag.figures.base.measure import Measure, interval_within, rank_measure
from fadiag.figures.base.panel import Panel, panel
from fadiag.figures.strokes.bounds import value_axis
from fadiag.figures.strokes.depth import layer_axis
from fadiag.figures.strokes.marks import explain, keep_means, keep_seeds, line, lone_dots
from fadiag.figures.words.sentences import each, when
from fadiag.figures.words.shared import placed
from fadiag.results.by_condition import of_condition
from fadiag.store.tools.printable import printable

__all__ = ["update_chain"]

#: The stages in order, and the name along the axis. The orthogonalized step is in no table of signals, so it
#: is drawn only where an own metric measured it.
_STAGES = {
    "gradient": "gradient",
    "momentum": "momentum",
    "orthogonalized": "orthogonalized",
    "update": "applied update",
}
_SPREAD = 0.4


@figure_function
def update_chain(
    results: xr.DataTree,
    *,
    metric: str = "effective_rank",
    layer: str | None = None,
    step: int | None = None,
    conditions: str | Sequence[str] | None = None,
    stream: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    r"""Draw the rank of gradient, momentum, orthogonalized step and applied update, for every condition.

    A stage without a value is left out. The orthogonalized step is drawn if the results hold
    ``orthogonalized_<metric>``, from an own metric.

    Parameters
    ----------
    results, conditions, ax, legend
        As in `rank_by_depth`.
    metric : str
        A raw rank, as in `rank_by_depth`: rows of a weight are no samples, so it is not centered.
    layer : str, optional
        The layer; by default the one that the study declared, else the one below the output.
    step : int, optional
        The step; by default the last one at which all drawn conditions have an update.
    stream : str, optional
        The stream of the state to read; by default the first that has the update.

    Returns
    -------
    Axes
        With its numbers, caption and small print, or with the reason why nothing is drawn.

    Raises
    ------
    InputError
        There is no such metric, layer, condition, step or stream.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = update_chain(xr.DataTree(), ax=Figure().add_subplot())
    >>> "update_effective_rank_raw" in ax.texts[0].get_text().replace("\n", " ")
    True
    """
    measure = replace(rank_measure("update", metric, results), roof=np.inf)
    with panel(results, ax, conditions=conditions, stream=stream, legend=legend) as here:
        _plot(here, measure, layer or primary_layer(results), step)
    return here.ax


def _plot(here: Panel, measure: Measure, layer: str, step: int | None) -> None:
    rank = measure.words.partition(" of the ")[0]
    here.record.what = f"{rank[:1].upper()}{rank[1:]}, raw, from the gradient to the applied update"
    updates = here.values(measure)
    layer = chosen_layers([str(v) for v in updates["layer"].values], layer)[0]
    here.record.place = printable(layer)
    last = here.at(updates.sel(layer=layer), step)
    if not bool(np.isfinite(last).any()):
        raise MissingSignalError(f"no run has an update at {layer}, at a step that all conditions share")
    stages = {"update": updates}
    for stage in _STAGES:
        name = measure.name.replace("update", stage, 1)
        found = updates if stage == "update" else here.companion(name, updates)
        if found is not None:
            stages[stage] = found.sel(layer=layer).reindex_like(last.drop_vars("step", errors="ignore"))
    names = [stage for stage in _STAGES if stage in stages]
    chain = xr.concat([stages[stage] for stage in names], "stage", combine_attrs="drop")
    chain = chain.assign_coords(stage=names).rename(measure.name).assign_attrs(updates.attrs)
    at_end = here.at(chain, int(last["step"]))
    absent = [_STAGES[stage] for stage in _STAGES if stage not in stages]
    here.record.note(f"Not recorded: {', '.join(absent)}." if absent else "")
    drawn = [arm for arm in here.drawn if here.has(at_end, arm.condition)]
    for place, arm in enumerate(drawn):
        runs = of_condition(at_end, arm.condition)
        over = interval_within(runs, measure)
        x = np.arange(len(names)) + (place / max(1, len(drawn) - 1) - 0.5) * _SPREAD * (len(drawn) > 1)
        known = np.isfinite(over.mean.values)
        explain(here, arm)
        here.add(here.ax.plot(x[known], over.mean.values[known], **line(arm))[0])
        here.ax.vlines(x, over.low, over.high, color=arm.look.color)
        for seed in runs["seed"].values if int(over.n.max()) > 1 else ():
            here.ax.plot(x + 0.3 * _SPREAD / len(drawn), runs.sel(seed=seed), **lone_dots(arm))
        at: dict[str, Any] = {"condition": arm.condition, "layer": layer, "step": int(at_end["step"])}
        for stage in names:
            of_stage = replace(measure, name=measure.name.replace("update", stage, 1))
            cell = runs.sel(stage=stage, drop=True)
            keep_means(here, interval_within(cell, measure), cell, of_stage, **at)
            keep_seeds(here, cell, of_stage, **at)
    layer_axis(here.ax, [_STAGES[stage] for stage in names])
    here.ax.set_xlabel("")
    value_axis(here, measure, at_end)
    _say(here, at_end, names)


def _say(here: Panel, at_end: xr.DataArray, names: Sequence[str]) -> None:
    said = [f"{_STAGES[stage]} {each(at_end.sel(stage=stage), here.arms.names)}" for stage in names]
    here.record.say(f"{placed(here.record.place, when(at_end))}{'; '.join(said)}")
    here.record.say_once(
        "An optimizer that orthogonalizes, such as Muon, makes every direction equally long. So the rank of "
        "its orthogonalized update is high by construction: a tautology and no finding."
    )
